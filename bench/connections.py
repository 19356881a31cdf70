"""Real connections: how many a second, how long they take, and what CPU they cost.

    cli: c0 ---- front :lb: back ---- s0 :srv        xdplb, nat
    cli: c1 ---- in    :lb: out  ---- s1 :srv        routed, nftables DNAT, HAProxy, nginx

`ab` opens a connection for each request, one web server behind all answers with a few bytes.
The least is `routed`: the same through the same namespaces, with no balancer at all. CPU is
that of the whole machine, client and server included, per connection.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

from bench.balancer import NAT, PORT, filled_balancer, own_namespaces, run_ip, vip
from bench.disturbance import read_usage
from bench.rounds import repeat
from bench.samples import Summary, summarise
from reconciler.errors import XdplbError
from reconciler.lab.namespaces import entered, run_tool
from reconciler.lab.process import end, start
from reconciler.lab.waiting import wait_until
from reconciler.model import Affinity, Backend, Config, Limits, Protocol, Service, XdpMode

_BACKENDS = 4
_CONCURRENCY = 16
_SERVER_PORT = 8080
_FAST, _SLOW = "198.18.17", "198.18.19"  # networks of s0 and s1
_NFT_VIP, _HAPROXY_VIP, _NGINX_VIP = (IPv4Address(f"198.18.0.{n}") for n in (40, 41, 42))
_NEEDS = {"ab": "apache2-utils", "nginx": "nginx-core, libnginx-mod-stream"}


@dataclass(frozen=True)
class Contender:
    """Where clients connect to."""

    name: str
    address: IPv4Address
    port: int = PORT


@dataclass
class Measured:
    """By round: connections a second, milliseconds, microseconds of CPU a connection."""

    per_second: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)

    def summarise(self) -> dict[str, Summary]:
        """Each of them."""
        return {name: summarise(values) for name, values in vars(self).items()}


def list_missing() -> list[str]:
    """What has to be installed before anything can be measured."""
    return [f"{tool} ({package})" for tool, package in _NEEDS.items() if not shutil.which(tool)]


def list_contenders() -> tuple[list[Contender], dict[str, str]]:
    """Who takes part, and who does not, with the reason."""
    everybody = [
        Contender("routed, no balancer", IPv4Address(f"{_SLOW}.10"), _SERVER_PORT),
        Contender("xdplb nat", IPv4Address(int(vip(NAT)))),
        Contender("nftables DNAT", _NFT_VIP),
        Contender("nginx stream", _NGINX_VIP),
    ]
    skipped = {}
    if shutil.which("haproxy"):
        everybody.append(Contender("HAProxy, mode tcp", _HAPROXY_VIP))
    else:
        skipped["HAProxy, mode tcp"] = "haproxy is not installed"
    return everybody, skipped


def _make_config() -> Config:
    backends = tuple(
        Backend(f"b{number}", IPv4Address(f"{_FAST}.{10 + number}"), _SERVER_PORT)
        for number in range(_BACKENDS)
    )
    address = IPv4Address(int(vip(NAT)))
    service = Service("web", address, PORT, Protocol.TCP, NAT, Affinity.FLOW, 4093, 60.0, backends)
    limits = Limits(64, 4096, 65_536, 65_536)
    return Config("bench", ("front", "back"), XdpMode.NATIVE, 0x5EED, (service,), limits=limits)


# --- the network ---

_LINKS = (
    # device in lb, its address, the other namespace, its device, its addresses
    ("front", "198.18.16.1", "cli", "c0", ["198.18.16.2"]),
    ("back", f"{_FAST}.1", "srv", "s0", [f"{_FAST}.{10 + n}" for n in range(_BACKENDS)]),
    ("in", "198.18.18.1", "cli", "c1", ["198.18.18.2"]),
    ("out", f"{_SLOW}.1", "srv", "s1", [f"{_SLOW}.{10 + n}" for n in range(_BACKENDS)]),
)


def _build(namespaces: dict[str, str]) -> None:
    lb = namespaces["lb"]
    for device, _, other, end_, _ in _LINKS:
        run_ip(lb, [f"link add {device} type veth peer name {end_} netns {namespaces[other]}"])
    for device, address, other, end_, addresses in _LINKS:
        run_ip(
            lb, ["link set lo up", f"addr add {address}/24 dev {device}", f"link set {device} up"]
        )
        lines = [f"addr add {each}/24 dev {end_}" for each in addresses]
        run_ip(namespaces[other], ["link set lo up", f"link set {end_} up", *lines])
        with entered(namespaces[other]):
            # What XDP redirects loses the mark of a partial checksum; and a veth takes
            # frames from XDP only if its receiver has NAPI.
            run_tool(["ethtool", "-K", end_, "tx", "off", "gro", "on"])
    run_ip(namespaces["cli"], ["route add 198.18.0.0/24 via 198.18.18.1"])
    run_ip(namespaces["cli"], [f"route add {vip(NAT)}/32 via 198.18.16.1"])
    run_ip(namespaces["cli"], [f"route add {_SLOW}.0/24 via 198.18.18.1"])
    run_ip(namespaces["srv"], [f"route add 198.18.16.0/24 via {_FAST}.1"])
    run_ip(namespaces["srv"], [f"route add 198.18.18.0/24 via {_SLOW}.1"])
    run_ip(lb, [f"addr add {address}/32 dev lo" for address in (_HAPROXY_VIP, _NGINX_VIP)])
    with entered(lb):
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="ascii")


_RULES = """
table ip bench {{
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    ip daddr {vip} tcp dport {port} dnat ip to numgen inc mod {count} map {{ {backends} }}
  }}
}}
"""

_SERVER = """
worker_processes 1;
pid {folder}/server.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  server {{ listen {port} backlog=1024; return 200 "ok\\n"; }}
}}
"""

_STREAM = """
load_module {module};
worker_processes 1;
pid {folder}/stream.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
stream {{
  upstream web {{ {servers} }}
  server {{ listen {vip}:{port} backlog=1024; proxy_pass web; }}
}}
"""

_HAPROXY = """
global
  nbthread 1
defaults
  mode tcp
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend web
  bind {vip}:{port} backlog 1024
  default_backend servers
backend servers
  balance roundrobin
{servers}
"""

_STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


def _run_in(namespace: str, command: Sequence[str]) -> subprocess.Popen[str]:
    return start(["ip", "netns", "exec", namespace, *command], stdout=subprocess.DEVNULL)


def _start_servers(stack: ExitStack, namespaces: dict[str, str], folder: Path) -> None:
    servers = [f"{_SLOW}.{10 + number}:{_SERVER_PORT}" for number in range(_BACKENDS)]
    places = ", ".join(
        f"{number} : {server.replace(':', ' . ')}" for number, server in enumerate(servers)
    )
    lb = namespaces["lb"]
    rules = _RULES.format(vip=_NFT_VIP, port=PORT, count=_BACKENDS, backends=places)
    run_tool(["ip", "netns", "exec", lb, "nft", "-f", "-"], rules)
    texts = {
        "server": _SERVER.format(folder=folder, port=_SERVER_PORT),
        "stream": _STREAM.format(
            module=_STREAM_MODULE,
            folder=folder,
            servers=" ".join(f"server {server};" for server in servers),
            vip=_NGINX_VIP,
            port=PORT,
        ),
        "haproxy": _HAPROXY.format(
            vip=_HAPROXY_VIP,
            port=PORT,
            servers="\n".join(f"  server s{n} {server}" for n, server in enumerate(servers)),
        ),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="ascii")
    nginx = ["nginx", "-p", str(folder), "-g", "daemon off;", "-c"]
    running = [
        _run_in(namespaces["srv"], [*nginx, str(folder / "server")]),
        _run_in(lb, [*nginx, str(folder / "stream")]),
    ]
    stack.callback(lambda: end(running))
    if shutil.which("haproxy"):
        running.append(_run_in(lb, ["haproxy", "-db", "-f", str(folder / "haproxy")]))


@contextmanager
def _running_network() -> Iterator[str]:
    """Everything; yields the clients' namespace."""
    with ExitStack() as stack:
        names = ("cli", "lb", "srv")
        namespaces = dict(zip(names, stack.enter_context(own_namespaces(*names)), strict=True))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="xdplb-bench-")))
        _build(namespaces)
        stack.enter_context(filled_balancer(namespaces["lb"], _make_config()))
        _start_servers(stack, namespaces, folder)
        yield namespaces["cli"]


# --- measuring ---


def _load(client: str, contender: Contender, connections: int, folder: Path) -> dict[int, float]:
    """Connect so often; return milliseconds by percentile.

    Raises:
        XdplbError: some connection failed.
    """
    table = folder / "percentiles.csv"
    url = f"http://{contender.address}:{contender.port}/"
    command = ["ip", "netns", "exec", client, "ab", "-q", "-r", "-s", "5", "-e", str(table)]
    said = run_tool([*command, "-n", str(connections), "-c", str(_CONCURRENCY), url])
    failed = next(line for line in said.splitlines() if line.startswith("Failed requests:"))
    if int(failed.split(":")[1]) or "Non-2xx" in said:
        raise XdplbError(f"{contender.name}: {failed}")
    with table.open(encoding="ascii") as rows:
        return {int(row[0]): float(row[1]) for row in list(csv.reader(rows))[1:]}


def measure(
    *, rounds: int, connections: int, progress: Callable[[str], None]
) -> tuple[dict[str, Measured], dict[str, str], str]:
    """Measure everybody in turns.

    Returns:
        figures by name; who was skipped, and why; how disturbed they are: what else the
        CPUs were busy with can't be told from the measurement, only what was stolen.

    Raises:
        XdplbError: a contender does not answer.
    """
    missing = list_missing()
    everybody, skipped = list_contenders()
    if not _STREAM_MODULE.exists():
        missing.append("nginx's stream module (libnginx-mod-stream)")
    if missing:
        return {}, {each.name: f"missing: {', '.join(missing)}" for each in everybody}, ""
    with _running_network() as client, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for each in everybody:
            wait_until(partial(_answers, client, each, folder), f"{each.name} answers")

        def measure_round() -> dict[str, Measured]:
            return {e.name: _measure_one(client, e, connections, folder) for e in everybody}

        measured = repeat(
            measure_round, rounds=rounds, own_cpus=os.sched_getaffinity(0), progress=progress
        )
    found = {each.name: Measured() for each in everybody}
    for result in measured.results:
        for name_, one in result.items():
            for field_, values in vars(one).items():
                getattr(found[name_], field_).extend(values)
    return found, skipped, measured.describe()


def _answers(client: str, contender: Contender, folder: Path) -> bool:
    try:
        _load(client, contender, _CONCURRENCY, folder)
    except XdplbError:
        return False
    return True


def _measure_one(client: str, contender: Contender, connections: int, folder: Path) -> Measured:
    before, start_s = read_usage(), time.monotonic()
    percentiles = _load(client, contender, connections, folder)
    elapsed_s = time.monotonic() - start_s
    busy_s = sum(read_usage().since(before).busy_s)
    return Measured(
        [connections / elapsed_s],
        [percentiles[50]],
        [percentiles[99]],
        [busy_s / connections * 1e6],
    )
