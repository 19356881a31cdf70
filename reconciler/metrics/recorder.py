"""What only the controller knows: its passes, the slots they moved, drift, health checks."""

from __future__ import annotations

import bisect
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reconciler.errors import XdplbError

if TYPE_CHECKING:
    from reconciler.apply import Outcome
    from reconciler.proposal import Proposal

# Upper bounds of a pass's duration, in seconds: one that finds nothing to do takes some
# 10 ms, one that builds the most and largest rings half a minute.
BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# They are 0 before there is one, so that an increase from nothing is one.
RESULTS = ("applied", "in_sync", "drifted", "blocked", "failed", "rolled_back", "degraded")
ENDS = ("passed", "failed", "impossible")
TRANSITIONS = ("up", "down")


@dataclass(frozen=True)
class Durations:
    """A histogram: `counts` are by `BOUNDS_S`, and one more beyond the last."""

    counts: tuple[int, ...]
    total_s: float


@dataclass(frozen=True)
class Facts:
    """What was recorded up to one moment.

    Attributes:
        durations: of passes, whatever came of them.
        passes: how many ended with each result.
        slots_moved: by service.
        drift: how many differences the last pass found that nobody had asked for.
        drift_found: how many all passes found.
        checks: health checks by result.
        check_lag_s: how late they are begun.
        transitions: backends that went `up` or `down`.
    """

    durations: Durations
    passes: Mapping[str, int]
    slots_moved: Mapping[str, int]
    drift: int
    drift_found: int
    checks: Mapping[str, int]
    check_lag_s: float
    transitions: Mapping[str, int]


class Recorder:
    """Counts since the controller started; any thread may tell and ask.

    Attributes:
        measure_lag_s: says how late health checks are begun; 0 until a checker is there.
    """

    def __init__(self) -> None:
        self.measure_lag_s: Callable[[], float] = lambda: 0.0
        self._lock = threading.Lock()
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._total_s = 0.0
        self._passes = Counter(dict.fromkeys(RESULTS, 0))
        self._slots_moved: Counter[str] = Counter()
        self._drift = self._drift_found = 0
        self._checks = Counter(dict.fromkeys(ENDS, 0))
        self._transitions = Counter(dict.fromkeys(TRANSITIONS, 0))

    def record_pass(
        self, make: Callable[[], Outcome], describe: Callable[[Outcome], str]
    ) -> Outcome:
        """Make a pass and record how long it took and what came of it; return its outcome.

        Args:
            make: makes the pass; what it raises goes on its way.
            describe: says the result of an outcome in one word.
        """
        started = time.monotonic()
        try:
            outcome = make()
        except (XdplbError, OSError) as error:
            code = error.exit_code.name if isinstance(error, XdplbError) else "failed"
            self.count_pass(code.lower(), time.monotonic() - started)
            raise
        self.count_pass(describe(outcome), time.monotonic() - started)
        self._count_proposal(outcome.proposal, is_written=bool(outcome.writes))
        return outcome

    def count_pass(self, result: str, duration_s: float) -> None:
        """Count a pass that has ended."""
        with self._lock:
            self._passes[result] += 1
            self._counts[bisect.bisect_left(BOUNDS_S, duration_s)] += 1
            self._total_s += duration_s

    def _count_proposal(self, proposal: Proposal, *, is_written: bool) -> None:
        drift = sum(change.reason == "drift" for change in proposal.changes)
        with self._lock:
            self._drift = drift
            self._drift_found += drift
            for ring in proposal.rings if is_written else ():
                self._slots_moved[ring.service] += ring.slots_moved

    def count_check(self, result: str) -> None:
        """Count a health check that `passed` or `failed`, or was `impossible`."""
        with self._lock:
            self._checks[result] += 1

    def count_transition(self, *, is_up: bool) -> None:
        """Count a backend that went up, or down."""
        with self._lock:
            self._transitions["up" if is_up else "down"] += 1

    def list_facts(self) -> Facts:
        """Return what was recorded until now."""
        with self._lock:
            return Facts(
                Durations(tuple(self._counts), self._total_s),
                dict(self._passes),
                dict(self._slots_moved),
                self._drift,
                self._drift_found,
                dict(self._checks),
                self.measure_lag_s(),
                dict(self._transitions),
            )
