"""Runs many small jobs again and again, each at its own interval, a bounded number at once.

Only a heap and one timer stand behind it: a job that is not running is no task. All of
it belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
from collections.abc import Callable, Collection
from typing import Protocol

log = logging.getLogger("xdplb")

# A new job is run soon, whatever its interval.
_FIRST_WITHIN_S = 1.0
# An interval is never longer than asked, so that `fall` of them are a promise.
_SHORTEST_PART = 0.9
# The second run comes early by another chance, which spreads jobs that began together.
_SHORTEST_FIRST_PART = 0.1
# Begun in one turn of the loop. When there is more to do than time, new jobs wait and
# those that run are served; else all would be begun, and none end in time.
_BEGIN_AT_ONCE = 32


class Job(Protocol):
    """What is run."""

    @property
    def interval_s(self) -> float:
        """The longest time from the start of one run to the start of the next."""

    async def run(self) -> None:
        """Do it once. It takes care of its own end, within its interval."""


class Rota:
    """Runs the jobs that it follows.

    Args:
        loop: where they run. Whatever is asked of the rota is asked there.
        places: how many jobs run at once; those that are due longest come first.
        draw: returns a number from 0 to 1, by chance.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        places: int,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._loop = loop
        self._places = places
        self._draw = draw
        self._jobs: set[Job] = set()
        self._new: set[Job] = set()  # have not been run yet
        self._due: list[tuple[float, int, Job]] = []
        self._numbers = itertools.count()  # of two jobs due together, the first one put
        self._running: dict[Job, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._last_lag_s = 0.0

    def follow(self, jobs: Collection[Job]) -> None:
        """Run these jobs and no others; those that go on keep their time.

        A job that was left out does not come back.
        """
        followed = set(jobs)
        now = self._loop.time()
        self._due = [one for one in self._due if one[2] in followed]
        heapq.heapify(self._due)
        for job in self._jobs - followed:
            if task := self._running.get(job):
                task.cancel()
        self._new = (self._new & followed) | (followed - self._jobs)
        for job in followed - self._jobs:
            self._put(job, now + self._draw() * min(job.interval_s, _FIRST_WITHIN_S))
        self._jobs = followed
        if self._due:
            self._wake_at(self._due[0][0])

    def measure_lag_s(self) -> float:
        """Return how late the last job was begun, or how late the one is that waits longest.

        Any thread may ask this.
        """
        now = self._loop.time()
        return max([self._last_lag_s, *(now - due for due, _, _ in self._due[:1])])

    async def close(self) -> None:
        """End all that runs."""
        tasks = list(self._running.values())
        self.follow(())
        if self._timer:
            self._timer.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _put(self, job: Job, due: float) -> None:
        heapq.heappush(self._due, (due, next(self._numbers), job))

    def _advance(self) -> None:
        """Begin what is due while there are places, and come back when the next is."""
        now = self._loop.time()
        for _ in range(_BEGIN_AT_ONCE):
            if not self._due or self._due[0][0] > now or len(self._running) >= self._places:
                break
            due, _, job = heapq.heappop(self._due)
            self._last_lag_s = now - due
            self._begin(job, now)
        # Without a place there is nothing to wake for: who makes one wakes it.
        if self._due and len(self._running) < self._places:
            self._wake_at(self._due[0][0])

    def _wake_at(self, due: float) -> None:
        if self._timer:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._advance()

    def _begin(self, job: Job, now: float) -> None:
        task = self._loop.create_task(job.run())
        self._running[job] = task
        task.add_done_callback(lambda done: self._end(job, now, done))

    def _end(self, job: Job, began: float, task: asyncio.Task[None]) -> None:
        del self._running[job]
        if not task.cancelled() and (error := task.exception()):
            log.error("a health check ended by a fault of its own", exc_info=error)
        if job in self._jobs:
            shortest = _SHORTEST_FIRST_PART if job in self._new else _SHORTEST_PART
            self._new.discard(job)
            self._put(job, began + job.interval_s * (1 - self._draw() * (1 - shortest)))
        if self._due:
            self._wake_at(self._due[0][0])
