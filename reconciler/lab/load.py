"""The load: a program that makes real connections and tells what became of each request.

    python -m reconciler.lab.load 192.0.2.1 8080 --rate 300 --held 32

*Short* connections are new ones at a steady rate, one request each. *Held*
connections stay open and ask again and again; each must be answered by the
backend that answered first, and an answer must name this very client.

Every request gives one line of words on standard output, see `Sample`. The
load ends at SIGTERM, or after `--count` short connections or `--duration`
seconds, and waits for the answers that are still out.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from dataclasses import dataclass
from typing import TextIO

from reconciler.lab import http
from reconciler.lab.sample import Outcome, Sample, name_failure

_TICK_S = 0.005
_FLUSH_S = 0.1


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """How much to ask, and for how long.

    Attributes:
        address, port: whom to ask.
        rate: short connections a second; 0 for none.
        held: connections that stay open.
        held_interval_s: pause between two requests of a held connection.
        timeout_s: after which a request has failed.
        max_open: short connections at once; beyond it new ones wait.
        count: short connections in all; None for no limit.
        duration_s: seconds in all; None for no limit.
    """

    address: str
    port: int
    rate: float = 300.0
    held: int = 0
    held_interval_s: float = 0.25
    timeout_s: float = 3.0
    max_open: int = 512
    count: int | None = None
    duration_s: float | None = None


class _Connection(asyncio.Protocol):
    """One connection that asks once, or until it is told to finish."""

    def __init__(self, load: _Load, number: int, held: bool) -> None:
        self.load, self.number, self.held = load, number, held
        self.backend: str | None = None
        self.buffer = bytearray()
        self.waiting = True
        self.finishing = False
        self.transport: asyncio.Transport | None = None
        self.again: asyncio.TimerHandle | None = None
        self.start_s = time.monotonic()
        self.deadline = load.loop.call_later(load.plan.timeout_s, self.fail, Outcome.TIMEOUT)
        self.opening = load.loop.create_task(self.open())

    async def open(self) -> None:
        plan = self.load.plan
        try:
            await self.load.loop.create_connection(lambda: self, plan.address, plan.port)
        except OSError as error:
            self.fail(name_failure(error.errno, Outcome.NOT_SENT))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.me = http.format_peer(transport.get_extra_info("sockname")[:2])
        transport.write(http.write_request())

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        try:
            answer = http.read_answer(self.buffer)
        except http.BadMessage:
            self.fail(Outcome.BAD_ANSWER)
            return
        if answer is not None:
            del self.buffer[: answer.size]
            self.take(answer)

    def take(self, answer: http.Answer) -> None:
        if not self.waiting or answer.client != self.me or self.is_stranger(answer.backend):
            self.fail(Outcome.BAD_ANSWER)
            return
        self.backend = answer.backend
        self.record(Outcome.OK)
        if self.held and not self.finishing:
            self.again = self.load.loop.call_later(self.load.plan.held_interval_s, self.ask_again)
        else:
            self.close()

    def is_stranger(self, backend: str) -> bool:
        return self.backend is not None and self.backend != backend

    def ask_again(self) -> None:
        assert self.transport is not None
        self.waiting = True
        self.start_s = time.monotonic()
        self.deadline = self.load.loop.call_later(
            self.load.plan.timeout_s, self.fail, Outcome.TIMEOUT
        )
        self.transport.write(http.write_request())

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self.load.open:
            number = exc.errno if isinstance(exc, OSError) else None
            lost = Outcome.CLOSED if exc is None else name_failure(number, Outcome.RESET)
            self.fail(lost)

    def finish(self) -> None:
        """Close now, or as soon as the answer that is still out has come."""
        self.finishing = True
        if not self.waiting:
            self.close()

    def fail(self, outcome: Outcome) -> None:
        if self in self.load.open:
            self.record(outcome)
            self.close(abort=True)

    def record(self, outcome: Outcome) -> None:
        self.waiting = False
        self.deadline.cancel()
        now_s = time.monotonic()
        backend = self.backend or "-"
        self.load.record(
            Sample(self.number, self.held, self.start_s, now_s - self.start_s, outcome, backend)
        )

    def close(self, *, abort: bool = False) -> None:
        self.load.open.discard(self)
        if self.again is not None:
            self.again.cancel()
        if self.transport is None:
            self.opening.cancel()  # or the socket would go on asking for minutes
        elif abort:
            self.transport.abort()
        else:
            self.transport.close()


class _Load:
    """Every open connection, and the clock that starts new ones."""

    def __init__(self, plan: LoadPlan, out: TextIO) -> None:
        self.plan, self.out = plan, out
        self.loop = asyncio.get_running_loop()
        self.open: set[_Connection] = set()
        self.numbers = 0
        self.over = asyncio.Event()

    async def run(self) -> None:
        start_s = time.monotonic()
        for _ in range(self.plan.held):
            self.connect(held=True)
        flushed_s, short = start_s, 0
        while not self.is_over(start_s, short):
            due = min(self.due(time.monotonic() - start_s), short + self.room())
            for _ in range(short, due):
                self.connect(held=False)
            short = max(short, due)
            if time.monotonic() - flushed_s > _FLUSH_S:
                flushed_s = time.monotonic()
                self.out.flush()
            await self.pause()
        await self.finish()

    def is_over(self, start_s: float, short: int) -> bool:
        late = self.plan.duration_s is not None and (
            time.monotonic() - start_s >= self.plan.duration_s
        )
        enough = self.plan.count is not None and short >= self.plan.count
        return self.over.is_set() or late or enough

    def due(self, elapsed_s: float) -> int:
        due = int(elapsed_s * self.plan.rate)
        return due if self.plan.count is None else min(due, self.plan.count)

    def room(self) -> int:
        return max(0, self.plan.max_open + self.plan.held - len(self.open))

    def connect(self, *, held: bool) -> None:
        self.open.add(_Connection(self, self.numbers, held))
        self.numbers += 1

    async def pause(self) -> None:
        try:
            await asyncio.wait_for(self.over.wait(), _TICK_S)
        except asyncio.TimeoutError:
            return

    async def finish(self) -> None:
        for connection in tuple(self.open):
            connection.finish()
        while self.open:  # each one has its own deadline
            await asyncio.sleep(_TICK_S)
        self.out.flush()

    def record(self, sample: Sample) -> None:
        self.out.write(sample.format())


async def run_load(plan: LoadPlan, out: TextIO) -> None:
    """Carry out a plan; one line for each request goes to `out`."""
    load = _Load(plan, out)
    for number in (signal.SIGTERM, signal.SIGINT):
        load.loop.add_signal_handler(number, load.over.set)
    await load.run()


def main() -> None:
    """Read the command line and make the load."""
    parser = argparse.ArgumentParser(
        description="real connections at a steady rate", argument_default=argparse.SUPPRESS
    )
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    for name in ("rate", "held-interval-s", "timeout-s", "duration-s"):
        parser.add_argument(f"--{name}", type=float)
    for name in ("held", "max-open", "count"):
        parser.add_argument(f"--{name}", type=int)
    asyncio.run(run_load(LoadPlan(**vars(parser.parse_args())), sys.stdout))


if __name__ == "__main__":
    main()
