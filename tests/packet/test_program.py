"""What the program costs, told without a clock.

Time depends on the machine and on who else is on it; `make bench` measures it. What costs
time does not: instructions that the verifier walks, the length of the program, and, of a
packet by each mode, instructions, calls and lookups. Each has a ceiling. Raise one knowingly.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from contextlib import contextmanager

import pytest

from reconciler.model import Protocol
from tests.compilers import compile_program, list_compilers

from . import network, services
from .interpreter import ADJUST_HEAD, JIFFIES, LOOKUP, REDIRECT, Interpreter, linked_program
from .packets import from_backend, in_family, to_service
from .services import Mode

pytestmark = pytest.mark.root

# The verifier stops at a million instructions, and kernels differ in how many they walk.
# Measured on Linux 6.18: 198,000 with clang 14, 212,000 with clang 16, 194,000 with clang 22.
MOST_VERIFIED_INSTRUCTIONS = 300_000
# As the kernel has translated it, lookups in arrays inlined: 13,480 with clang 14.
MOST_TRANSLATED_INSTRUCTIONS = 14_000

# The client's source must not look like a VIP's to the filter, which would cost a lookup.
CLIENT = "198.51.100.40"

EVERY = ("settings", "directory", "verdicts")
STEERED = (*EVERY, "endpoints", "slots", "backends", "backend_nexthops", "backend_stats")
REPLIED = ("settings", "directory", "directory", "verdicts", "endpoints")

# Instructions over IPv4 and over IPv6: the most that clang 14 to 22 make, and 2 in 100.
# Lookups: each in an array, which the kernel inlines.
CASES = {
    "l2dsr": ((451, 511), STEERED),
    "ipip": ((588, 700), STEERED),
    "gue": ((747, 890), STEERED),
    "nat": ((542, 624), (*STEERED, "direct_seen")),
    "reply": ((554, 602), (*REPLIED, "direct_seen", "backend_stats")),
    "stranger": ((236, 279), REPLIED[:4]),
}
# Where a reply's way is found, by family.
CLIENTS = {4: ("client_ways", "ways"), 6: ("client_nexthops",)}
# No clock, no hash map, no route: those of a settled packet in a network that stays as it is.
HELPERS = {LOOKUP, JIFFIES, REDIRECT, ADJUST_HEAD}
# IPv6's way in. A call costs up to 10 ns where returns go through a thunk.
MOST_CALLS = {4: 0, 6: 1}


@pytest.fixture(scope="module", params=list_compilers())
def elf(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return compile_program(request.param, folder / "xdplb.bpf.o").read_bytes()


def test_verified_and_translated_instructions(balancer, capsys, elf):
    start_s = time.perf_counter()
    with linked_program(balancer, elf) as program:
        load_s = time.perf_counter() - start_s
        info = balancer.libbpf.program_info(program.fd)
    with capsys.disabled():
        print(
            f"\n{info.verified_insns} instructions verified,"
            f" {info.xlated_prog_len // 8} long, loaded in {1000 * load_s:.0f} ms"
        )
    assert 0 < info.verified_insns <= MOST_VERIFIED_INSTRUCTIONS
    assert 0 < info.xlated_prog_len // 8 <= MOST_TRANSLATED_INSTRUCTIONS


def make_packet(case):
    if case == "reply":
        return from_backend(Protocol.TCP, client=CLIENT), network.BACK
    if case == "stranger":
        return to_service(Protocol.TCP, "203.0.113.9", client=CLIENT), network.FRONT
    vip = services.in_mode(services.PLAIN, Mode[case.upper()])
    return to_service(Protocol.TCP, vip, client=CLIENT), network.FRONT


@contextmanager
def pinned_to(cpu):
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize("case", CASES)
def test_cost_of_a_packet(balancer, elf, family, case, capsys):
    ceilings, lookups = CASES[case]
    packet, interface = make_packet(case)
    frame = bytes(in_family(packet, family))
    cpu = min(os.sched_getaffinity(0))
    with pinned_to(cpu), balancer.inside():
        balancer.run_uncounted(frame, interface)  # the way is looked for, and remembered
        expected = balancer.run_uncounted(frame, interface)
    with linked_program(balancer, elf) as program:
        count = Interpreter(balancer, program, cpu).run(frame, balancer.ifindexes[interface])
    with capsys.disabled():
        print(f"{case}, IPv{family}: {count.instructions} instructions", end="; ")
    assert (count.action, count.frame) == expected, "not the kernel's own journey"
    assert count.instructions <= ceilings[family == 6]
    assert count.calls <= MOST_CALLS[family]
    assert count.lookups == Counter((*lookups, *(CLIENTS[family] if case == "reply" else ())))
    assert set(count.helpers) <= HELPERS
