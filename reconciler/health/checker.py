"""Checks every backend of a configuration for as long as the controller runs."""

from __future__ import annotations

import asyncio
import logging
import resource
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from reconciler.health.ask import Ask, find_result, prepare_asks
from reconciler.health.checks import Check, list_checks
from reconciler.health.failure import CheckImpossible
from reconciler.health.rota import Rota
from reconciler.health.standing import (
    Result,
    Standing,
    choose_interval_s,
    judge,
    resume,
)
from reconciler.health.vip import VipAsker
from reconciler.log import log_event
from reconciler.model import Config
from reconciler.overrides import BackendName, list_backends

# Sockets that are open at once. Checks that wait for silent backends fill them: each such
# backend needs one for `timeout` of every `interval`, the usual half of the time.
MAX_OPEN = 4096
_COMPLAIN_EVERY_S = 60.0


class Tally(Protocol):
    """Counts what checks find, for as long as the process lives; from any thread."""

    def count_check(self, result: str) -> None:
        """Count a check that `passed` or `failed`, or was `impossible` on this machine."""

    def count_transition(self, *, is_up: bool) -> None:
        """Count a backend that went up, or down."""


class Checker:
    """Checks backends in a thread of its own.

    Args:
        on_change: is called, in the checker's thread, when a backend has changed between
            up and down, and after its first check. It must not block.
        tally: is told what checks find.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        on_change: Callable[[], None],
        tally: Tally,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._on_change = on_change
        self._tally = tally
        self._clock = clock
        self._lock = threading.Lock()
        self._jobs: dict[BackendName, _Job] = {}
        self._resting: dict[BackendName, Standing] = {}
        self._impossible = 0
        self._complained_s = float("-inf")
        self._loop = asyncio.new_event_loop()
        self._vip_asker = VipAsker()
        self._rota = Rota(self._loop, choose_max_open())
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="health", daemon=True)
        self._thread.start()

    def follow(self, config: Config, known: Mapping[BackendName, Standing]) -> None:
        """Check the backends of a configuration and no others.

        A check that has not changed goes on. A backend keeps its standing while it serves
        at the same address and port, also through a time in maint, in which it is not
        checked.

        Args:
            config: what to check, overrides applied.
            known: standings from before, for backends that this checker knows nothing of.
        """
        checks = list_checks(config)
        asks = prepare_asks(checks.items(), self._vip_asker)
        backends = list_backends(config)
        with self._lock:
            before = self._known_standings()
            jobs = {
                name: self._make_job(name, check, asks[name], before.get(name) or known.get(name))
                for name, check in checks.items()
            }
            self._resting = {
                name: standing
                for name, standing in before.items()
                if name in backends and name not in jobs
            }
            self._jobs = jobs
        self._loop.call_soon_threadsafe(self._rota.follow, tuple(jobs.values()))

    def read(self) -> Mapping[BackendName, Standing]:
        """Return what is known of each backend that is checked.

        Those that were never checked are not among them: they count as up.
        """
        with self._lock:
            return {name: job.standing for name, job in self._jobs.items() if job.standing}

    def measure_lag_s(self) -> float:
        """Return how late checks are begun, in seconds: for want of CPU or of sockets."""
        return self._rota.measure_lag_s()

    def is_running(self) -> bool:
        """Whether checks go on."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End all checks and the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ended.set)
            self._thread.join()

    def _known_standings(self) -> dict[BackendName, Standing]:
        checked = {name: job.standing for name, job in self._jobs.items() if job.standing}
        return {**self._resting, **checked}

    def _make_job(self, name: BackendName, check: Check, ask: Ask, known: Standing | None) -> _Job:
        job = self._jobs.get(name)
        if job and job.check == check:
            job.ask = ask  # certificates are read again
            return job
        is_same = known is not None and known.server in ("", check.server)
        return _Job(self, name, check, ask, resume(known) if known and is_same else None)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        await self._ended.wait()
        await self._rota.close()
        self._vip_asker.close()

    def take(self, job: _Job, result: Result) -> None:
        """Take the result of a job, unless its backend is checked by another one now."""
        with self._lock:
            if self._jobs.get(job.name) is not job:
                return
            before = job.standing
            after = job.take(result, self._clock())
        self._tally.count_check("passed" if result.is_ok else "failed")
        if before is not None and before.is_up != after.is_up:
            self._tally.count_transition(is_up=after.is_up)
        if before is None or before.is_up != after.is_up:
            self._on_change()

    def complain(self, name: BackendName, reason: str) -> None:
        """Take that this machine could not check a backend."""
        self._impossible += 1
        self._tally.count_check("impossible")
        now_s = self._loop.time()
        if now_s - self._complained_s >= _COMPLAIN_EVERY_S:
            self._complained_s = now_s
            log_event(
                logging.WARNING,
                check="impossible",
                backend="/".join(name),
                count=self._impossible,
                reason=reason,
            )


class _Job:
    """One backend's checks, and what is known by them."""

    def __init__(
        self, checker: Checker, name: BackendName, check: Check, ask: Ask, known: Standing | None
    ) -> None:
        self.name = name
        self.check = check
        self.ask = ask
        self.standing = known
        self._checker = checker

    @property
    def interval_s(self) -> float:
        return choose_interval_s(self.standing, self.check.health)

    async def run(self) -> None:
        try:
            result = await find_result(self.ask, self.check.health.timeout_s)
        except CheckImpossible as error:
            self._checker.complain(self.name, str(error))
        else:
            self._checker.take(self, result)

    def take(self, result: Result, now: float) -> Standing:
        """Judge the backend by one more result."""
        judged = judge(self.standing, result, self.check.health, now)
        self.standing = replace(judged, server=self.check.server)
        return self.standing


def choose_max_open() -> int:
    """Return how many sockets checks may have open at once in this process."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_OPEN if limit == resource.RLIM_INFINITY else max(min(MAX_OPEN, limit // 2), 1)
