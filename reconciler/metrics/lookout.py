"""Surveys for whoever asks, one at a time, and how fast things went since an earlier one."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from reconciler.rates import Rates, compute_rates
from reconciler.survey import Survey

# Who asks within this time of another gets the same: a survey of the largest instance
# takes as long.
_FRESH_NS = 250_000_000
# Over less, a rate says little.
_SHORTEST_NS = 1_000_000_000


class Lookout:
    """Takes surveys when somebody asks, and only then; any thread may.

    Args:
        take: takes a survey; None where there is no instance.
        close: gives back what that keeps.
    """

    def __init__(
        self, take: Callable[[], Survey | None], close: Callable[[], None] = lambda: None
    ) -> None:
        self._take = take
        self._close = close
        self._lock = threading.Lock()
        # The oldest is what rates are measured from.
        self._kept: deque[Survey] = deque()

    def look(self) -> tuple[Survey | None, Rates | None]:
        """Return a survey and the rates since an earlier one, if there is one to go by.

        Raises:
            XdplbError: as `take`.
        """
        with self._lock:
            if not self._kept or time.monotonic_ns() - self._kept[-1].now_ns > _FRESH_NS:
                survey = self._take()
                if survey is None:
                    self._kept.clear()
                    return None, None
                self._keep(survey)
            return self._kept[-1], compute_rates(self._find_base(), self._kept[-1])

    def close(self) -> None:
        """Forget everything, once nobody takes a survey. Who asks again begins anew."""
        with self._lock:
            self._kept.clear()
            self._close()

    def _keep(self, survey: Survey) -> None:
        self._kept.append(survey)
        # The second will do as well, once it is old enough.
        while len(self._kept) > 2 and self._kept[1].now_ns <= survey.now_ns - _SHORTEST_NS:
            self._kept.popleft()

    def _find_base(self) -> Survey | None:
        oldest, newest = self._kept[0], self._kept[-1]
        return oldest if oldest.now_ns <= newest.now_ns - _SHORTEST_NS else None
