"""`xdplb wait`: when a backend counts as drained, and what a wait that runs out says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.cli import wait as wait_module
from reconciler.cli.backends import Sighting, parse_backend
from reconciler.cli.main import run
from reconciler.cli.wait import Drained, wait_for
from reconciler.errors import ExitCode, Overdue
from reconciler.model import BackendState

READY, DRAIN, MAINT = BackendState


def seen(state: BackendState = DRAIN, connections: int = 0, packets: int = 0) -> Sighting:
    return Sighting(state, 0, connections, packets, 1)


def add(drained: Drained, *looks: Sighting | None) -> list[bool]:
    """A look a second."""
    return [drained.add(look, float(second)) for second, look in enumerate(looks)]


def test_it_must_be_silent_for_the_whole_time() -> None:
    assert add(Drained(2.0), *[seen()] * 4) == [False, False, True, True]
    # A packet starts the time anew: a connection that nobody remembered yet.
    looks = [seen(), seen(), seen(packets=1), seen(packets=1), seen(packets=1)]
    assert add(Drained(2.0), *looks) == [False, False, False, False, True]


def test_no_connection_may_be_left() -> None:
    drained = Drained(1.0)
    assert add(drained, *[seen(connections=2)] * 3) == [False] * 3
    assert drained.lacks == "2 connections left"
    assert drained.add(seen(connections=1), 3.0) is False
    assert drained.lacks == "1 connection left"
    assert drained.add(seen(), 4.0)


def test_what_is_still_to_wait_for_is_told() -> None:
    drained = Drained(10.0)
    add(drained, *[seen(connections=1)] * 4)
    assert drained.lacks == "1 connection left, silent for 3 of 10 s"


def test_a_ready_backend_is_not_drained_however_silent() -> None:
    drained = Drained(1.0)
    assert add(drained, *[seen(READY)] * 5) == [False] * 5
    assert drained.lacks == "it is ready: xdplb drain takes it out"
    # Its silence from before does not count.
    assert not drained.add(seen(DRAIN), 4.5)
    assert drained.add(seen(DRAIN), 5.5)


def test_in_maint_it_is_drained_when_nothing_is_sent_to_it() -> None:
    assert add(Drained(10.0), seen(MAINT, 5), seen(MAINT, 5)) == [False, True]
    looks = [seen(MAINT), seen(MAINT, packets=1), seen(MAINT, packets=1)]
    assert add(Drained(10.0), *looks) == [False, False, True]


def test_one_that_has_left_is_drained() -> None:
    assert add(Drained(10.0), None) == [True]
    assert add(Drained(10.0), seen(connections=1), None) == [False, True]


@dataclass
class After:
    """A condition that holds at the n-th look."""

    looks: int
    lacks: str = ""

    def look(self) -> bool:
        self.looks -= 1
        self.lacks = f"{self.looks} looks"
        return self.looks <= 0


def test_a_wait_ends_when_the_condition_holds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wait_module, "_POLL_S", 0.0)
    assert wait_for(After(3), "drained=web/a", 10.0) >= 0.0
    assert wait_for(After(1), "drained=web/a", 0.0) >= 0.0
    assert capsys.readouterr() == ("", "")  # a line that moves is for terminals


def test_a_wait_that_runs_out_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait_module, "_POLL_S", 0.0)
    with pytest.raises(Overdue, match="drained=web/a: not so after 0 s: 8 looks"):
        wait_for(After(9), "drained=web/a", 0.0)


# --- names ---


@pytest.mark.parametrize("what", ["foo", "ready", "ready=", "drained=", "synced=web/a", ""])
def test_words_are_judged_before_the_instance_is_looked_for(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["wait", "--for", what, "-n", "none", "--pin-dir", str(tmp_path)]
    assert run(words) == ExitCode.USAGE
    assert f"{what} is no condition; write drained=" in capsys.readouterr().err


def test_a_time_that_does_not_hold_the_silence(tmp_path: Path) -> None:
    words = ["wait", "--for", "drained=web/a", "-n", "none", "--pin-dir", str(tmp_path)]
    assert run([*words, "--timeout", "1s"]) == ExitCode.USAGE
    assert run(words) == ExitCode.UNAVAILABLE


def test_names_of_backends() -> None:
    two = {("web", "a"), ("dns", "[2001:db8::1]:53")}
    assert parse_backend("dns/[2001:db8::1]:53", two) == ("dns", "[2001:db8::1]:53")
    assert parse_backend("10.0.0.1:80", {("web", "10.0.0.1:80")}) == ("web", "10.0.0.1:80")
    with pytest.raises(Exception, match="a names no service; write for example dns/a"):
        parse_backend("a", two)
    with pytest.raises(Exception, match="there is no service"):
        parse_backend("a", set())
