"""What a load has measured, as arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reconciler.lab.sample import Outcome, Sample


@dataclass(frozen=True, slots=True)
class Samples:
    """Requests in the order in which they ended; the arrays have one entry for each.

    Attributes:
        connection: number of the connection.
        held: whether it is one that stays open.
        start_s: when it was asked, on the monotonic clock, in seconds.
        duration_s: how long the answer took, in seconds.
        outcome: values of `Outcome`.
        backend: who answered; "-" for nobody.
    """

    connection: NDArray[np.int64]
    held: NDArray[np.bool_]
    start_s: NDArray[np.float64]
    duration_s: NDArray[np.float64]
    outcome: NDArray[np.str_]
    backend: NDArray[np.str_]

    @classmethod
    def collect(cls, samples: Iterable[Sample]) -> Samples:
        """Turn samples into arrays."""
        rows = list(samples)
        return cls(
            np.array([row.connection for row in rows], dtype=np.int64),
            np.array([row.held for row in rows], dtype=np.bool_),
            np.array([row.start_s for row in rows], dtype=np.float64),
            np.array([row.duration_s for row in rows], dtype=np.float64),
            np.array([row.outcome.value for row in rows], dtype=np.str_),
            np.array([row.backend for row in rows], dtype=np.str_),
        )

    def __len__(self) -> int:
        return len(self.start_s)

    @property
    def failures(self) -> dict[str, int]:
        """How many requests failed, by outcome; empty if none did."""
        failed = self.outcome[self.outcome != Outcome.OK.value]
        return dict(Counter(failed.tolist()))

    @property
    def new(self) -> Samples:
        """The requests of short connections: each went where the ring says now."""
        return self._where(~self.held)

    def between(self, from_s: float, to_s: float) -> Samples:
        """The requests that were asked in a span of time, its end excluded."""
        return self._where((self.start_s >= from_s) & (self.start_s < to_s))

    def count(self) -> dict[str, int]:
        """Good answers by backend."""
        good = self.backend[self.outcome == Outcome.OK.value]
        return dict(Counter(good.tolist()))

    def shares(self) -> dict[str, float]:
        """Good answers by backend, as parts of one."""
        counts = self.count()
        total = sum(counts.values())
        return {backend: count / total for backend, count in counts.items()}

    def _where(self, chosen: NDArray[np.bool_]) -> Samples:
        return Samples(
            self.connection[chosen],
            self.held[chosen],
            self.start_s[chosen],
            self.duration_s[chosen],
            self.outcome[chosen],
            self.backend[chosen],
        )
