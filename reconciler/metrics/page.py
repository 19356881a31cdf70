"""The status page: one HTML document that needs nothing else, and changes nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timezone
from typing import NamedTuple

from reconciler.conditions import Condition
from reconciler.config.values import format_address_port
from reconciler.figures import format_age, format_rate, format_share
from reconciler.metrics.html import Content, Html, join, tag
from reconciler.metrics.style import STYLE
from reconciler.model import DOWN_PERCENT, BackendState
from reconciler.rates import Rate, Rates
from reconciler.status import Attempt
from reconciler.survey import Fill, Survey, SurveyedBackend, SurveyedService

# A page of thousands of backends takes a second to make.
_REFRESH_S, _SLOW_REFRESH_S = 5, 30
_MANY_BACKENDS = 500
_NOTHING = "-"
_SUCCESSES = ("applied", "in_sync")


def _hash_style() -> str:
    digest = hashlib.sha256(STYLE.encode()).digest()
    return base64.b64encode(digest).decode()


# Nothing is loaded, run, framed or sent: of everything that a page may do, only this style.
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_hash_style()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def render_page(name: str, survey: Survey | None, rates: Rates | None) -> str:
    """Return the document of the instance `name`."""
    refresh_s = _choose_refresh_s(survey)
    body = _render_instance(survey, rates, refresh_s) if survey else _render_absence(name)
    head = join(
        Html('<meta charset="utf-8">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html(f'<meta http-equiv="refresh" content="{refresh_s}">'),
        Html('<meta name="color-scheme" content="light dark">'),
        tag("title", f"xdplb {name}"),
        tag("style", Html(STYLE)),
    )
    return f"<!doctype html>\n{tag('html', tag('head', head), tag('body', body), lang='en')}\n"


def _choose_refresh_s(survey: Survey | None) -> int:
    backends = sum(len(service.backends) for service in survey.services) if survey else 0
    return _REFRESH_S if backends <= _MANY_BACKENDS else _SLOW_REFRESH_S


def _render_absence(name: str) -> Html:
    return join(
        tag("header", tag("h1", f"xdplb {name}"), _badge("no data plane", "bad")),
        tag("main", tag("p", "The instance is not in the kernel: it was detached.")),
    )


def _render_instance(survey: Survey, rates: Rates | None, refresh_s: int) -> Html:
    is_ready = survey.is_ready
    badge = _badge("ready", "good") if is_ready else _badge("not ready", "bad")
    header = tag("header", tag("h1", f"xdplb {survey.name}"), badge, _render_moment(survey, rates))
    return join(
        header,
        tag(
            "main",
            _render_controller(survey),
            *(_render_service(one, rates) for one in survey.services),
            _render_overrides(survey),
            tag("div", _render_verdicts(survey, rates), _render_fills(survey), class_="pair"),
        ),
        tag("footer", f"Refreshes every {refresh_s} s. Read only. Metrics: ",
            tag("a", "/metrics", href="/metrics")),
    )  # fmt: skip


def _render_moment(survey: Survey, rates: Rates | None) -> Html:
    over = f", rates over {rates.seconds:.0f} s" if rates else ""
    return tag("p", f"{_format_time(survey.at)}{over}", class_="moment")


def _badge(words: str, role: str) -> Html:
    return tag("strong", words, class_=f"badge {role}")


# --- tables ---


class _Column(NamedTuple):
    title: str
    is_number: bool = False


def _table(caption: str, columns: Sequence[_Column], rows: Iterable[Sequence[Content]]) -> Html:
    """A table whose first cells are its rows' headers; on a phone each row is a card."""
    kinds = ["number" if column.is_number else None for column in columns]
    titles = [
        tag("th", column.title, scope="col", class_=kind)
        for column, kind in zip(columns, kinds, strict=True)
    ]
    body = []
    for row in rows:
        cells = [tag("th", row[0], scope="row")]
        cells += [
            tag("td", cell, class_=kind, data_title=column.title)
            for cell, column, kind in zip(row[1:], columns[1:], kinds[1:], strict=True)
        ]
        body.append(tag("tr", *cells))
    return tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *titles)),
        tag("tbody", *body),
    )


# --- the controller ---


def _render_controller(survey: Survey) -> Html:
    facts = [_fact(title, value) for title, value in _list_facts(survey)]
    conditions = [_render_condition(one, survey.at) for one in survey.controller.conditions]
    return tag(
        "section",
        tag("h2", "Controller"),
        tag("dl", *facts),
        tag("ul", *conditions, class_="conditions") if conditions else None,
    )


def _fact(title: str, value: Content) -> Html:
    return tag("div", tag("dt", title), tag("dd", value))


def _list_facts(survey: Survey) -> Iterator[tuple[str, Content]]:
    controller, account = survey.controller, survey.controller.account
    if controller.pid is None:
        yield "Process", join(_badge("not running", "warn"), " the data plane goes on")
    else:
        yield "Process", f"pid {controller.pid}"
    yield "Generation", survey.generation
    yield "Ring fingerprint", tag("code", survey.ring_fingerprint)
    if account is not None:
        yield "File", tag("code", account.config_path)
        yield "Last reload", _describe_attempt(account.last_attempt, survey.at)
        good = account.last_good
        if good and good.at != account.last_attempt.at:
            yield "Still running", _describe_attempt(good, survey.at)
    for name, one in survey.interfaces.items():
        words = f"{name}: {one.mode.value} XDP"
        yield "Interface", words if one.ifindex else join(words, " ", _badge("gone", "bad"))


def _describe_attempt(attempt: Attempt, now: float) -> Html:
    role = "good" if attempt.result in _SUCCESSES else "bad"
    words = f" {format_age(attempt.at, now)}"
    words += f" ({attempt.sha256[:12]})" if attempt.sha256 else ""
    words += f": {attempt.message}" if attempt.message else ""
    return join(_badge(attempt.result.replace("_", " "), role), words)


def _render_condition(condition: Condition, now: float) -> Html:
    badge = _badge("yes", "good") if condition.status else _badge("no", "bad")
    words = f" {condition.reason}, since {format_age(condition.since, now)}"
    words += f": {condition.message}" if condition.message else ""
    return tag("li", badge, tag("span", tag("b", condition.type), words))


# --- services ---

_BACKEND_COLUMNS = (
    *(_Column(title) for title in ("Backend", "Address", "State", "Health", "Share of slots")),
    *(_Column(title, is_number=True) for title in ("New flows/s", "Share of them")),
    *(_Column(title, is_number=True) for title in ("Packets/s", "Mbit/s", "Replies/s")),
    _Column("Remembered flows", is_number=True),
)


def _render_service(service: SurveyedService, rates: Rates | None) -> Html:
    widest = max((max(b.share, b.expected_share) for b in service.backends), default=0.0)
    rows = [_list_cells(service, one, rates, widest) for one in service.backends]
    panic = "PANIC: too few backends are up, flows go to those that are down as well"
    return tag(
        "section",
        tag("h2", service.name),
        tag("p", _badge(panic, "bad")) if service.is_panicking else None,
        tag("p", *_describe_service(service, rates)),
        tag(
            "div",
            _table(f"Backends of {service.name}", _BACKEND_COLUMNS, rows),
            class_="wide",
            role="region",
            aria_label=f"Backends of {service.name}",
            tabindex=0,  # who has no mouse scrolls with the arrow keys
        ),
    )


def _describe_service(service: SurveyedService, rates: Rates | None) -> Iterator[Content]:
    if service.endpoints and service.forwarding:
        first = service.endpoints[0]
        vips = ", ".join(str(vip.address) for vip in service.endpoints)
        yield tag("code", f"{vips} port {first.port}/{first.protocol.name.lower()}")
        yield f", {service.forwarding.name.lower()}"
    yield f", ring of {service.ring_size:,}"
    if service.remembers_for_s is not None:
        yield f", moved slots remember for {service.remembers_for_s:.0f} s more"
    if rates is not None:
        rate = rates.services[service.name]
        yield f". {format_rate(rate.new_flows)} new flows, {format_rate(rate.packets)} packets"
        yield f" and {format_rate(rate.bits / 1e6)} Mbit a second"


def _list_cells(
    service: SurveyedService, backend: SurveyedBackend, rates: Rates | None, widest: float
) -> list[Content]:
    rate = rates.backends[service.name, backend.name] if rates else None
    share = rates.find_share(service.name, backend.name) if rates else None
    return [
        backend.name,
        tag("code", format_address_port(backend.address, backend.port)),
        _describe_state(backend),
        _describe_health(backend),
        _draw_share(backend, widest),
        _say(rate, lambda r: r.new_flows),
        _NOTHING if share is None else format_share(share),
        _say(rate, lambda r: r.packets),
        _say(rate, lambda r: r.bits / 1e6),
        _say(rate, lambda r: r.reply_packets),
        f"{backend.connections:,}",
    ]


def _say(rate: Rate | None, read: Callable[[Rate], float]) -> str:
    return _NOTHING if rate is None else format_rate(read(rate))


def _describe_state(backend: SurveyedBackend) -> Html:
    role = {BackendState.READY: "plain", BackendState.DRAIN: "warn"}.get(backend.state, "bad")
    leaves = backend.leaves_in_s
    note = "" if leaves is None else f" leaves in {leaves:.0f} s"
    return tag("span", _badge(backend.state.name.lower(), role), note)


def _describe_health(backend: SurveyedBackend) -> Content:
    if backend.is_up is None:
        return _NOTHING
    if backend.is_up:
        given = DOWN_PERCENT - backend.withheld_percent
        note = f" starts at {given} %" if backend.withheld_percent else ""
        return tag("span", _badge("up", "good"), note)
    detail = f" {backend.standing.detail}" if backend.standing else ""
    return tag("span", _badge("down", "bad"), detail)


def _draw_share(backend: SurveyedBackend, widest: float) -> Html:
    """A bar beside the number; a mark where the weight would have it end."""
    unit = 100 / widest if widest else 0.0
    at = f"{backend.expected_share * unit:.2f}"
    picture = tag(
        "svg",
        tag("rect", class_="track", width=100, height=8),
        tag("rect", class_="bar", width=f"{backend.share * unit:.2f}", height=8),
        tag("line", class_="mark", x1=at, x2=at, y1=0, y2=8),
        viewBox="0 0 100 8",
        preserveAspectRatio="none",
        aria_hidden="true",
    )
    words = tag("span", f"{format_share(backend.share)} ({backend.slots:,})")
    expected = format_share(backend.expected_share)
    note = None if expected == format_share(backend.share) else tag("small", f"expected {expected}")
    return tag("span", picture, words, note, class_="share")


# --- what else there is ---


def _render_overrides(survey: Survey) -> Html | None:
    if survey.overrides_problem:
        problem = f"unknown: {survey.overrides_problem}"
        return tag("section", tag("h2", "Overrides"), tag("p", problem))
    if not survey.overrides:
        return None
    columns = [_Column(title) for title in ("Backend", "State", "Owner", "Until", "Reason")]
    rows = [
        [
            f"{one.service}/{one.backend}",
            one.state.name.lower(),
            one.owner,
            _NOTHING if one.until is None else _format_time(one.until),
            one.reason or _NOTHING,
        ]
        for one in survey.overrides
    ]
    return tag("section", tag("h2", "Overrides"), _table("Overrides that are on", columns, rows))


def _render_verdicts(survey: Survey, rates: Rates | None) -> Html:
    columns = (_Column("Verdict"), _Column("Packets", True), _Column("A second", True))
    rows = [
        [
            tag("code", name),
            f"{count:,}",
            _NOTHING if rates is None else format_rate(rates.verdicts[name]),
        ]
        for name, count in survey.verdicts.items()
        if count
    ]
    table = _table("What became of packets", columns, rows) if rows else tag("p", "No packet yet.")
    return tag("section", tag("h2", "Verdicts"), table)


def _render_fills(survey: Survey) -> Html:
    columns = (_Column("Map"), _Column("Entries", True), _Column("Room for", True))
    rows = [[tag("code", name), *_list_fill(fill)] for name, fill in survey.fills.items()]
    return tag("section", tag("h2", "Maps"), _table("How full the maps are", columns, rows))


def _list_fill(fill: Fill) -> list[Content]:
    return [f"{fill.entries:,}", f"{fill.capacity:,}"]


def _format_time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
