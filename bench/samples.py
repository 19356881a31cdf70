"""Figures of repeated measurements, and whether to believe them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """The middle of some measurements and how far apart they are.

    `spread` is the interquartile range as a share of the median.
    """

    median: float
    low: float
    high: float
    count: int

    @property
    def spread(self) -> float:
        """The interquartile range as a share of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0

    def as_dict(self) -> dict[str, float]:
        """For a JSON file."""
        return {
            "median": round(self.median, 4),
            "quartile_1": round(self.low, 4),
            "quartile_3": round(self.high, 4),
            "rounds": self.count,
        }


def summarise(values: Sequence[float]) -> Summary:
    """Summarise at least one measurement."""
    if len(values) == 1:
        return Summary(values[0], values[0], values[0], 1)
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Summary(median, low, high, len(values))
