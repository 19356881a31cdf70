"""Whether somebody else used the machine while something was measured.

What runs on this CPU is the measurement's own; what counts is the time that the hypervisor
took away (steal) and what other CPUs were busy with, since cores share a cache and a clock.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# Fields of a cpu line in /proc/stat (proc(5)), in clock ticks.
_BUSY = (1, 2, 3, 6, 7)  # user, nice, system, irq, softirq
_STEAL = 8


@dataclass(frozen=True)
class Usage:
    """Time since boot, in seconds: `busy_s` by CPU, `steal_s` of all."""

    busy_s: tuple[float, ...]
    steal_s: float

    def since(self, before: Usage) -> Usage:
        """What was used between the two."""
        return Usage(
            tuple(now - then for now, then in zip(self.busy_s, before.busy_s, strict=True)),
            self.steal_s - before.steal_s,
        )


def parse_usage(stat: str) -> Usage:
    """Read the text of /proc/stat."""
    rows = [line.split() for line in stat.splitlines() if line.startswith("cpu")]
    busy = tuple(sum(int(row[field]) for field in _BUSY) / _TICKS_PER_SECOND for row in rows[1:])
    return Usage(busy, int(rows[0][_STEAL]) / _TICKS_PER_SECOND)


def read_usage() -> Usage:
    """What the machine has used so far."""
    return parse_usage(Path("/proc/stat").read_text(encoding="ascii"))


@dataclass(frozen=True)
class Disturbance:
    """Shares of the time that was measured, from 0 to 1."""

    others: float
    steal: float

    @property
    def is_quiet(self) -> bool:
        """Whether what was measured can be believed."""
        return self.others <= 0.10 and self.steal <= 0.02

    def __str__(self) -> str:
        return f"other CPUs {self.others:.0%} busy, {self.steal:.1%} stolen"


def judge(used: Usage, elapsed_s: float, own_cpus: set[int]) -> Disturbance:
    """What others did in `elapsed_s` seconds, while the measurement had `own_cpus`."""
    others = [busy for cpu, busy in enumerate(used.busy_s) if cpu not in own_cpus]
    busiest = max(others, default=0.0)
    return Disturbance(
        busiest / elapsed_s, used.steal_s / (elapsed_s * len(used.busy_s)) if elapsed_s else 0.0
    )
