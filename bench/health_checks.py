"""What the checks of many backends cost: CPU, memory, and how late they are begun.

    python bench/health_checks.py --backends 5000 --type http --seconds 20

Every backend is an address of 127.0.0.0/8 on this machine, behind one server in a
process of its own. The checker is kept on one core, and the server on another. Of every
hundred backends `--silent` take the question and never answer, and `--refusing` have
nobody who listens. What is printed is measured in the steady state, after two intervals.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Address

from reconciler.health.checker import Checker
from reconciler.metrics.recorder import Recorder
from reconciler.model import (
    Affinity,
    Backend,
    Config,
    Forwarding,
    Health,
    HealthType,
    Protocol,
    Service,
    XdpMode,
)

FIRST_ADDRESS = int(IPv4Address("127.64.0.1"))

SERVER = """
import asyncio, socket
ANSWER = b"HTTP/1.1 200 OK\\r\\nServer: bench\\r\\nContent-Type: text/plain\\r\\n" \\
    b"Content-Length: 3\\r\\nConnection: close\\r\\n\\r\\nok\\n"
class Web(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(ANSWER)
        self.transport.close()
class Mute(asyncio.Protocol):
    pass
async def serve():
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(kind, "0.0.0.0", 0, backlog=4096) for kind in (Web, Mute)]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await asyncio.Event().wait()
asyncio.run(serve())
"""


@contextlib.contextmanager
def run_server(core: int | None) -> Iterator[tuple[int, int]]:
    """Yield the port that answers and the one that does not."""
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as it:
        try:
            if core is not None:
                os.sched_setaffinity(it.pid, {core})
            assert it.stdout
            answering, silent = map(int, it.stdout.readline().split())
            yield answering, silent
        finally:
            it.send_signal(signal.SIGTERM)


def make_config(arguments: argparse.Namespace, ports: tuple[int, int, int]) -> Config:
    """Return the configuration that has all the backends."""
    health = Health(
        type=HealthType(arguments.type),
        interval_s=arguments.interval,
        timeout_s=arguments.timeout,
    )
    answering, silent, refusing = ports
    backends = []
    for number in range(arguments.backends):
        part = number % 100
        port = silent if part < arguments.silent else answering
        port = refusing if part >= 100 - arguments.refusing else port
        backends.append(Backend(f"b{number}", IPv4Address(FIRST_ADDRESS + number), port))
    service = Service(
        name="bench",
        vip=IPv4Address("192.0.2.1"),
        port=80,
        protocol=Protocol.TCP,
        forwarding=Forwarding.NAT,
        affinity=Affinity.FLOW,
        ring_size=65_537,
        drain_timeout_s=300.0,
        backends=tuple(backends),
        health=health,
    )
    return Config("bench", ("lo",), XdpMode.AUTO, 1, (service,))


def read_rss_mb() -> float:
    """Return the resident memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def measure(checker: Checker, recorder: Recorder, seconds: float) -> str:
    """Watch the checker for a while; return what it cost."""

    def count() -> int:
        return sum(recorder.list_facts().checks.values())

    lags_s = []
    before, began, start = count(), time.monotonic(), os.times()
    while time.monotonic() - began < seconds:
        time.sleep(0.05)
        lags_s.append(checker.measure_lag_s())
    took_s = time.monotonic() - began
    end = os.times()
    user = 100 * (end.user - start.user) / took_s
    system = 100 * (end.system - start.system) / took_s
    lags_s.sort()
    return (
        f"{(count() - before) / took_s:.0f} checks/s, "
        f"CPU {user:.0f} % user {system:.0f} % system, "
        f"lag median {lags_s[len(lags_s) // 2] * 1e3:.1f} ms, "
        f"p99 {lags_s[int(len(lags_s) * 0.99)] * 1e3:.1f} ms, max {lags_s[-1] * 1e3:.1f} ms"
    )


def main() -> None:
    """Measure one arrangement and print a line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backends", type=int, default=5000)
    parser.add_argument("--type", choices=["tcp", "http"], default="tcp")
    parser.add_argument("--interval", type=float, default=2.0)
    parser.add_argument("--timeout", type=float, default=1.0)
    parser.add_argument("--silent", type=int, default=0)
    parser.add_argument("--refusing", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    with socket.socket() as unused, run_server(cores[1] if len(cores) > 1 else None) as ports:
        unused.bind(("0.0.0.0", 0))
        base_mb = read_rss_mb()
        recorder = Recorder()
        with contextlib.closing(Checker(lambda: None, recorder)) as checker:
            began = time.monotonic()
            checker.follow(make_config(arguments, (*ports, unused.getsockname()[1])), {})
            while len(checker.read()) < arguments.backends and time.monotonic() - began < 60:
                time.sleep(0.01)
            first_s = time.monotonic() - began
            time.sleep(2 * arguments.interval)
            told = measure(checker, recorder, arguments.seconds)
            down = sum(not standing.is_up for standing in checker.read().values())
            print(
                f"{arguments.backends} backends by {arguments.type} each {arguments.interval:g} s:"
                f" {told}, RSS {read_rss_mb():.0f} MB (+{read_rss_mb() - base_mb:.0f}),"
                f" all asked once after {first_s:.1f} s, {down} down,"
                f" {recorder.list_facts().checks['impossible']} impossible"
            )


if __name__ == "__main__":
    main()
