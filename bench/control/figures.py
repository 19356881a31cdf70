"""What was measured, beside what was wanted, as JSON and as a table."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Figure:
    """One quantity, measured several times.

    Attributes:
        name: what it is.
        unit: of the values.
        limit: what it shall not exceed; None where nothing was promised.
        values: one a round.
    """

    name: str
    unit: str
    limit: float | None = None
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle of the values."""
        return statistics.median(self.values)

    @property
    def is_met(self) -> bool:
        """Whether the median is within the limit."""
        return self.limit is None or self.median <= self.limit

    def to_json(self) -> dict[str, Any]:
        """Return the figure for programs."""
        return {
            "name": self.name,
            "unit": self.unit,
            "limit": self.limit,
            "median": self.median,
            "lowest": min(self.values),
            "highest": max(self.values),
            "rounds": len(self.values),
            "met": self.is_met,
        }


def render_table(figures: list[Figure]) -> str:
    """Return the figures as a Markdown table."""
    lines = ["| what | median | lowest to highest | limit | |", "|---|---|---|---|---|"]
    for one in figures:
        limit = f"{one.limit:g} {one.unit}" if one.limit is not None else ""
        verdict = "" if one.limit is None else "met" if one.is_met else "MISSED"
        spread = f"{_show(min(one.values))} to {_show(max(one.values))}"
        lines.append(
            f"| {one.name} | {_show(one.median)} {one.unit} | {spread} | {limit} | {verdict} |"
        )
    return "\n".join(lines)


def _show(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
