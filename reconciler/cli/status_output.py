"""A survey in words, as `xdplb status` prints it."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.cli.columns import Cell, Column, align
from reconciler.cli.flow_table import render_flow_table
from reconciler.cli.override_output import count_connections, render_overrides
from reconciler.conditions import Condition
from reconciler.config.values import format_address_port
from reconciler.diagnostics import Paint
from reconciler.figures import format_age, format_share
from reconciler.model import DOWN_PERCENT, BackendState, XdpMode
from reconciler.override_store import list_overrides
from reconciler.status import Attempt
from reconciler.survey import Controller, Survey, SurveyedBackend, SurveyedService
from reconciler.tables import Attachment

_COLUMNS = (
    *(Column(title) for title in ("  backend", "address", "state")),
    *(Column(title, is_number=True) for title in ("weight", "slots", "share", "expected")),
    *(Column(title, is_number=True) for title in ("packets", "new flows", "replies")),
)
_STATE_ROLES = {BackendState.DRAIN: "warning", BackendState.MAINT: "error"}
_SUCCESSES = ("applied", "in_sync")
_PASSES_SHOWN = 10


def render_status(survey: Survey, paint: Paint, *, verbose: bool) -> Iterator[str]:
    """Yield the lines for people."""
    yield f"instance {survey.name}, generation {survey.generation}"
    yield from _render_controller(survey.controller, survey.at, paint)
    for name, interface in survey.interfaces.items():
        yield _render_interface(name, interface, paint)
    yield f"ring fingerprint: {survey.ring_fingerprint}"
    for service in survey.services:
        yield from _render_service(service, paint)
    yield from _render_overrides(survey)
    flow_table = {**survey.fills["flows"]._asdict(), "events": survey.flow_events}
    yield from render_flow_table(flow_table, verbose=verbose)
    yield from _render_verdicts(survey, paint, verbose=verbose)
    if verbose:
        yield from _render_history(survey)


# --- the controller ---


def _render_controller(controller: Controller, now: float, paint: Paint) -> Iterator[str]:
    if controller.pid is None:
        yield f"controller: {paint('not running', 'warning')}; the data plane goes on"
    else:
        yield f"controller: running, pid {controller.pid}"
    if controller.account is not None:
        attempt, good = controller.account.last_attempt, controller.account.last_good
        yield _render_attempt(attempt, now, paint)
        if good and good.at != attempt.at:
            yield f"still running {good.sha256[:12]}, good since {format_age(good.at, now)}"
    if controller.pid is not None:  # what an ended controller believed is of no use
        for condition in controller.conditions:
            yield from _render_condition(condition, now, paint)


def _render_attempt(attempt: Attempt, now: float, paint: Paint) -> str:
    role = "good" if attempt.result in _SUCCESSES else "error"
    words = f"last reload: {paint(attempt.result.upper(), role)} {format_age(attempt.at, now)}"
    words += f" ({attempt.sha256[:12]})" if attempt.sha256 else ""
    return words + (f": {attempt.message}" if attempt.message else "")


def _render_condition(condition: Condition, now: float, paint: Paint) -> Iterator[str]:
    """Only what is not as it should be: every condition is good when it is so."""
    if not condition.status:
        what = paint(f"not {condition.type}", "error")
        why = f": {condition.message}" if condition.message else ""
        yield f"{what} ({condition.reason}) since {format_age(condition.since, now)}{why}"


def _render_interface(name: str, interface: Attachment, paint: Paint) -> str:
    words = f"interface {name}: {interface.mode.value} XDP"
    if interface.mode is not XdpMode.NATIVE:
        words += paint(" (in the stack: slower than native)", "warning")
    return words if interface.ifindex else words + paint(" - GONE", "error")


# --- services ---


def _render_service(service: SurveyedService, paint: Paint) -> Iterator[str]:
    yield ""
    yield f"service {describe_service(service)}, ring of {service.ring_size}"
    yield f"  ring fingerprint: {service.ring_fingerprint}"
    if service.is_panicking:
        words = "too few backends are up: flows go to those that are down as well"
        yield f"  {paint('PANIC', 'error')}: {words}"
    if service.remembers_for_s is not None:
        yield f"  moved slots remember for {service.remembers_for_s:.0f} s more"
    yield from align(_COLUMNS, [_list_cells(one) for one in service.backends], paint)


def describe_service(service: SurveyedService) -> str:
    """Return, for example, `web: 192.0.2.10 port 443/tcp`."""
    vips = ", ".join(str(endpoint.address) for endpoint in service.endpoints)
    if not service.endpoints:
        return f"{service.name}: no VIP"
    first = service.endpoints[0]
    return f"{service.name}: {vips} port {first.port}/{first.protocol.name.lower()}"


def _list_cells(backend: SurveyedBackend) -> list[Cell]:
    counters = backend.counters
    return [
        Cell(f"  {backend.name}"),
        Cell(format_address_port(backend.address, backend.port)),
        describe_state(backend),
        Cell(str(backend.weight)),
        Cell(str(backend.slots)),
        Cell(format_share(backend.share)),
        Cell(format_share(backend.expected_share)),
        *(Cell(str(n)) for n in (counters.packets, counters.new_flows, counters.reply_packets)),
    ]


def describe_state(backend: SurveyedBackend) -> Cell:
    """Return what the operator wants of a backend, and its health where that is worse."""
    words = backend.state.name.lower()
    role = _STATE_ROLES.get(backend.state, "")
    if backend.state is BackendState.DRAIN:
        words += f", {count_connections(backend.connections)}"
    if backend.leaves_in_s is not None:
        words += f", leaves in {backend.leaves_in_s:.0f} s"
    if backend.is_up is False:
        detail = backend.standing.detail if backend.standing else ""
        return Cell(f"{words}, DOWN ({detail})" if detail else f"{words}, DOWN", "error")
    if backend.withheld_percent:
        words += f", starts at {DOWN_PERCENT - backend.withheld_percent} %"
    return Cell(words, role)


# --- what else there is ---


def _render_overrides(survey: Survey) -> Iterator[str]:
    lines = render_overrides(list_overrides(survey.overrides, survey.staying), survey.at)
    if survey.overrides_problem:
        lines = [f"  unknown: {survey.overrides_problem}"]
    if lines:
        yield "\noverrides"
    yield from lines


def _render_verdicts(survey: Survey, paint: Paint, *, verbose: bool) -> Iterator[str]:
    shown = {name: count for name, count in survey.verdicts.items() if count or verbose}
    if shown:
        yield "\nverdicts"
    for name, count in shown.items():
        is_drop = name.startswith("drop_") and count
        number = paint(str(count), "warning") if is_drop else str(count)
        yield f"  {name:<18} {number}"


def _render_history(survey: Survey) -> Iterator[str]:
    if survey.history:
        yield "\nlast passes"
    for record in survey.history[-_PASSES_SHOWN:]:
        words = [format_age(record.at, survey.at), record.result, f"generation {record.generation}"]
        if record.writes:
            words.append(f"{record.writes} writes, {record.slots_moved} slots moved")
        yield "  " + ", ".join([*words, *filter(None, [record.message])])
