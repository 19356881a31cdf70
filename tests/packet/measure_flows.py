"""What the memory of flows costs: a packet, in each state of its slot; the controller, a pass.

    sudo .venv/bin/python -m tests.packet.measure_flows [FLOWS]

Prints the figures of docs/adr/0011-newcomers.md. FLOWS is `limits.flows`, and how many are
remembered when the controller is measured: 1,000,000 if not given.
"""

from __future__ import annotations

import ctypes as ct
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from reconciler import abi
from reconciler.dataplane.program_run import ProgramRun
from reconciler.memory import Judge
from reconciler.model import Limits

from . import services
from .balancer import Balancer, running_balancer
from .clients import TCP
from .floods import Frames, alternate, flood_errors, flood_segments
from .packets import to_service
from .services import Mode

# l2dsr leaves addresses and ports as they are, so that one packet can be run again.
VIP = services.in_mode(services.TRIO, Mode.L2DSR)
SERVICE = services.name_service(VIP, TCP)
A, B = "a-tcp-l2dsr", "b-tcp-l2dsr"
PACKETS = 200_000
RUNS = 2_000_000


class Meter:
    """A balancer, and what its program takes."""

    def __init__(self, balancer: Balancer) -> None:
        self.balancer = balancer
        self.library = balancer.libbpf.library

    def run_again(self, what: str, **fields: object) -> None:
        """One packet, again and again: everything that it needs is in the cache."""
        frame = bytes(to_service(TCP, VIP, **fields))
        balancer, durations = self.balancer, []
        run = ProgramRun(balancer.libbpf, balancer._program_fd, len(frame), repeat=RUNS)
        with balancer.inside():
            for _ in range(5):
                run.run(frame)
                durations.append(run.duration_ns)
        print(f"hot   {what:<45} {min(durations):>6} ns")

    def run_through(self, what: str, frames: Frames) -> None:
        """Many packets once each."""
        before = self._read_times()
        self.balancer.run_many(frames)
        after = self._read_times()
        mean_ns = (after.run_time_ns - before.run_time_ns) / (after.run_cnt - before.run_cnt)
        print(f"cold  {what:<45} {mean_ns:>6.0f} ns")

    def _read_times(self) -> Any:
        return self.balancer.libbpf.program_info(self.balancer._program_fd)

    def begin(self, previous: str | None, *, left_s: float = 3600) -> None:
        """Nothing is remembered; every slot says {B, previous}."""
        self.balancer.restore()
        self.balancer.set_slots(SERVICE, B, previous)
        self.balancer.set_window(SERVICE, left_s)


@contextmanager
def accounting(library: ct.CDLL) -> Iterator[None]:
    """Have the kernel account for the time that programs run."""
    fd = library.bpf_enable_stats(0)  # BPF_STATS_RUN_TIME
    try:
        yield
    finally:
        os.close(fd)


def measure_packets(meter: Meter) -> None:
    meter.begin(None)
    meter.run_again("settled")
    meter.begin(A)
    meter.run_again("SYN in the window: pending", flags="S", payload=b"")
    meter.run_again("remembered", seq=5)
    meter.begin(B)
    meter.run_again("unknown, pinned")
    with accounting(meter.library):
        meter.begin(None)
        meter.run_through("settled", flood())
        meter.run_through("ICMP error, settled", flood_errors(PACKETS, 4, vip=VIP))
        meter.begin(A)
        meter.run_through("SYN in the window: pending", flood("S"))
        meter.run_through("segment in the window: stray", flood())
        meter.run_through("ICMP error in the window", flood_errors(PACKETS, 4, vip=VIP))
        meter.begin(A)
        meter.run_through("stray, and who has it remembered", alternate(flood(), flood(step=1)))
        meter.run_through("remembered", flood(step=2))
        strangers = flood()
        strangers[:, 26] ^= 0x40  # of another network
        meter.balancer.set_slots(SERVICE, B, previous=B)
        meter.run_through("unknown, pinned", strangers)
        meter.begin(A, left_s=-1)
        meter.run_through("unknown, window over, nobody remembered", strangers)


def flood(flags: str = "A", step: int = 0) -> Frames:
    return flood_segments(PACKETS, 4, flags, vip=VIP, step=step)


def measure_controller(meter: Meter, count: int) -> None:
    balancer, dataplane = meter.balancer, meter.balancer.dataplane
    meter.begin(A)
    fill(meter, count)
    tables = dataplane.read()
    print_time("read where flows live", lambda: sum(map(len, dataplane.read_memory())))
    judge = Judge(tables, time.monotonic_ns())
    print_time("find who occupies", lambda: judge.find_occupancy(dataplane.read_memory()))
    print_time("forget nobody", lambda: forget(balancer, 0))
    print_time("forget all, as ended", lambda: forget(balancer, 10**14))
    fill(meter, count)
    balancer.set_slots(SERVICE, B, previous=None)
    print_time("forget all, as settled", lambda: forget(balancer, 0))


def fill(meter: Meter, count: int) -> None:
    """Have so many flows be remembered."""
    ring = meter.balancer.ring(SERVICE)
    number = meter.balancer.backend_id(A)
    keys, flows = np.zeros(count, abi.FLOW_KEY), np.zeros(count, abi.FLOW)
    clients = keys.view(np.uint8).reshape(count, -1)
    clients[:, :4] = np.arange(count, dtype=np.uint32).view(np.uint8).reshape(count, 4)
    flows["slot"] = ring.start + np.arange(count) % (ring.stop - ring.start)
    flows["kind"], flows["backend"] = abi.FlowKind.BACKEND, number
    flows["born"] = meter.balancer.base.backends[number].born
    flows["last_seen_ns"] = time.monotonic_ns()
    entries = ct.c_uint32(count)
    pointer = ct.c_void_p
    meter.library.bpf_map_update_batch.argtypes = [ct.c_int, *[pointer] * 4]
    result = meter.library.bpf_map_update_batch(
        meter.balancer.fd("flows"), keys.ctypes.data, flows.ctypes.data, ct.byref(entries), None
    )
    meter.balancer.libbpf.check(result, "cannot fill")


def forget(balancer: Balancer, later_ns: int) -> int:
    dataplane = balancer.dataplane
    return dataplane.forget_flows(dataplane.read(), time.monotonic_ns() + later_ns)


def print_time(what: str, do: Callable[[], object]) -> None:
    start_s = time.perf_counter()
    do()
    print(f"      {what:<45} {time.perf_counter() - start_s:>6.2f} s")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    config = services.make_test_config()
    limits = Limits(512, 1024, 131_072, count)
    with running_balancer(dataclasses.replace(config, limits=limits)) as balancer:
        meter = Meter(balancer)
        measure_packets(meter)
        measure_controller(meter, count)


if __name__ == "__main__":
    main()
