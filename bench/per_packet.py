"""What the program takes for a packet, in nanoseconds, by BPF_PROG_TEST_RUN.

Contenders take turns, round by round; each round has its own floor for every number of
flows. `programs/drive.bpf.c` gives each a fresh packet of the next flow. Every round loads
all programs anew: where one happens to lie in memory makes it up to 20 ns slower.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from scapy.packet import Packet

from bench.balancer import (
    BACKEND_PORT,
    FRONT,
    GUE,
    IPIP,
    L2DSR,
    NAT,
    Balancer,
    backend_address,
    make_config,
    running_balancer,
    vip,
)
from bench.objects import Loaded, compile_program, loaded
from bench.packets import (
    ALL_FLOWS,
    CLIENT_PORT,
    CLIENTS,
    COURSE_SIZE,
    Flows,
    encode_course,
    make_packet,
    read_count,
    to_address,
)
from bench.rounds import on_one_cpu, repeat
from bench.samples import Summary, summarise
from bench.yardstick import Yardstick, own_yardstick
from reconciler.abi import Verdict
from reconciler.dataplane.libbpf import Libbpf
from reconciler.dataplane.program_run import ProgramRun
from reconciler.lab.namespaces import entered
from reconciler.model import Forwarding

_STRANGER = {4: "198.18.9.9", 6: "2001:db8::9:9"}
_XDP_PASS, _XDP_TX = 2, 3
_WINDOW, _MARKS = 1024, 1024  # programs/drive.bpf.c


@dataclass(frozen=True)
class Contender:
    """A program under test, and the packets that it gets."""

    name: str
    balancer: Balancer | None
    packet: Packet
    verdict: Verdict | None
    is_reply: bool = False
    family: int = 4
    flows: tuple[Flows, ...] = ALL_FLOWS

    @property
    def action(self) -> int:
        """What the program returns."""
        return _XDP_PASS if self.verdict is Verdict.PASS_OTHER else _XDP_TX


@dataclass
class Measured:
    """A contender's figures: nanoseconds raw, and above the round's floor."""

    raw_ns: list[float] = field(default_factory=list)
    above_ns: list[float] = field(default_factory=list)

    def summarise(self) -> tuple[Summary, Summary]:
        """Raw, and above the floor."""
        return summarise(self.raw_ns), summarise(self.above_ns)


def _list_contenders(direct: Balancer, full: Balancer) -> list[Contender]:
    def forward(name: str, mode: Forwarding, balancer: Balancer, family: int = 4) -> Contender:
        packet = to_address(family, vip(mode, family))
        return Contender(name, balancer, packet, Verdict.FORWARD_TRANSMIT, family=family)

    def stranger(name: str, balancer: Balancer, family: int = 4) -> Contender:
        packet = to_address(family, _STRANGER[family])
        return Contender(name, balancer, packet, Verdict.PASS_OTHER, family=family)

    def floor(family: int, is_reply: bool = False) -> Contender:
        name = f"floor, IPv{family}{', reply' if is_reply else ''}"
        packet = reply(family).packet if is_reply else to_address(family, vip(L2DSR, family))
        return Contender(name, None, packet, None, is_reply, family)

    def reply(family: int) -> Contender:
        number = 0 if family == 4 else 100
        packet = make_packet(
            family, backend_address(number, family), CLIENTS[family], BACKEND_PORT, CLIENT_PORT
        )
        name = "nat, reply" if family == 4 else "nat, reply, IPv6"
        return Contender(name, full, packet, Verdict.REPLY_TRANSMIT, True, family)

    return [
        floor(4),
        floor(4, is_reply=True),
        forward("l2dsr", L2DSR, direct),
        forward("ipip", IPIP, direct),
        forward("gue", GUE, direct),
        forward("nat, in", NAT, full),
        reply(4),
        stranger("not ours", direct),
        stranger("not ours, nat on", full),
        floor(6),
        floor(6, is_reply=True),
        forward("l2dsr, IPv6", L2DSR, direct, 6),
        forward("ipip, IPv6", IPIP, direct, 6),
        forward("gue, IPv6", GUE, direct, 6),
        forward("nat, in, IPv6", NAT, full, 6),
        reply(6),
        stranger("not ours, IPv6", direct, 6),
        stranger("not ours, nat on, IPv6", full, 6),
    ]


class Driver:
    """Runs programs through `drive`, a batch at a time; the floor in some balancer's place."""

    def __init__(self, balancer: Balancer, objects: Loaded, yardstick: Yardstick) -> None:
        self._objects = objects
        self._balancer = balancer
        self._yardstick = yardstick
        self._drive = {family: objects.program(f"drive_ipv{family}") for family in (4, 6)}

    def run(self, contender: Contender, flows: Flows, packets: int) -> float:
        """Return the mean time that a packet took, in nanoseconds, the driver's part included.

        Raises:
            AssertionError: the program did something else than the contender says.
        """
        self._prepare(contender, flows)
        self._repeat(contender, packets)  # a steady state: what is remembered is there
        return self._yardstick.measure(lambda: self._run_batch(contender, packets))

    def _run_batch(self, contender: Contender, packets: int) -> float:
        before = contender.balancer.read_verdicts() if contender.balancer else {}
        first = self._count_packets()
        action = self._repeat(contender, packets)
        assert action == contender.action, f"{contender.name}: action {action}"
        if contender.balancer:
            after = contender.balancer.read_verdicts()
            risen = {v: after[v] - before[v] for v in after if after[v] != before[v]}
            assert risen == {contender.verdict: packets}, f"{contender.name}: {risen}"
        return self._read_windows(first, packets)

    def _count_packets(self) -> int:
        return read_count(self._objects.read("courses", COURSE_SIZE))

    def _read_windows(self, first: int, packets: int) -> float:
        """The median of the times that each 1,024 packets took, by a packet."""
        _, marks = self._objects.libbpf.read_all(self._objects.map("marks"))
        when = np.frombuffer(marks, np.uint64)
        numbers = np.arange(-(-first // _WINDOW), (first + packets - 1) // _WINDOW + 1)
        return float(np.median(np.diff(when[numbers % _MARKS].astype(np.int64)))) / _WINDOW

    def _prepare(self, contender: Contender, flows: Flows) -> None:
        self._frame, course = encode_course(
            contender.packet, flows, family=contender.family, is_reply=contender.is_reply
        )
        self._objects.write("courses", course)
        balancer = contender.balancer
        program_fd = balancer.program_fd if balancer else self._objects.program("transmit")
        self._objects.write("targets", program_fd.to_bytes(4, "little"))

    def _repeat(self, contender: Contender, packets: int) -> int:
        balancer = contender.balancer or self._balancer
        run = ProgramRun(
            balancer.libbpf,
            self._drive[contender.family],
            len(self._frame),
            ifindex=balancer.ifindexes[FRONT],
            repeat=packets,
        )
        with entered(balancer.namespace):
            return run.run(self._frame)


@contextmanager
def contenders() -> Iterator[list[Contender]]:
    """Two balancers, one without nat, and everybody that takes part."""
    with (
        running_balancer(make_config((L2DSR, IPIP, GUE))) as direct,
        running_balancer(make_config((NAT,))) as full,
    ):
        yield _list_contenders(direct, full)


def _measure_round(
    elf: bytes, everybody: Sequence[Contender], packets: int, yardstick: Yardstick
) -> dict[tuple[str, str], float]:
    """Give everybody a turn with each number of flows; `elf` is the driver's.

    Returns:
        nanoseconds a packet, by a contender's name and that of the flows.
    """
    balancers = {id(each.balancer): each.balancer for each in everybody if each.balancer}
    for balancer in balancers.values():
        balancer.load()
    with loaded(balancer.libbpf, elf) as objects:
        driver = Driver(balancer, objects, yardstick)
        return {
            (each.name, flows.name): driver.run(each, flows, packets)
            for flows in ALL_FLOWS
            for each in everybody
        }


def find_floor(contender: Contender, everybody: Sequence[Contender]) -> Contender:
    """The floor that a contender is measured against."""
    return next(
        each
        for each in everybody
        if each.verdict is None
        and (each.family, each.is_reply) == (contender.family, contender.is_reply)
    )


def _measure_in_turns(
    everybody: Sequence[Contender],
    *,
    rounds: int,
    packets: int,
    progress: Callable[[str], None],
) -> tuple[dict[tuple[str, str], Measured], str]:
    """Give everybody a turn in each round; what it gives is what `measure` gives."""
    found: dict[tuple[str, str], Measured] = {}
    with on_one_cpu() as cpu, own_yardstick(Libbpf()) as yardstick:
        measure_round = partial(
            _measure_round, compile_program("drive"), everybody, packets, yardstick
        )
        measured = repeat(measure_round, rounds=rounds, own_cpus={cpu}, progress=progress)
    for raw in measured.results:
        for each in everybody:
            floor = find_floor(each, everybody)
            for flows in ALL_FLOWS:
                raw_ns = raw[each.name, flows.name]
                figures = found.setdefault((each.name, flows.name), Measured())
                figures.raw_ns.append(raw_ns)
                figures.above_ns.append(raw_ns - raw[floor.name, flows.name])
    return found, f"{measured.describe()}; {yardstick}"


# Backends, slots of each ring: l2dsr of both families, so twice as many of each in the maps.
SIZES = ((10, 4_093), (100, 65_537), (400, 65_537), (400, 1_048_573))


def measure_sizes(
    *, rounds: int, packets: int, progress: Callable[[str], None]
) -> tuple[dict[tuple[str, str], Measured], str]:
    """Measure l2dsr with tables of several sizes; keys as those of `measure`, without the floor."""
    packet = to_address(4, vip(L2DSR))
    everybody = [Contender("floor", None, packet, None)]
    with ExitStack() as stack:
        for backends, ring in SIZES:
            config = make_config((L2DSR,), backends=backends, ring_size=ring)
            balancer = stack.enter_context(running_balancer(config))
            name = f"{backends:,} backends, {ring:,} slots"
            everybody.append(Contender(name, balancer, packet, Verdict.FORWARD_TRANSMIT))
        found, disturbance = _measure_in_turns(
            everybody, rounds=rounds, packets=packets, progress=progress
        )
    return {key: figures for key, figures in found.items() if key[0] != "floor"}, disturbance


def measure(
    *, rounds: int, packets: int, progress: Callable[[str], None]
) -> tuple[dict[tuple[str, str], Measured], str]:
    """Measure everybody in turns.

    Returns:
        figures by a contender's name and that of the flows; how disturbed they are.
    """
    with contenders() as everybody:
        return _measure_in_turns(everybody, rounds=rounds, packets=packets, progress=progress)
