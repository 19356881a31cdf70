"""docs/benchmark.md: the figures of one real run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.tables import Table, make_tables

_HEAD = """# Benchmark

Written by `sudo make bench` from one run of {date}, which took {minutes} minutes.
What is measured, and why it can be believed: [bench/README.md](../bench/README.md). Figures of
a loaded machine are marked as disturbed.

![Cost of a packet, and packets per second as a share of a bare redirect](images/bench.svg)

## Machine

{machine}
"""


def write_document(results: dict[str, Any], path: Path) -> None:
    """Write the page anew.

    Raises:
        OSError: the file can't be written.
    """
    machine = "\n".join(f"- {name}: {value}" for name, value in results["machine"].items())
    head = _HEAD.format(
        date=results["date"], minutes=round(results["elapsed_s"] / 60, 1), machine=machine
    )
    parts = [head, *(_format_table(table) for table in make_tables(results))]
    path.write_text("\n".join(parts), encoding="utf-8")


def _format_table(table: Table) -> str:
    lines: Iterable[str] = (
        _format_row(row) for row in (table.heads, ["---"] * len(table.heads), *table.rows)
    )
    return "\n".join((f"## {table.title}", "", table.note.replace("*", r"\*"), "", *lines, ""))


def _format_row(cells: Iterable[str]) -> str:
    escaped = (cell.replace("*", r"\*") for cell in cells)
    return f"| {' | '.join(escaped)} |"
