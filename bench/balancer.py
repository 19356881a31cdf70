"""xdplb in a network namespace, filled by the controller's own code, to run packets through.

    clients --- gateway --- front  balancer
                            backends (neighbours on front)

Behind `front` there is nobody: BPF_PROG_TEST_RUN sends nothing.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from reconciler import netlink
from reconciler.abi import Verdict
from reconciler.dataplane.kernel import PROGRAM, KernelDataplane, read_program
from reconciler.desired import compile_tables
from reconciler.environment import Environment, InterfaceFacts
from reconciler.lab.namespaces import (
    add_namespaces,
    delete_namespaces,
    entered,
    make_tag,
    own_bpffs,
    read_ifindexes,
    run_tool,
)
from reconciler.model import (
    Affinity,
    Backend,
    Config,
    Forwarding,
    IPAddress,
    Limits,
    Protocol,
    Service,
    XdpMode,
)
from reconciler.plan import diff

# Far from the laboratories' own counters, which start at 0, and the tests'.
_counter = itertools.count(2000)

FRONT = "front"
MAC = "02:00:00:00:01:01"
GATEWAY_MAC = "02:00:00:00:01:fe"
OWN = {4: IPv4Address("198.18.0.1"), 6: IPv6Address("2001:db8::1")}
GATEWAY = {4: IPv4Address("198.18.0.2"), 6: IPv6Address("2001:db8::2")}
_FIRST_VIP = {4: IPv4Address("198.18.0.16"), 6: IPv6Address("2001:db8::16")}
_FIRST_BACKEND = {4: IPv4Address("198.18.4.0"), 6: IPv6Address("2001:db8::4:0")}
_PREFIX = {4: 16, 6: 64}
PORT, BACKEND_PORT = 80, 8080
FAMILIES = (4, 6)
NAT, L2DSR, IPIP, GUE = Forwarding.NAT, Forwarding.L2DSR, Forwarding.IPIP, Forwarding.GUE


def vip(forwarding: Forwarding, family: int = 4) -> IPAddress:
    """The VIP of the service with this forwarding mode."""
    return _FIRST_VIP[family] + int(forwarding)


def backend_address(number: int, family: int = 4) -> IPAddress:
    """The address of a backend."""
    return _FIRST_BACKEND[family] + number


def make_service(
    forwarding: Forwarding, family: int, backends: int, ring_size: int, first: int
) -> Service:
    """A TCP service; its backends are numbered from `first`."""
    return Service(
        f"{forwarding.name.lower()}-{family}",
        vip(forwarding, family),
        PORT,
        Protocol.TCP,
        forwarding,
        Affinity.FLOW,
        ring_size,
        60.0,
        tuple(
            Backend(f"b{number:06}", backend_address(number, family), BACKEND_PORT)
            for number in range(first, first + backends)
        ),
    )


def make_config(
    modes: tuple[Forwarding, ...],
    *,
    backends: int = 100,
    ring_size: int = 65_537,
    interfaces: tuple[str, ...] = (FRONT,),
) -> Config:
    """A service of each mode and family."""
    cases = [(mode, family) for mode in modes for family in FAMILIES]
    services = tuple(
        make_service(mode, family, backends, ring_size, number * backends)
        for number, (mode, family) in enumerate(cases)
    )
    ordered = tuple(sorted(services, key=lambda service: service.name))
    limits = Limits(64, max(4096, backends * len(cases)), 4_194_304, 65_536)
    return Config("bench", interfaces, XdpMode.NATIVE, 0x5EED, ordered, limits=limits)


class Balancer:
    """A loaded program and its maps."""

    def __init__(self, namespace: str, folder: Path) -> None:
        self.namespace = namespace
        self.dataplane = KernelDataplane(folder)
        self.libbpf = self.dataplane.libbpf
        self.ifindexes = read_ifindexes(namespace)
        self.program_fd = -1
        self._own = ExitStack()

    def close(self) -> None:
        """Let go of everything."""
        self._own.close()
        self.dataplane.close()
        self.dataplane.pins.remove_contents()

    def apply(self, config: Config) -> None:
        """Fill the maps as the controller would."""
        addresses = tuple(OWN[family] for family in FAMILIES)
        facts = {
            name: InterfaceFacts(self.ifindexes[name], addresses, transmits=True, redirects=True)
            for name in config.interfaces
        }
        ticks = netlink.read_ticks_per_second()
        environment = Environment(facts, ticks, read_program()[1])
        with entered(self.namespace):
            self.dataplane.create(config.limits)
            observed = self.dataplane.read()
            desired = compile_tables(config, environment, observed, now_ns=time.monotonic_ns())
            for operation in diff(desired, observed):
                self.dataplane.write(operation)
        self.load()

    def load(self) -> None:
        """Load the program anew, on the maps that are there: it lies elsewhere in memory then."""
        self._own.close()
        handle = self._own.enter_context(self.dataplane.loaded_object(read_program()[0]))
        self.program_fd = self.libbpf.program_fd(handle, PROGRAM)
        for _, _, path in self.dataplane.pins.find_links():
            link = self.libbpf.get(str(path))
            self.libbpf.update_link(link, self.program_fd)
            os.close(link)

    def read_verdicts(self) -> dict[Verdict, int]:
        """How many packets got each verdict so far."""
        counts = self.dataplane.read_counters("verdicts")
        return {verdict: int(counts[verdict]) for verdict in Verdict}


def _neighbour_mac(number: int) -> str:
    return f"02:01:{number.to_bytes(4, 'big').hex(':')}"


def _build_network(namespace: str, config: Config) -> None:
    add = f"link add {FRONT} address {MAC} type veth peer name {FRONT}-peer"
    run_tool(["ip", "-n", namespace, *add.split()])
    with entered(namespace):
        for name, value in (
            # What the peer said of itself would arrive here, and be counted.
            (f"ipv6/conf/{FRONT}-peer/disable_ipv6", 1),
            ("ipv6/conf/all/forwarding", 1),
            ("ipv4/ip_forward", 1),
        ):
            Path("/proc/sys/net", name).write_text(str(value), encoding="ascii")
    lines = [
        "link set lo up",
        f"link set {FRONT} addrgenmode none",
        f"link set {FRONT}-peer up",
        f"link set {FRONT} up",
    ]
    for family in FAMILIES:
        own = f"{OWN[family]}/{_PREFIX[family]}"
        lines.append(f"addr add {own} dev {FRONT}{' nodad' if family == 6 else ''}")
        gateway = GATEWAY[family]
        lines.append(f"neigh add {gateway} lladdr {GATEWAY_MAC} dev {FRONT} nud permanent")
        everybody = "::/0" if family == 6 else "0.0.0.0/0"
        lines.append(f"route add {everybody} via {gateway} dev {FRONT}")
    run_ip(namespace, lines + list_neighbours(config, FRONT))


@contextmanager
def filled_balancer(namespace: str, config: Config) -> Iterator[Balancer]:
    """A balancer in a namespace that is there, until the block ends."""
    with own_bpffs("xdplb-bench") as root:
        balancer = Balancer(namespace, root / "bench")
        balancer.dataplane.pins.folder.mkdir()
        try:
            balancer.apply(config)
            yield balancer
        finally:
            balancer.close()


@contextmanager
def own_namespaces(*names: str) -> Iterator[tuple[str, ...]]:
    """Network namespaces that nobody else has, until the block ends."""
    tag = make_tag(next(_counter), kept=False)
    namespaces = tuple(f"{tag}-{name}" for name in names)
    add_namespaces(namespaces)
    try:
        yield namespaces
    finally:
        delete_namespaces(tag)


@contextmanager
def running_balancer(config: Config) -> Iterator[Balancer]:
    """A balancer in a network of its own, until the block ends."""
    with own_namespaces("bench") as (namespace,):
        _build_network(namespace, config)
        with filled_balancer(namespace, config) as balancer:
            yield balancer


def list_neighbours(config: Config, device: str) -> list[str]:
    """`ip` commands that make all backends neighbours that never change."""
    backends = [backend for service in config.services for backend in service.backends]
    return [
        f"neigh add {backend.address} lladdr {_neighbour_mac(number)} dev {device} nud permanent"
        for number, backend in enumerate(backends)
    ]


def run_ip(namespace: str, lines: list[str]) -> None:
    """Run `ip` commands in a namespace."""
    run_tool(["ip", "-n", namespace, "-batch", "-"], "".join(f"{line}\n" for line in lines))
