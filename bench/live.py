"""Packets per second over veth, by live frames, on one core.

    gen: g0 ---- front :lb: back ---- b0 :far        xdplb
    gen: g1 ---- in    :lb: out  ---- b1 :far        the kernel's own forwarding, nftables
    gen: g2 ---------- :lb: -------- b2 :far         a bare redirect, the floor

The generator redirects frames into a veth; the program under test runs when they arrive at
its other end, and what it sends is counted behind `back`. All of that is one core's work, so
the rate is that of the whole way; a contender's share is its rate by that of a bare redirect
in the same round.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from scapy.packet import Packet

from bench.balancer import (
    BACKEND_PORT,
    IPIP,
    L2DSR,
    MAC,
    NAT,
    OWN,
    PORT,
    Balancer,
    backend_address,
    filled_balancer,
    list_neighbours,
    make_config,
    own_namespaces,
    run_ip,
    vip,
)
from bench.objects import Loaded, compile_program, loaded
from bench.packets import MANY, MOST, SYNS, Flows, encode_course, to_address
from bench.rounds import on_one_cpu, repeat
from bench.samples import Summary, summarise
from bench.yardstick import own_yardstick
from reconciler.dataplane.libbpf import XDP_FLAGS_DRV_MODE
from reconciler.dataplane.program_run import ProgramRun
from reconciler.lab.namespaces import entered, read_ifindexes, run_tool

_BATCH = 64
_FORWARDED = backend_address(0)
_SETTLED_S, _PATIENCE_S = 0.02, 2.0


@dataclass(frozen=True)
class Contender:
    """What stands in the middle, and what it gets. `stack`: its packets take the lower way."""

    name: str
    packet: Packet
    flows: Flows
    is_floor: bool = False
    stack: str = ""


@dataclass
class Measured:
    """A contender's figures, by round; `share` is of the same round's bare redirect."""

    per_second: list[float] = field(default_factory=list)
    share: list[float] = field(default_factory=list)
    sent: int = 0
    lost: int = 0

    def summarise(self) -> tuple[Summary, Summary]:
        """The rate, and the share."""
        return summarise(self.per_second), summarise(self.share)


def list_contenders() -> list[Contender]:
    """Everybody, the floors first."""
    modes = {"l2dsr": L2DSR, "ipip": IPIP, "nat": NAT}
    floors = [
        Contender("bare redirect", to_address(4, vip(L2DSR)), MOST, is_floor=True),
        Contender("bare redirect, SYN flood", to_address(4, vip(L2DSR)), SYNS, is_floor=True),
    ]
    ours = [
        Contender(f"xdplb {name}{suffix}", to_address(4, vip(mode)), flows)
        for flows, suffix in ((MOST, ""), (SYNS, ", SYN flood"))
        for name, mode in modes.items()
    ]
    stack = [
        Contender("kernel forwarding", to_address(4, _FORWARDED), MOST, stack="route"),
        Contender("nftables DNAT", to_address(4, vip(NAT)), MANY, stack="nft"),
        Contender("nftables DNAT, SYN flood", to_address(4, vip(NAT)), SYNS, stack="nft"),
    ]
    return [*floors, *ours, *stack]


class Range:
    """The network, the generator and the sinks."""

    def __init__(self, balancer: Balancer, objects: Loaded, gen: str, lb: str, far: str) -> None:
        self.balancer, self.objects = balancer, objects
        self.gen, self.lb, self.far = gen, lb, far
        self._ifindexes = {ns: read_ifindexes(ns) for ns in (gen, lb, far)}
        self._links: dict[str, int] = {}

    def prepare(self) -> None:
        """Attach the sinks; xdplb itself is attached already."""
        for namespace, device in ((self.gen, "g0"), (self.far, "b0")):
            self._attach(namespace, device, self.objects.program("count"))
        self._write_way(1, self._ifindexes[self.lb]["floor_out"])
        self._attach(self.lb, "floor_in", self.objects.program("redirect"))
        for namespace, device in ((self.gen, "g2"), (self.far, "b2")):
            self._attach(namespace, device, self.objects.program("count"))

    def _attach(self, namespace: str, device: str, program_fd: int) -> None:
        with entered(namespace):
            ifindex = self._ifindexes[namespace][device]
            link = self.balancer.libbpf.create_link(program_fd, ifindex, XDP_FLAGS_DRV_MODE)
        self._links[device] = link

    def close(self) -> None:
        """Take the programs off."""
        for link in self._links.values():
            os.close(link)

    def _write_way(self, which: int, ifindex: int) -> None:
        self.objects.write("ways", ifindex.to_bytes(4, "little"), which)

    def run(self, contender: Contender, packets: int) -> tuple[int, float]:
        """Send packets; return how many arrived, and the seconds that sending took."""
        entry = "g2" if contender.is_floor else "g1" if contender.stack else "g0"
        self._write_way(0, self._ifindexes[self.gen][entry])
        frame, course = encode_course(contender.packet, contender.flows)
        self.objects.write("courses", course)
        before = self._count(contender)
        elapsed_s = self._send(frame, entry, packets)
        return self._await_end(contender) - before, elapsed_s

    def _send(self, frame: bytes, entry: str, packets: int) -> float:
        libbpf, program_fd = self.balancer.libbpf, self.objects.program("generate")
        ifindex = self._ifindexes[self.gen][entry]
        run = ProgramRun(
            libbpf, program_fd, len(frame), ifindex=ifindex, repeat=packets, live_batch=_BATCH
        )
        with entered(self.gen):
            start_s = time.perf_counter()
            run.run(frame)
            return time.perf_counter() - start_s

    def _count(self, contender: Contender) -> int:
        if contender.stack:
            path = "/sys/class/net/b1/statistics/rx_packets"
            return int(run_tool(["ip", "netns", "exec", self.far, "cat", path]))
        cpus = self.balancer.libbpf.count_cpus()
        return int(np.frombuffer(self.objects.read("arrived", 8 * cpus), np.uint64).sum())

    def _await_end(self, contender: Contender) -> int:
        """The count when it has stood still for a while."""
        deadline_s = time.monotonic() + _PATIENCE_S
        count = self._count(contender)
        while time.monotonic() < deadline_s:
            time.sleep(_SETTLED_S)
            now = self._count(contender)
            if now == count:
                break
            count = now
        return count


# --- the network ---

# Device in gen, the two of lb, device in far.
_WAYS = (
    ("g0", "front", "back", "b0"),
    ("g1", "in", "out", "b1"),
    ("g2", "floor_in", "floor_out", "b2"),
)


def _build(gen: str, lb: str, far: str) -> None:
    for near, inside, outside, end in _WAYS:
        run_ip(
            lb,
            [
                f"link add {inside} address {MAC} type veth peer name {near} netns {gen}",
                f"link add {outside} type veth peer name {end} netns {far}",
            ],
        )
    for namespace, devices in (
        (gen, [way[0] for way in _WAYS]),
        (lb, [device for way in _WAYS for device in way[1:3]]),
        (far, [way[3] for way in _WAYS]),
    ):
        with entered(namespace):
            # Nobody shall say anything of themselves: it would be counted.
            for name in ("all", "default", *devices):
                path = Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6")
                path.write_text("1", encoding="ascii")
        run_ip(namespace, ["link set lo up", *(f"link set {device} up" for device in devices)])
    with entered(lb):
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="ascii")
        for device in ("all", "in"):
            path = Path(f"/proc/sys/net/ipv4/conf/{device}/rp_filter")
            path.write_text("0", encoding="ascii")
        # A veth takes frames from XDP only if its receiver has NAPI: a program, or GRO.
        run_tool(["ethtool", "-K", "in", "gro", "on"])


def _list_addresses(device: str, table: str) -> list[str]:
    return [
        f"addr add {OWN[4]}/16 dev {device} noprefixroute",
        f"route add 198.18.0.0/16 dev {device} table {table}",
    ]


_RULES = """
table ip bench {{
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    iifname "in" ip daddr {vip} tcp dport {port} dnat ip to jhash ip saddr . tcp sport \
mod {count} map {{ {backends} }}
  }}
}}
"""
_DROP = """
table netdev bench {
  chain ingress { type filter hook ingress device "b1" priority 0; counter drop; }
}
"""


def _write_rules(lb: str, far: str, backends: int) -> None:
    places = ", ".join(
        f"{number} : {backend_address(number)} . {BACKEND_PORT}" for number in range(backends)
    )
    rules = _RULES.format(vip=vip(NAT), port=PORT, count=backends, backends=places)
    run_tool(["ip", "netns", "exec", lb, "nft", "-f", "-"], rules)
    run_tool(["ip", "netns", "exec", far, "nft", "-f", "-"], _DROP)


@contextmanager
def running_range() -> Iterator[Range]:
    """Everything, until the block ends."""
    config = make_config((NAT, L2DSR, IPIP), interfaces=("front", "back"))
    with ExitStack() as stack:
        gen, lb, far = stack.enter_context(own_namespaces("gen", "lb", "far"))
        _build(gen, lb, far)
        ipv4_only = [line for line in list_neighbours(config, "back") if ":" not in line.split()[2]]
        same = [line.replace("dev back", "dev out") for line in ipv4_only]
        lines = [
            *_list_addresses("back", "main"),
            *_list_addresses("out", "100"),
            "rule add iif in lookup 100",
        ]
        run_ip(lb, lines + ipv4_only + same)
        _write_rules(lb, far, 100)
        balancer = stack.enter_context(filled_balancer(lb, config))
        objects = stack.enter_context(loaded(balancer.libbpf, compile_program("live")))
        shooting = Range(balancer, objects, gen, lb, far)
        stack.callback(shooting.close)
        shooting.prepare()
        yield shooting


def measure(
    *, rounds: int, packets: int, progress: Callable[[str], None]
) -> tuple[dict[str, Measured], str]:
    """Measure everybody in turns.

    Returns:
        figures by a contender's name; how disturbed they are.
    """
    everybody = list_contenders()
    found = {each.name: Measured() for each in everybody}
    with (
        on_one_cpu() as cpu,
        running_range() as shooting,
        own_yardstick(shooting.balancer.libbpf) as yardstick,
    ):

        def measure_round() -> dict[str, float]:
            shooting.balancer.load()
            return {
                each.name: yardstick.measure(
                    partial(_time_packet_s, shooting, each, packets, found[each.name])
                )
                for each in everybody
            }

        measured = repeat(measure_round, rounds=rounds, own_cpus={cpu}, progress=progress)
    for times_s in measured.results:
        for each in everybody:
            floor = everybody[1 if each.flows is SYNS else 0].name
            found[each.name].per_second.append(1 / times_s[each.name])
            found[each.name].share.append(times_s[floor] / times_s[each.name])
    return found, f"{measured.describe()}; {yardstick}"


def _time_packet_s(shooting: Range, contender: Contender, packets: int, found: Measured) -> float:
    """Seconds for a packet that arrives; what is lost counts in every batch."""
    # What goes through the stack takes ten times as long.
    sent = packets // 8 if contender.stack else packets
    arrived, elapsed_s = shooting.run(contender, sent)
    found.sent += sent
    found.lost += sent - arrived
    return elapsed_s / arrived
