"""`sudo make bench`: measure everything, print it, and write JSON, a picture and a page."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table as RichTable

from bench import connections, live, per_packet
from bench.document import write_document
from bench.machine import describe_machine
from bench.objects import ROOT
from bench.packets import ALL_FLOWS
from bench.per_packet import Measured
from bench.picture import draw_picture
from bench.samples import Summary
from bench.tables import make_tables
from reconciler.errors import XdplbError
from reconciler.lab.lab import sweep_stale
from reconciler.lab.namespaces import require_root_and_tools
from reconciler.lab.process import termination_raised

PARTS = ("per-packet", "live", "connections", "scaling")


def _encode(summaries: dict[str, Summary]) -> dict[str, Any]:
    return {name: summary.as_dict() for name, summary in summaries.items()}


def _encode_packets(found: Mapping[tuple[str, str], Measured], disturbance: str) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for (name, flows), measured in found.items():
        raw, above = measured.summarise()
        figures.setdefault(name, {})[flows] = _encode({"raw_ns": raw, "above_ns": above})
    return {
        "disturbance": disturbance,
        "flows": [flows.name for flows in ALL_FLOWS],
        "figures": figures,
    }


def measure_per_packet(is_quick: bool, progress: Callable[[str], None]) -> dict[str, Any]:
    """Nanoseconds, by program and flows."""
    rounds, packets = (3, 100_000) if is_quick else (9, 250_000)
    return _encode_packets(*per_packet.measure(rounds=rounds, packets=packets, progress=progress))


def measure_scaling(is_quick: bool, progress: Callable[[str], None]) -> dict[str, Any]:
    """Nanoseconds, by the tables' sizes and flows."""
    rounds, packets = (3, 100_000) if is_quick else (7, 200_000)
    return _encode_packets(
        *per_packet.measure_sizes(rounds=rounds, packets=packets, progress=progress)
    )


def measure_live(is_quick: bool, progress: Callable[[str], None]) -> dict[str, Any]:
    """Packets per second, by program."""
    rounds, packets = (3, 100_000) if is_quick else (11, 300_000)
    found, disturbance = live.measure(rounds=rounds, packets=packets, progress=progress)
    figures = {}
    for name, measured in found.items():
        rate, share = measured.summarise()
        sums = {"sent": measured.sent, "lost": measured.lost}
        figures[name] = _encode({"per_second": rate, "share": share}) | sums
    return {"disturbance": disturbance, "figures": figures}


def measure_connections(is_quick: bool, progress: Callable[[str], None]) -> dict[str, Any]:
    """Connections per second, latency and CPU, by program."""
    rounds, count = (2, 2000) if is_quick else (5, 4000)
    found, skipped, disturbance = connections.measure(
        rounds=rounds, connections=count, progress=progress
    )
    figures = {name: _encode(measured.summarise()) for name, measured in found.items()}
    return {"disturbance": disturbance, "figures": figures, "skipped": skipped}


MEASURES = {
    "per-packet": measure_per_packet,
    "live": measure_live,
    "connections": measure_connections,
    "scaling": measure_scaling,
}


def print_tables(results: dict[str, Any], console: Console) -> None:
    """Print what was found."""
    for table in make_tables(results):
        shown = RichTable(title=table.title, caption=table.note, title_justify="left")
        for number, head in enumerate(table.heads):
            shown.add_column(head, justify="right" if number else "left")
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)


@click.command()
@click.option("--quick", is_flag=True, help="Fewer rounds: half a minute, for a look.")
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="Not everything.")
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("bench.json"),
    show_default=True,
    help="Where the figures go.",
)
@click.option("--docs", is_flag=True, help="Write docs/benchmark.md and its picture anew.")
def main(quick: bool, only: tuple[str, ...], json_path: Path, docs: bool) -> None:
    """Measure xdplb beside a floor and beside what else could be used."""
    log = Console(stderr=True)
    start_s = time.monotonic()
    results: dict[str, Any] = {
        "machine": describe_machine(),
        "date": time.strftime("%Y-%m-%d"),
        "is_quick": quick,
    }
    try:
        require_root_and_tools()
        sweep_stale()
        with termination_raised():
            for part in only or PARTS:
                measure = MEASURES[part]
                results[part.replace("-", "_")] = measure(
                    quick, lambda line, part=part: log.print(f"[dim]{part}: {line}[/]")
                )
    except XdplbError as error:
        log.print(f"[red]bench: {error}[/]")
        sys.exit(1)
    results["elapsed_s"] = round(time.monotonic() - start_s, 1)
    json_path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print_tables(results, Console())
    if docs:
        draw_picture(results, ROOT / "docs" / "images" / "bench.svg")
        write_document(results, ROOT / "docs" / "benchmark.md")


if __name__ == "__main__":
    main()
