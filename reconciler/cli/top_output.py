"""Rates in words, as `xdplb top` shows them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from reconciler.cli.columns import Cell, Column, align
from reconciler.cli.status_output import describe_service, describe_state
from reconciler.diagnostics import Paint
from reconciler.figures import format_rate, format_share
from reconciler.rates import Rate, Rates
from reconciler.survey import Survey, SurveyedBackend, SurveyedService

_UNKNOWN = "-"
_COLUMNS = (
    Column("  backend"),
    Column("state"),
    *(Column(title, is_number=True) for title in ("new flows/s", "share", "expected")),
    *(Column(title, is_number=True) for title in ("packets/s", "Mbit/s", "replies/s")),
    Column("remembered", is_number=True),
)
_VERDICTS = (
    Column("  verdict"),
    Column("packets/s", is_number=True),
    Column("packets", is_number=True),
)
# A share is off when it differs from what is expected by a tenth of that, and by more than
# chance makes likely: 4 standard deviations of a count.
_TOLERANCE = 0.1
_DEVIATIONS = 4.0


def render_top(
    survey: Survey, rates: Rates | None, paint: Paint, *, verbose: bool = False
) -> list[str]:
    """Return the lines of one refresh; without rates, of the moment before the first."""
    return list(_render(survey, rates, paint, verbose=verbose))


def _render(survey: Survey, rates: Rates | None, paint: Paint, *, verbose: bool) -> Iterator[str]:
    over = f", rates over {rates.seconds:.1f} s" if rates else ", counting"
    yield f"instance {survey.name}, generation {survey.generation}{over}"
    yield from _render_trouble(survey, paint)
    for service in survey.services:
        yield ""
        yield f"service {describe_service(service)}{_summarise(service, rates)}"
        rows = [_list_cells(service, backend, rates) for backend in service.backends]
        yield from align(_COLUMNS, rows, paint)
    yield ""
    yield from align(_VERDICTS, list(_list_verdicts(survey, rates, verbose=verbose)), paint)
    entries, capacity = survey.fills["flows"]
    yield f"\nremembered flows: {entries:,} of {capacity:,}"


def _render_trouble(survey: Survey, paint: Paint) -> Iterator[str]:
    """What would explain odd rates, and where to read on."""
    problems = []
    if survey.controller.pid is None:
        problems.append("no controller runs")
    if not survey.is_ready:
        problems.append("not ready")
    problems += [f"{one.name} panics" for one in survey.services if one.is_panicking]
    if problems:
        yield paint(f"{', '.join(problems)}: see xdplb status", "warning")


def _summarise(service: SurveyedService, rates: Rates | None) -> str:
    if rates is None:
        return ""
    rate = rates.services[service.name]
    return (
        f": {format_rate(rate.new_flows)} new flows/s, {format_rate(rate.packets)} packets/s,"
        f" {format_rate(rate.bits / 1e6)} Mbit/s, {format_rate(rate.reply_packets)} replies/s"
    )


def _list_cells(
    service: SurveyedService, backend: SurveyedBackend, rates: Rates | None
) -> list[Cell]:
    rate = rates.backends[service.name, backend.name] if rates else None

    def say(read: Callable[[Rate], float]) -> Cell:
        return Cell(_UNKNOWN if rate is None else format_rate(read(rate)))

    return [
        Cell(f"  {backend.name}"),
        describe_state(backend),
        say(lambda r: r.new_flows),
        _judge_share(service, backend, rates),
        Cell(format_share(backend.expected_share)),
        say(lambda r: r.packets),
        say(lambda r: r.bits / 1e6),
        say(lambda r: r.reply_packets),
        Cell(f"{backend.connections:,}"),
    ]


def _judge_share(service: SurveyedService, backend: SurveyedBackend, rates: Rates | None) -> Cell:
    """A backend's part of the new flows, marked where it is not what its weight says."""
    share = rates.find_share(service.name, backend.name) if rates else None
    if rates is None or share is None:
        return Cell(_UNKNOWN)
    flows = rates.services[service.name].new_flows * rates.seconds
    expected, got = flows * backend.expected_share, flows * share
    is_off = abs(got - expected) > max(_TOLERANCE * expected, _DEVIATIONS * math.sqrt(expected))
    return Cell(format_share(share), "warning" if is_off else "")


def _list_verdicts(survey: Survey, rates: Rates | None, *, verbose: bool) -> Iterator[list[Cell]]:
    for name, count in survey.verdicts.items():
        rate = rates.verdicts[name] if rates else None
        if count or verbose:
            role = "warning" if name.startswith("drop_") and rate else ""
            shown = _UNKNOWN if rate is None else format_rate(rate)
            yield [Cell(f"  {name}"), Cell(shown, role), Cell(f"{count:,}")]
