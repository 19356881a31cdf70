"""`xdplb top`: what it shows, on a terminal and in a pipe, and how it ends."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import pytest

from reconciler.cli.color import paint
from reconciler.cli.main import run
from reconciler.cli.top_output import render_top
from reconciler.diagnostics import leave_plain
from reconciler.lab import wait_until
from reconciler.rates import Rates, compute_rates
from reconciler.survey import Survey, compose_survey

from ..surveys import NOW_NS, compile_text, make_findings, make_survey, make_told_survey

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def count(seconds: float, **new_flows: int) -> Survey:
    """A survey after some seconds in which backends of the service web got new flows."""
    tables = compile_text()
    findings = make_findings(tables=tables, now_ns=NOW_NS + int(seconds * 1e9))
    for number, info in tables.backend_info.items():
        flows = new_flows.get(info.name, 0)
        findings.backend_stats[number] = (10 * flows, 10_000 * flows, flows, 9 * flows, 0)
    return compose_survey(findings)


def measure(**new_flows: int) -> tuple[Survey, Rates]:
    now = count(2, **new_flows)
    rates = compute_rates(count(0), now)
    assert rates is not None
    return now, rates


def test_rates_of_a_service_and_its_backends() -> None:
    lines = render_top(*measure(a=400, b=200), leave_plain)
    assert lines[0] == "instance default, generation 0, rates over 2.0 s"
    at = next(n for n, line in enumerate(lines) if line.startswith("service web"))
    assert lines[at] == (
        "service web: 192.0.2.1 port 443/tcp: 300 new flows/s, 3,000 packets/s, 24.0 Mbit/s,"
        " 2,700 replies/s"
    )
    assert lines[at + 1].split() == (
        [
            "backend",
            "state",
            "new",
            "flows/s",
            "share",
            "expected",
            "packets/s",
            "Mbit/s",
            "replies/s",
            "remembered",
        ]
    )
    a = lines[at + 2].split()
    assert a[:8] == ["a", "ready", "200", "66.67", "%", "66.67", "%", "2,000"]


def test_before_the_first_rates_everything_else_is_there() -> None:
    lines = render_top(make_survey(), None, leave_plain)
    assert lines[0].endswith(", counting")
    assert any(line.split()[:3] == ["a", "ready", "-"] for line in lines)


@pytest.mark.parametrize(
    ("flows", "marked"),
    [
        ({"a": 400, "b": 200}, set()),
        ({"a": 3, "b": 9}, set()),  # chance
        ({"a": 300, "b": 300}, {"50.00 %"}),
        ({"a": 400, "b": 200, "c": 5}, {"0.83 %"}),  # drains, and should get none
    ],
)
def test_a_share_that_is_off_is_marked(flows: dict[str, int], marked: set[str]) -> None:
    painted = "\n".join(render_top(*measure(**flows), paint))
    yellow = {
        share for share in ("50.00 %", "0.83 %", "75.00 %") if paint(share, "warning") in painted
    }
    assert yellow == marked
    assert click.unstyle(painted) == "\n".join(render_top(*measure(**flows), leave_plain))


def test_verdicts_that_no_packet_got_are_for_those_who_ask() -> None:
    survey = make_survey()
    assert not any("pass_other" in line for line in render_top(survey, None, leave_plain))
    lines = render_top(survey, None, leave_plain, verbose=True)
    assert any(line.split() == ["pass_other", "-", "0"] for line in lines)


def test_trouble_is_told() -> None:
    lines = render_top(make_told_survey(), None, leave_plain)
    assert lines[1] == "web panics: see xdplb status"
    assert "no controller runs" in render_top(make_survey(), None, leave_plain)[1]


@pytest.mark.parametrize("words", [["--interval", "50ms"], ["--interval", "x"], ["--count", "0"]])
def test_usage(words: list[str]) -> None:
    assert run(["top", *words]) == 64


# --- as a process, on an instance that counts ---

PROGRAM = """
import itertools, sys
from dataclasses import replace
import reconciler.cli.top as top
from reconciler.cli.main import main
from tests.surveys import make_survey

class Surveyor:
    name = "default"
    seconds = itertools.count(1)
    def take(self):
        return replace(make_survey(), now_ns=next(self.seconds) * 10**9)

top.make_surveyor = lambda name, pin_dir: Surveyor()
main(["top", "-n", "default", *sys.argv[1:]])
"""


def make_command(*words: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, *words]


def test_a_pipe_gets_plain_blocks_and_an_end() -> None:
    done = subprocess.run(
        make_command("--count", "2", "--interval", "100ms"),
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("instance default, generation 0, rates over 1.0 s\n") == 2
    assert "\x1b" not in done.stdout
    assert done.stdout.endswith("\n\n")


class Terminal:
    """A terminal with `xdplb top` in it; `shown` is all that was written to it."""

    def __init__(self, *words: str, **environment: str) -> None:
        self._control, self._end = pty.openpty()
        self.before = termios.tcgetattr(self._end)
        self.shown = b""
        clean = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
        self.process = subprocess.Popen(
            make_command(*words), cwd=ROOT,
            stdin=self._end, stdout=self._end, stderr=self._end, start_new_session=True,
            env={**clean, "TERM": "xterm", "COLUMNS": "120", "LINES": "50", **environment},
        )  # fmt: skip
        os.set_blocking(self._control, False)

    def see(self, words: bytes) -> bool:
        with suppress(BlockingIOError):
            self.shown += os.read(self._control, 65_536)
        return words in self.shown

    def press(self, key: bytes) -> None:
        os.write(self._control, key)

    def await_end(self) -> int:
        def has_ended() -> bool:
            self.see(b"")  # a full terminal would hold it up
            return self.process.poll() is not None

        wait_until(has_ended, "top ends")
        self.see(b"")
        return int(self.process.returncode)

    @property
    def settings(self) -> list[Any]:
        return termios.tcgetattr(self._end)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._control)
        os.close(self._end)


@contextmanager
def terminal(*words: str, **environment: str) -> Iterator[Terminal]:
    made = Terminal(*words, **environment)
    try:
        yield made
    finally:
        made.close()


OTHER_SCREEN, FIRST_SCREEN = b"\x1b[?1049h", b"\x1b[?1049l"


@pytest.mark.parametrize("end", ["q", "interrupt", "count"])
def test_a_terminal_is_left_as_it_was(end: str) -> None:
    words = ["--interval", "100ms"] + (["--count", "2"] if end == "count" else [])
    with terminal(*words) as screen:
        wait_until(lambda: screen.see(b"rates over 1.0 s"), "a refresh is shown")
        if end == "q":
            screen.press(b"xq")
        elif end == "interrupt":
            screen.process.send_signal(signal.SIGINT)
        assert screen.await_end() == 0
        assert screen.settings == screen.before
        assert screen.shown.index(OTHER_SCREEN) < screen.shown.index(FIRST_SCREEN)
        assert b"Traceback" not in screen.shown


def test_other_keys_change_nothing_and_are_not_shown() -> None:
    with terminal("--interval", "100ms") as screen:
        wait_until(lambda: screen.see(b"rates over 1.0 s"), "a refresh is shown")
        screen.press(b"zzz")
        wait_until(lambda: screen.see(b"") or screen.shown.count(b"rates over") > 3, "it goes on")
        assert b"zzz" not in screen.shown
        screen.press(b"Q")
        assert screen.await_end() == 0


@pytest.mark.parametrize(
    ("words", "environment", "is_painted"),
    [
        ([], {}, True),
        (["--color", "never"], {}, False),
        ([], {"NO_COLOR": "1"}, False),
        (["--color", "always"], {"NO_COLOR": "1"}, True),
    ],
)
def test_colours_are_for_those_who_want_them(
    words: list[str], environment: dict[str, str], is_painted: bool
) -> None:
    with terminal("--interval", "100ms", "--count", "1", *words, **environment) as screen:
        assert screen.await_end() == 0
        assert (b"\x1b[1;33m" in screen.shown) is is_painted
