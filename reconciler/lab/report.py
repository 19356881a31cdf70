"""What the demo tells its reader, as lines and tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from reconciler.lab.controller import PlanReport
from reconciler.lab.lab import Lab
from reconciler.lab.phase import Phase
from reconciler.lab.sample import Outcome
from reconciler.lab.samples import Samples

_BAR_WIDTH = 60


def describe_entry(lab: Lab) -> str:
    """How to enter a laboratory that is left up, and how to take it away."""
    hosts = (lab.client, lab.balancer, *lab.backends)
    width = max(len(host.name) for host in hosts)
    lines = [f"  {host.name:<{width}}  {' '.join(host.entry)} bash" for host in hosts]
    file = f"its lb.yaml: {lab.directory / 'lb.yaml'}"
    return "\n".join(["The laboratory stays up.", *lines, file, "take it away: xdplb demo --clean"])


def describe_plan(report: PlanReport) -> list[str]:
    """A plan in a line for each change and each ring."""
    lines = [f"{actions} {address}" for address, actions in report.changes]
    for move in report.moves:
        lines.append(
            f"{move.moved:,} of {move.size:,} slots of {move.service} move"
            f" ({move.moved / move.size:.1%}); the least possible is {move.least:,}"
        )
    return [f"{'plan:' if number == 0 else '':6}{line}" for number, line in enumerate(lines)]


def tabulate_recent(phase: Phase, samples: Samples, from_s: float) -> Table:
    """Shares of a phase since a point in time, with bars, and the sums of the whole load."""
    table = Table.grid(padding=(0, 2))
    shares = samples.new.between(from_s, phase.end_s).shares()
    for backend, expected in phase.expected.items():
        share = shares.get(backend, 0.0)
        bar = "#" * round(share * _BAR_WIDTH)
        table.add_row(f"  {backend}", f"{share:6.1%}", f"of {expected:.1%}", bar)
    failures = sum(samples.failures.values())
    table.add_row("  requests", f"{len(samples):,}", f"{failures} failed")
    return table


def tabulate_phases(samples: Samples, phases: Sequence[Phase]) -> Table:
    """Share against expected share of every backend in every phase."""
    table = Table(title="share of new connections (expected)", title_justify="left")
    table.add_column("backend")
    for phase in phases:
        table.add_column(phase.title, justify="right")
    measured = [phase.measured(samples) for phase in phases]
    for backend in sorted({name for phase in phases for name in phase.weights}):
        cells = [
            _format_cell(shares.get(backend), phase.expected.get(backend))
            for phase, shares in zip(phases, measured, strict=True)
        ]
        table.add_row(backend, *cells)
    return table


def _format_cell(share: float | None, expected: float | None) -> str:
    if share is None and expected is None:
        return "-"
    return f"{share or 0.0:.1%} ({expected or 0.0:.1%})"


def describe_totals(samples: Samples, phases: Sequence[Phase]) -> list[str]:
    """Requests and failures in words, held connections apart."""
    failures = samples.failures
    kinds = ", ".join(f"{count} {outcome}" for outcome, count in sorted(failures.items()))
    good = samples.outcome == Outcome.OK.value
    gone = ~np.isin(samples.backend, list(phases[-1].weights))
    late = samples.start_s >= phases[-1].settled_s
    held = _count_connections(samples, samples.held)
    broken = _count_connections(samples, samples.held & ~good)
    loyal = _count_connections(samples, samples.held & good & gone & late)
    return [
        f"requests: {len(samples):,}",
        f"failures: {sum(failures.values())}" + (f" ({kinds})" if kinds else ""),
        f"connections held through all edits: {held}, broken: {broken},"
        f" still served by a backend that lb.yaml no longer names: {loyal}",
    ]


def _count_connections(samples: Samples, chosen: NDArray[np.bool_]) -> int:
    return len(np.unique(samples.connection[chosen]))
