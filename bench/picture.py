"""docs/images/bench.svg: what a packet costs, and what is left of a bare redirect's rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench import quotes

# Okabe and Ito's palette, which colour-blind readers can tell apart.
_OURS, _MANY, _OTHERS, _INK = "#0072B2", "#56B4E9", "#BBBBBB", "#222222"
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": _INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "xdplb",
}
_PICTURED = ("l2dsr", "ipip", "gue", "nat, in", "nat, reply")


def draw_picture(results: dict[str, Any], path: Path) -> None:
    """Draw what there is.

    Raises:
        ImportError: matplotlib is not installed (the extra `demo`).
        OSError: the file can't be written.
    """
    import matplotlib as mpl  # noqa: PLC0415 - an extra
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 4.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_packets(left, results["per_packet"]["figures"])
        if live := results.get("live"):
            _draw_shares(right, live["figures"])
        figure.savefig(path, metadata={"Date": None})


def _draw_packets(axes: Any, figures: dict[str, Any]) -> None:
    bars = [
        (
            f"xdplb {name}",
            figures[name]["1 flow"]["above_ns"]["median"],
            figures[name]["1 M flows"]["above_ns"]["median"],
            True,
        )
        for name in _PICTURED
    ]
    bars += [(f"{name} *", one, most, False) for name, (one, most) in quotes.PICTURED_NS.items()]
    for place, (_, one, most, is_ours) in enumerate(bars):
        colours = (_OURS, _MANY) if is_ours else ("#777777", _OTHERS)
        axes.barh(place - 0.2, one, 0.38, color=colours[0])
        axes.barh(place + 0.2, most, 0.38, color=colours[1])
        axes.annotate(
            f"{one:,.0f}; {most:,.0f}",
            (max(one, most), place),
            (4, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_yticks(range(len(bars)), [bar[0] for bar in bars])
    axes.invert_yaxis()
    axes.set_title("ns a packet above XDP_TX: 1 flow; 1 M flows", size=10)
    axes.set_xlim(0, 1250)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(f"* {quotes.SOURCE}", size=8)


def _draw_shares(axes: Any, figures: dict[str, Any]) -> None:
    names = [name for name in figures if not name.startswith("bare")]
    for place, name in enumerate(names):
        share = figures[name]["share"]["median"]
        axes.barh(place, share, 0.7, color=_OURS if name.startswith("xdplb") else _OTHERS)
        axes.annotate(
            f"{share:.2f}", (share, place), (4, 0), textcoords="offset points", va="center"
        )
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12)
    axes.set_title("packets a second, as a share of a bare redirect", size=10)
    axes.spines[["top", "right"]].set_visible(False)
