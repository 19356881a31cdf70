"""A survey in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click
import pytest

from reconciler.cli.color import paint
from reconciler.cli.columns import Cell, Column, align
from reconciler.cli.status_output import render_status
from reconciler.diagnostics import leave_plain
from reconciler.model import BackendState, XdpMode
from reconciler.overrides import Override
from reconciler.status import Attempt, ControllerStatus
from reconciler.survey import Controller, Health, Survey
from reconciler.tables import Attachment

from ..surveys import AT, compile_text, find, make_survey, tell

GOOD = Attempt("applied", AT - 5, "ab" * 32)
BAD = Attempt("rejected", AT - 2, "cd" * 32, "lb.yaml is not valid: 1 error")


def render(survey: Survey, *, verbose: bool = False) -> str:
    return "\n".join(render_status(survey, leave_plain, verbose=verbose))


def run_by(**fields: Any) -> Controller:
    return Controller(42, ControllerStatus(42, "lb.yaml", **fields))


def test_columns_are_aligned_whatever_their_colours() -> None:
    columns = (Column("name"), Column("n", is_number=True))
    rows = [[Cell("a", "error"), Cell("5")], [Cell("longer"), Cell("1234", "good")]]
    plain = align(columns, rows, leave_plain)
    assert plain == ["name       n", "a          5", "longer  1234"]
    painted = align(columns, rows, paint)
    assert painted != plain
    assert [click.unstyle(line) for line in painted] == plain


def test_colours_change_no_word() -> None:
    survey = make_survey(controller=run_by(last_attempt=BAD, last_good=GOOD))
    painted = "\n".join(render_status(survey, paint, verbose=True))
    assert click.unstyle(painted) == render(survey, verbose=True)
    assert click.style("REJECTED", fg="red", bold=True) in painted


def test_a_controller_that_does_not_run() -> None:
    lines = render(make_survey()).splitlines()
    assert lines[:2] == [
        "instance default, generation 0",
        "controller: not running; the data plane goes on",
    ]


def test_a_file_that_was_refused_and_what_runs_instead() -> None:
    text = render(make_survey(controller=run_by(last_attempt=BAD, last_good=GOOD)))
    assert f"last reload: REJECTED 2 s ago ({'cd' * 6}): lb.yaml is not valid: 1 error\n" in text
    assert f"still running {'ab' * 6}, good since 5 s ago\n" in text


def test_a_file_that_was_taken() -> None:
    text = render(make_survey(controller=run_by(last_attempt=GOOD, last_good=GOOD)))
    assert f"last reload: APPLIED 5 s ago ({'ab' * 6})\n" in text
    assert "still running" not in text


def test_only_conditions_that_are_not_met_are_told_and_only_of_a_controller_that_runs() -> None:
    told = (tell("Ready"), tell("Synced", False, "Drifted", "heal is off"))
    text = render(make_survey(controller=Controller(42, None, told)))
    assert "not Synced (Drifted) since 60 s ago: heal is off\n" in text
    assert "Ready" not in text
    assert "Synced" not in render(make_survey(controller=Controller(None, None, told)))


@pytest.mark.parametrize(
    ("attachment", "line"),
    [
        (Attachment(3, XdpMode.NATIVE, ""), "interface eth0: native XDP"),
        (
            Attachment(3, XdpMode.GENERIC, ""),
            "interface eth0: generic XDP (in the stack: slower than native)",
        ),
        (Attachment(0, XdpMode.NATIVE, ""), "interface eth0: native XDP - GONE"),
    ],
)
def test_interfaces(attachment: Attachment, line: str) -> None:
    survey = make_survey(tables=replace(compile_text(), attachments={"eth0": attachment}))
    assert line in render(survey).splitlines()


def test_the_table_of_a_service() -> None:
    lines = render(make_survey()).splitlines()
    at = lines.index("service web: 192.0.2.1 port 443/tcp, ring of 251")
    titles, a, _, c = lines[at + 2 : at + 6]
    assert titles.split()[:3] == ["backend", "address", "state"]
    assert a.split()[:4] == ["a", "10.0.0.1:443", "ready", "100"]
    assert "66.67 %" in a
    assert "drain, " in c
    ends = {len(line) for line in lines[at + 2 : at + 6]}
    assert len(ends) == 1
    # An IPv6 address in brackets is text, whatever it looks like.
    assert any("[2001:db8:1::1]:53" in line for line in lines)


def test_health_is_told_where_it_is_bad() -> None:
    standings = {("web", "a"): find(False, detail="timeout")}
    standings["web", "b"] = find(True)
    text = render(make_survey(health=Health(standings, frozenset({"web"}))))
    assert "ready, DOWN (timeout)" in text
    assert text.count("DOWN") == 1
    assert "  PANIC: too few backends are up" in text


def test_a_backend_that_starts_slowly() -> None:
    tables = compile_text()
    infos = {i: info._replace(withheld_percent=60) for i, info in tables.backend_info.items()}
    assert "ready, starts at 40 %" in render(
        make_survey(tables=replace(tables, backend_info=infos))
    )


def test_overrides_and_why_they_are_unknown() -> None:
    override = Override("web", "c", BackendState.DRAIN, "alice", "kernel", AT - 9, None)
    assert "\noverrides\n  web/c  drain by alice: kernel" in render(
        make_survey(overrides=(override,))
    )
    assert "\noverrides\n  unknown: why" in render(make_survey(overrides_problem="why"))
    assert "overrides" not in render(make_survey())


def test_verdicts_that_no_packet_got_are_for_those_who_ask() -> None:
    assert "pass_other" not in render(make_survey())
    assert "drop_malformed     11" in render(make_survey())
    assert "pass_other         0" in render(make_survey(), verbose=True)
