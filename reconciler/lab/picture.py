"""The demo's picture: share of new connections per backend over time, with the edits marked.

Needs matplotlib (the extra `demo`), which is imported when a picture is drawn.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconciler.lab.phase import Phase
from reconciler.lab.sample import Outcome
from reconciler.lab.samples import Samples

BIN_S = 0.25

# Okabe and Ito's palette, which colour-blind readers can tell apart (jfly.uni-koeln.de/color).
_COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#0072B2", "#D55E00")
_INK, _FAINT, _FAILURE = "#222222", "#777777", "#D55E00"
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.edgecolor": _FAINT,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "xdplb",
}


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_picture(samples: Samples, phases: Sequence[Phase], path: Path) -> None:
    """Draw the shares, bin by bin, and write the picture.

    Args:
        samples: of the whole load; held connections count in the footer only.
        phases: in order; the first begins the picture and the last ends it.
        path: its suffix chooses the format: .svg, .png, .pdf.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: the suffix is no format.
        OSError: the file can't be written.
    """
    import matplotlib as mpl  # noqa: PLC0415 - an extra
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 5.4), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(6, 1))
        _draw_shares(above, samples, phases)
        _draw_rate(below, samples, phases)
        figure.suptitle(
            "Share of new connections per backend", x=0.01, ha="left", size=13, weight="bold"
        )
        figure.supxlabel(_footer(samples), size=9, color=_FAINT)
        dateless = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, dpi=150, metadata=dateless)


def bin_shares(
    samples: Samples, from_s: float, to_s: float, backends: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of each backend in the good answers of each bin.

    Returns:
        The bins' edges in seconds after `from_s`, and an array of one row a
        backend and one column a bin. A bin without answers holds zeros.
    """
    edges = np.arange(0.0, max(to_s - from_s, BIN_S) + BIN_S / 2, BIN_S)
    good = samples.new.between(from_s, to_s)
    answered = good.outcome == Outcome.OK.value
    counts = np.array(
        [
            np.histogram(good.start_s[answered & (good.backend == backend)] - from_s, edges)[0]
            for backend in backends
        ],
        dtype=np.float64,
    )
    total = counts.sum(axis=0)
    return edges, np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)


def _draw_shares(axes: Any, samples: Samples, phases: Sequence[Phase]) -> None:
    begin_s, end_s = phases[0].settled_s, phases[-1].end_s
    backends = sorted({backend for phase in phases for backend in phase.weights})
    edges, shares = bin_shares(samples, begin_s, end_s, backends)
    tops = np.cumsum(shares, axis=0)
    for row, backend in enumerate(backends):
        bottom = tops[row - 1] if row else np.zeros_like(tops[row])
        colour = _COLOURS[row % len(_COLOURS)]
        axes.stairs(tops[row], edges, baseline=bottom, fill=True, color=colour, alpha=0.85)
        _name_backend(axes, backend, backends, phases)
    for phase in phases:
        _draw_expected(axes, phase, samples, backends, begin_s)
    for phase in phases[1:]:
        _mark_edit(axes, phase, begin_s)
    axes.set(xlim=(0, edges[-1]), ylim=(0, 1), yticks=np.linspace(0, 1, 5))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.spines[["top", "right"]].set_visible(False)


def _layers(phase: Phase, backends: Sequence[str]) -> list[tuple[str, float, float]]:
    """Backends of a phase with the lower and upper edge that their layers should have."""
    expected = phase.expected
    present = [backend for backend in backends if expected.get(backend)]
    tops = np.cumsum([expected[backend] for backend in present]).tolist()
    return list(zip(present, [0.0, *tops[:-1]], tops, strict=True))


def _draw_expected(
    axes: Any, phase: Phase, samples: Samples, backends: Sequence[str], begin_s: float
) -> None:
    span = (phase.settled_s - begin_s, phase.end_s - begin_s)
    measured = phase.measured(samples)
    for backend, bottom, top in _layers(phase, backends):
        if top < 1.0 - 1e-9:
            axes.hlines(top, *span, colors=_INK, linestyles=(0, (4, 3)), linewidth=1.1)
        words = f"{measured.get(backend, 0.0):.1%}"
        place = (span[1], (bottom + top) / 2)
        axes.annotate(words, place, (-8, 0), textcoords="offset points", ha="right", va="center")


def _name_backend(
    axes: Any, backend: str, backends: Sequence[str], phases: Sequence[Phase]
) -> None:
    """Write the backend's address where its layer begins."""
    first = next(phase for phase in phases if backend in phase.weights)
    left_s = first.settled_s - phases[0].settled_s
    for name, bottom, top in _layers(first, backends):
        if name == backend:
            place = (left_s, (bottom + top) / 2)
            axes.annotate(
                backend, place, (6, 0), textcoords="offset points", va="center", weight="bold"
            )


def _mark_edit(axes: Any, phase: Phase, begin_s: float) -> None:
    saved_s, settled_s = phase.saved_s - begin_s, phase.settled_s - begin_s
    axes.axvspan(saved_s, settled_s, color="white", alpha=0.35, linewidth=0)
    axes.axvline(saved_s, color=_INK, linewidth=1.3)
    moved = "".join(f"\n{move.moved / move.size:.1%} of slots move" for move in phase.moves)
    axes.annotate(
        f"{phase.title}{moved}",
        (saved_s, 1.0),
        (0, 5),
        textcoords="offset points",
        annotation_clip=False,
        va="bottom",
        size=9,
    )


def _draw_rate(axes: Any, samples: Samples, phases: Sequence[Phase]) -> None:
    begin_s, end_s = phases[0].settled_s, phases[-1].end_s
    edges = np.arange(0.0, end_s - begin_s + BIN_S / 2, BIN_S)
    good = samples.outcome == Outcome.OK.value
    start_s = samples.start_s - begin_s
    answered = np.histogram(start_s[good], edges)[0] / BIN_S
    failed = np.histogram(start_s[~good], edges)[0] / BIN_S
    axes.stairs(answered, edges, color=_FAINT, alpha=0.45, fill=True)
    axes.stairs(failed, edges, color=_FAILURE, fill=True)
    axes.set(xlabel="seconds", ylabel="answers/s")
    axes.set_ylim(0, None)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)


def _footer(samples: Samples) -> str:
    failures = sum(samples.failures.values())
    held = len(np.unique(samples.connection[samples.held]))
    sums = f"{len(samples):,} requests, {failures} failures, {held} connections held throughout"
    return f"{sums}   |   dashed: expected   |   pale: until the kernel was seen to follow the file"
