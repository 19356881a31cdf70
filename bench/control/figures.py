"""What was measured, beside what was wanted, as JSON and as a table."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class Figure:
    """One quantity, measured several times.

    Attributes:
        name: what it is.
        unit: of the values.
        limit: what it shall not exceed; None where nothing was promised.
        values: one a round.
        cpu_s: what was computed for it, one a round; empty where nobody has looked.
    """

    name: str
    unit: str
    limit: float | None = None
    values: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

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
            "cpu_s": statistics.median(self.cpu_s) if self.cpu_s else None,
            "met": self.is_met,
        }


def render_table(figures: list[Figure]) -> str:
    """Return the figures as a Markdown table."""
    lines = ["| what | median | lowest to highest | CPU | limit | |", "|---|---|---|---|---|---|"]
    for one in figures:
        limit = f"{one.limit:g} {one.unit}" if one.limit is not None else ""
        verdict = "" if one.limit is None else "met" if one.is_met else "MISSED"
        spread = f"{_show(min(one.values))} to {_show(max(one.values))}"
        lines.append(
            f"| {one.name} | {_show(one.median)} {one.unit} | {spread} | {_show_cpu(one)}"
            f" | {limit} | {verdict} |"
        )
    return "\n".join(lines)


def _show_cpu(one: Figure) -> str:
    return f"{_show(statistics.median(one.cpu_s))} s" if one.cpu_s else ""


def _show(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
