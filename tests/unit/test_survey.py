"""What a survey says of an instance, and the JSON document of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.health.standing import Standing
from reconciler.model import BackendState
from reconciler.overrides import Override
from reconciler.status import Attempt, ControllerStatus
from reconciler.survey import Controller, Fill, Health, Survey, SurveyedBackend, compose_survey
from reconciler.survey_document import describe_survey
from reconciler.tables import Meta, Tables

from ..surveys import (
    AT,
    NOW_NS,
    compile_text,
    find,
    make_findings,
    make_survey,
    tell,
)


def get(survey: Survey, service: str, backend: str) -> SurveyedBackend:
    found = next(one for one in survey.services if one.name == service)
    return next(one for one in found.backends if one.name == backend)


def test_services_and_backends_are_sorted_by_name() -> None:
    survey = make_survey()
    assert [(s.name, [b.name for b in s.backends]) for s in survey.services] == [
        ("dns", ["[2001:db8:1::1]:53"]),
        ("web", ["a", "b", "c"]),
    ]


def test_a_backend_has_what_its_own_id_has_counted() -> None:
    tables = compile_text()
    survey = make_survey(tables=tables)
    for number, info in tables.backend_info.items():
        service = tables.service_info[tables.backends[number].service].name
        backend = get(survey, service, info.name)
        assert backend.counters == tuple(number * 10**place for place in range(5))
        assert backend.connections == number


def test_shares_are_of_slots_and_of_the_weights_of_those_that_take_flows() -> None:
    survey = make_survey()
    a, b, c = (get(survey, "web", name) for name in "abc")
    assert (a.expected_share, b.expected_share, c.expected_share) == (2 / 3, 1 / 3, 0.0)
    assert (a.slots + b.slots, c.slots) == (251, 0)
    assert a.share == pytest.approx(2 / 3, abs=0.01)


def withhold(**percents: int) -> Tables:
    """The tables while health withholds so much of the backends' weights."""
    tables = compile_text()
    infos = {
        number: info._replace(withheld_percent=percents.get(info.name, 0))
        for number, info in tables.backend_info.items()
    }
    return replace(tables, backend_info=infos)


@pytest.mark.parametrize(
    ("withheld", "shares"),
    [
        ({}, (2 / 3, 1 / 3)),
        ({"b": 100}, (1.0, 0.0)),
        ({"a": 50}, (0.5, 0.5)),  # a starts slowly
        ({"a": 100, "b": 100}, (0.0, 0.0)),
    ],
)
def test_what_health_withholds_is_not_expected(
    withheld: dict[str, int], shares: tuple[float, float]
) -> None:
    survey = make_survey(tables=withhold(**withheld))
    a, b = get(survey, "web", "a"), get(survey, "web", "b")
    assert (a.expected_share, b.expected_share) == pytest.approx(shares)
    assert a.withheld_percent == withheld.get("a", 0)


@pytest.mark.parametrize(
    ("withheld", "standing", "is_up"),
    [
        (0, None, None),
        (0, find(True), True),
        (0, find(False), False),
        (100, find(False), False),
        (100, None, False),  # nobody checks any more, and the kernel still holds it down
        (40, None, None),
        (40, find(True), True),
    ],
)
def test_whether_a_backend_is_up(
    withheld: int, standing: Standing | None, is_up: bool | None
) -> None:
    health = Health({("web", "a"): standing} if standing else {})
    survey = make_survey(tables=withhold(a=withheld), health=health)
    assert get(survey, "web", "a").is_up is is_up
    assert get(survey, "web", "a").standing is standing
    assert get(survey, "web", "c").is_up is None


@pytest.mark.parametrize(
    ("backend", "withheld", "panicking", "is_panicking"),
    [
        ("a", 0, None, True),  # down, and it has its slots
        ("a", 100, None, False),
        ("c", 0, None, False),  # drains: it has none anyway
        ("a", 0, frozenset(), False),  # who checks knows better
        ("a", 100, frozenset({"web"}), True),
    ],
)
def test_panic_is_what_the_controller_says_or_else_what_the_kernel_does(
    backend: str, withheld: int, panicking: frozenset[str] | None, is_panicking: bool
) -> None:
    health = Health({("web", backend): find(False)}, panicking)
    survey = make_survey(tables=withhold(**{backend: withheld}), health=health)
    assert [one.is_panicking for one in survey.services] == [False, is_panicking]


def test_times_that_are_left_end_at_zero() -> None:
    tables = compile_text()
    infos = {
        number: info._replace(leaves_ns=NOW_NS + (5 * 10**9 if info.name == "c" else -1))
        for number, info in tables.backend_info.items()
        if info.name in "bc"
    }
    windows = {
        number: info._replace(window_end_ns=NOW_NS + 7 * 10**9)
        for number, info in tables.service_info.items()
        if info.name == "web"
    }
    survey = make_survey(
        tables=replace(
            tables,
            backend_info=tables.backend_info | infos,  # type: ignore[operator]
            service_info=tables.service_info | windows,  # type: ignore[operator]
        )
    )
    assert [get(survey, "web", name).leaves_in_s for name in "abc"] == [None, 0.0, 5.0]
    assert [one.remembers_for_s for one in survey.services] == [None, 7.0]
    assert ("web", "a") in survey.staying
    assert ("web", "c") not in survey.staying


def test_rows_that_somebody_is_writing_are_left_out() -> None:
    tables = compile_text()
    gone = next(i for i, info in tables.backend_info.items() if info.name == "a")
    infos = {i: info for i, info in tables.backend_info.items() if i != gone}
    survey = make_survey(tables=replace(tables, backend_info=infos))
    assert [one.name for one in survey.services[1].backends] == ["b", "c"]
    nobody = make_survey(tables=replace(tables, service_info={}))
    assert nobody.services == ()


def test_no_name_is_there_twice() -> None:
    """A writer that was killed may leave a backend with two ids; a scrape may not."""
    tables = compile_text()
    first = next(i for i, info in tables.backend_info.items() if info.name == "a")
    survey = make_survey(
        tables=replace(
            tables,
            backend_info={**tables.backend_info, 99: tables.backend_info[first]},
            backends={**tables.backends, 99: tables.backends[first]},
        )
    )
    assert [one.name for one in survey.services[1].backends] == ["a", "b", "c"]


def test_a_service_that_no_vip_leads_to_is_still_there() -> None:
    survey = make_survey(tables=replace(compile_text(), services={}))
    web = survey.services[1]
    assert (web.endpoints, web.forwarding, web.ring_size, web.ring_fingerprint) == (
        (),
        None,
        0,
        None,
    )
    document = describe_survey(survey)["services"][1]
    assert (document["vips"], document["port"], document["protocol"]) == ([], None, None)


def test_how_full_the_maps_are() -> None:
    survey = make_survey()
    assert survey.fills == {
        "service_info": Fill(2, 64),
        "backends": Fill(4, 4096),
        "slots": Fill(502, 2048),
        # Each VIP and its marker, and the replies of four backends.
        "endpoints": Fill(8, 8768),
        "flows": Fill(3, 1000),
        "strays": Fill(1, 100),
    }


@pytest.mark.parametrize(
    ("state", "until", "is_shown"),
    [
        (BackendState.DRAIN, None, True),
        (BackendState.MAINT, AT + 1, True),
        (BackendState.MAINT, AT, False),  # over, and the backend is not in maint
        (BackendState.DRAIN, AT, True),  # over, and no pass has ended it yet
    ],
)
def test_overrides_are_those_that_are_on(
    state: BackendState, until: float | None, is_shown: bool
) -> None:
    override = Override("web", "c", state, "alice", "", AT - 9, until)
    survey = make_survey(overrides=(override,))
    assert survey.overrides == ((override,) if is_shown else ())


@pytest.mark.parametrize("pid", [42, None])
@pytest.mark.parametrize("is_told_ready", [True, False, None])
@pytest.mark.parametrize("ifindex", [7, 0])
def test_ready_is_what_a_controller_says_and_without_one_what_is_attached(
    pid: int | None, is_told_ready: bool | None, ifindex: int
) -> None:
    told = () if is_told_ready is None else (tell("Ready", is_told_ready),)
    tables = compile_text()
    attached = {name: one._replace(ifindex=ifindex) for name, one in tables.attachments.items()}
    survey = make_survey(
        tables=replace(tables, attachments=attached), controller=Controller(pid, None, told)
    )
    is_told = bool(pid and told)
    assert survey.is_ready is (bool(is_told_ready) if is_told else bool(ifindex))


def test_an_instance_without_services_is_not_ready() -> None:
    assert not make_survey(tables=replace(compile_text(), service_info={})).is_ready


# --- the document ---


def test_the_document_says_all_of_it() -> None:
    good = Attempt("applied", AT - 5, "ab" * 32)
    account = ControllerStatus(42, "lb.yaml", Attempt("rejected", AT, "cd" * 32, "no"), good)
    tables = replace(compile_text(), meta={0: Meta(7, "ab" * 32, "", "")})
    findings = make_findings(
        tables=tables,
        controller=Controller(42, account, (tell("Ready", False, "Blocked", "guard"),)),
        health=Health({("web", "a"): find(False, detail="refused")}, frozenset({"web"})),
        overrides_problem="it is a folder",
    )
    document = describe_survey(compose_survey(findings))
    assert (document["kind"], document["generation"]) == ("xdplb.status", 7)
    assert document["config_sha256"] == "ab" * 32
    assert document["controller"] == {
        "running": True,
        "pid": 42,
        "config": "lb.yaml",
        "last_attempt": {"result": "rejected", "at": AT, "sha256": "cd" * 32, "message": "no"}
        | {"exit_code": ""},
        "last_good": {"result": "applied", "at": AT - 5, "sha256": "ab" * 32, "message": ""}
        | {"exit_code": ""},
    }
    (condition,) = document["conditions"]
    assert condition == {
        "type": "Ready",
        "status": False,
        "reason": "Blocked",
        "message": "guard",
        "since": AT - 60,
    }
    web = document["services"][1]
    assert (web["name"], web["vips"], web["port"]) == ("web", ["192.0.2.1"], 443)
    assert (web["protocol"], web["forwarding"], web["panic"]) == ("tcp", "nat", True)
    a, b, _ = web["backends"]
    assert a["health"] == {
        "up": False,
        "since": AT - 30,
        "detail": "refused",
        "withheld_percent": 0,
    }
    assert b["health"] is None
    assert (a["address"], a["port"], a["state"], a["weight"]) == ("10.0.0.1", 443, "ready", 100)
    assert document["overrides_problem"] == "it is a folder"
    assert document["maps"]["flows"] == {"entries": 3, "capacity": 1000}
    assert document["flow_table"]["entries"] == 3
    assert document["flow_table"]["events"]["refused"] == 4
    assert document["verdicts"]["pass_direct"] == 1


def test_an_instance_that_was_never_applied_has_no_digest() -> None:
    document = describe_survey(make_survey())
    assert document["config_sha256"] is None
    assert document["controller"] == {"running": False, "pid": None}
