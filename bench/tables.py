"""The figures of a run as tables of text, for the terminal and for docs/benchmark.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench import quotes

# What has to be reached, in nanoseconds above the floor: 1 flow, 1 M flows.
TARGETS = {
    "l2dsr": (45, 70),
    "ipip": (65, 90),
    "gue": (90, 120),
    "nat, in": (70, 95),
    "nat, reply": (70, 95),
    "not ours": (20, 20),
    "not ours, nat on": (40, 40),
}


@dataclass(frozen=True)
class Table:
    """A title, what stands under it, column heads, rows."""

    title: str
    note: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def make_tables(results: dict[str, Any]) -> list[Table]:
    """The tables of a run's results, as they lie in the JSON file."""
    tables = []
    if per_packet := results.get("per_packet"):
        tables += [_above(per_packet), _raw(per_packet)]
    if live := results.get("live"):
        tables.append(_live(live))
    if connections := results.get("connections"):
        tables.append(_connections(connections))
    if scaling := results.get("scaling"):
        tables.append(_scaling(scaling))
    return tables


def _spread(summary: dict[str, float], digits: int = 0) -> str:
    low, high = summary["quartile_1"], summary["quartile_3"]
    return f"{summary['median']:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def _names(figures: dict[str, Any]) -> Iterator[str]:
    yield from (name for name in figures if not name.startswith("floor"))


def _above(per_packet: dict[str, Any]) -> Table:
    flows = per_packet["flows"]
    rows = []
    for name in _names(per_packet["figures"]):
        figures = per_packet["figures"][name]
        cells = [_spread(figures[each]["above_ns"]) for each in flows]
        target = TARGETS.get(name)
        rows.append([name, *cells, f"{target[0]}; {target[1]}" if target else ""])
    for name, (one, many, most, syns, other) in quotes.PER_PACKET.items():
        rows.append([f"{name} *", one, many, most, syns, "", f"not ours: {other}" if other else ""])
    note = (
        f"Medians and quartiles; {per_packet['disturbance']}. Target: 1 flow; 1 M flows."
        f" *: {quotes.SOURCE}."
    )
    heads = ["program", *flows, "target"]
    return Table("Nanoseconds a packet, above the floor", note, heads, rows)


def _raw(per_packet: dict[str, Any]) -> Table:
    flows = per_packet["flows"]
    rows = [
        [name, *(f"{figures[each]['raw_ns']['median']:,.0f}" for each in flows)]
        for name, figures in per_packet["figures"].items()
    ]
    note = "The same before the floor was taken off: the driver's own part is in them."
    return Table("Nanoseconds a packet, raw", note, ["program", *flows], rows)


def _live(live: dict[str, Any]) -> Table:
    rows = []
    for name, figures in live["figures"].items():
        millions = {key: value / 1e6 for key, value in figures["per_second"].items()}
        lost = f"{figures['lost']:,} of {figures['sent']:,}"
        rows.append([name, _spread(millions, 2), _spread(figures["share"], 2), lost])
    for name, (steady, flood) in quotes.SHARES.items():
        rows.append([f"{name} *", "", f"{steady}; SYN flood {flood}", ""])
    note = f"Medians and quartiles; {live['disturbance']}. *: {quotes.SOURCE}."
    heads = ["program", "million a second", "share of a bare redirect", "lost"]
    return Table("Packets per second over veth, one core", note, heads, rows)


def _scaling(scaling: dict[str, Any]) -> Table:
    rows = [
        [name, *(_spread(figures[each]["above_ns"]) for each in scaling["flows"])]
        for name, figures in scaling["figures"].items()
    ]
    note = f"l2dsr, nanoseconds above the floor; {scaling['disturbance']}."
    return Table("Sizes", note, ["tables", *scaling["flows"]], rows)


def _connections(connections: dict[str, Any]) -> Table:
    rows = []
    for name, figures in connections["figures"].items():
        rows.append(
            [
                name,
                _spread(figures["per_second"]),
                _spread(figures["p50_ms"], 2),
                _spread(figures["p99_ms"], 2),
                _spread(figures["cpu_us"]),
            ]
        )
    rows += [[name, reason, "", "", ""] for name, reason in connections["skipped"].items()]
    note = f"Client, server and balancer share the CPUs; {connections['disturbance']}."
    heads = ["program", "new connections a second", "p50, ms", "p99, ms", "CPU a connection, us"]
    return Table("Real connections", note, heads, rows)
