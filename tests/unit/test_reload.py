"""What the running controller is asked, and how its answer is told from another."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler import reload as reload_module
from reconciler.cli.main import run
from reconciler.config import ConfigInvalid
from reconciler.errors import Blocked, ExitCode, NoInput, Overdue, Unavailable, XdplbError
from reconciler.reload import Rejected, reload
from reconciler.status import Attempt, ControllerStatus, write_status

TEXT = "interface: eth0\nport: 80\nbackends: [10.0.0.1]\n"
PID = 4711


class Controller:
    """A controller that holds the instance; `answers` are what it says, a poll each."""

    def __init__(self, root: Path, path: Path) -> None:
        self.root, self.path = root, path
        self.holder: int | None = PID
        self.answers: list[Callable[[], None]] = []
        self.signals: list[int] = []
        self.is_alive = True

    def tell(
        self,
        result: str,
        text: str | None,
        message: str = "",
        at: float = 1.0,
        exit_code: str = "",
    ) -> None:
        sha256 = hashlib.sha256(text.encode()).hexdigest() if text is not None else ""
        attempt = Attempt(result, at, sha256, message, exit_code)
        write_status("edge", ControllerStatus(PID, str(self.path), attempt, None), self.root)

    def poll(self, _seconds: float) -> None:
        if self.answers:
            self.answers.pop(0)()
        else:
            self.is_alive = False

    def kill(self, pid: int, number: int) -> None:
        assert pid == PID
        if number:
            self.signals.append(number)
        elif not self.is_alive:
            raise ProcessLookupError


@pytest.fixture
def controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Controller:
    (tmp_path / "pins" / "edge").mkdir(parents=True)
    one = Controller(tmp_path / "run", tmp_path / "lb.yaml")
    one.path.write_text(TEXT)
    monkeypatch.setattr(reload_module, "find_holder", lambda _folder: one.holder)
    monkeypatch.setattr(reload_module.os, "kill", one.kill)
    monkeypatch.setattr(reload_module.time, "sleep", one.poll)
    one.tell("applied", "old", at=0.0)
    return one


def ask(controller: Controller) -> Attempt:
    folder = controller.root.parent / "pins" / "edge"
    return reload(folder, str(controller.path), root=controller.root)


@pytest.mark.parametrize("result", ["applied", "in_sync", "drifted"])
def test_a_file_that_was_taken(controller: Controller, result: str) -> None:
    controller.answers = [lambda: None, lambda: controller.tell(result, TEXT)]
    assert ask(controller).result == result
    assert len(controller.signals) == 1


def test_a_verdict_on_another_file_is_not_the_one_that_is_waited_for(
    controller: Controller,
) -> None:
    controller.answers = [
        lambda: controller.tell("applied", "older still"),  # a pass that was under way
        lambda: controller.tell("in_sync", TEXT, at=2.0),
    ]
    assert ask(controller).at == 2.0


def test_a_verdict_of_before_does_not_count(controller: Controller) -> None:
    controller.tell("rejected", TEXT, at=0.0)
    controller.answers = [lambda: controller.tell("in_sync", TEXT, at=2.0)]
    assert ask(controller).result == "in_sync"


def test_a_file_that_changes_meanwhile_is_the_one_that_counts(controller: Controller) -> None:
    newer = TEXT + "# more\n"
    controller.answers = [
        lambda: controller.path.write_text(newer) and None,
        lambda: controller.tell("applied", TEXT),
        lambda: controller.tell("applied", newer, at=2.0),
    ]
    assert ask(controller).at == 2.0


@pytest.mark.parametrize(
    ("result", "error", "code"),
    [
        ("rejected", Rejected, ExitCode.CONFIG),
        ("blocked", Blocked, ExitCode.BLOCKED),
        ("failed", XdplbError, ExitCode.FAILED),
    ],
)
def test_a_file_that_was_not_taken(
    controller: Controller, result: str, error: type[XdplbError], code: ExitCode
) -> None:
    controller.answers = [lambda: controller.tell(result, TEXT, "because")]
    with pytest.raises(error, match="because") as caught:
        ask(controller)
    assert caught.value.exit_code is code


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("UNAVAILABLE", ExitCode.UNAVAILABLE),
        ("ROLLED_BACK", ExitCode.ROLLED_BACK),
        ("DEGRADED", ExitCode.DEGRADED),
        ("NOPERM", ExitCode.NOPERM),
        ("FAILED", ExitCode.FAILED),
        ("", ExitCode.FAILED),  # an older controller's
        ("OF_TOMORROW", ExitCode.FAILED),
    ],
)
def test_a_file_that_could_not_be_applied_ends_as_the_pass_did(
    controller: Controller, name: str, code: ExitCode
) -> None:
    controller.answers = [lambda: controller.tell("failed", TEXT, "because", exit_code=name)]
    with pytest.raises(XdplbError, match="because") as caught:
        ask(controller)
    assert caught.value.exit_code is code


def test_an_invalid_file_is_shown_with_its_problems(controller: Controller) -> None:
    bad = TEXT.replace("port", "prot")
    controller.path.write_text(bad)
    controller.answers = [lambda: controller.tell("rejected", bad, "not valid")]
    with pytest.raises(ConfigInvalid) as caught:
        ask(controller)
    assert "prot: 80" in caught.value.render()


def test_a_missing_file(controller: Controller) -> None:
    controller.path.unlink()
    controller.answers = [lambda: controller.tell("missing", None, "there is no file")]
    with pytest.raises(NoInput, match="there is no file"):
        ask(controller)


@pytest.mark.parametrize("holder", [None, os.getpid()], ids=["nobody", "a pass"])
def test_who_is_no_controller_gets_no_signal(controller: Controller, holder: int | None) -> None:
    """Nobody, or one who makes a single pass: SIGHUP would kill it."""
    controller.holder = holder
    with pytest.raises(Unavailable, match="no controller runs for instance edge"):
        ask(controller)
    assert controller.signals == []


@pytest.mark.parametrize(
    ("words", "code"),
    [(["--reload", "--once"], ExitCode.USAGE), (["--reload"], ExitCode.UNAVAILABLE)],
)
def test_the_command(
    controller: Controller, tmp_path: Path, words: list[str], code: ExitCode
) -> None:
    place = ["-c", str(controller.path), "--pin-dir", str(tmp_path)]
    assert run(["run", *words, *place]) == code


def test_an_instance_that_is_not_there(controller: Controller, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="instance west"):
        reload(tmp_path / "pins" / "west", str(controller.path), root=controller.root)


def test_a_controller_that_ends_meanwhile(controller: Controller) -> None:
    with pytest.raises(XdplbError, match=f"pid {PID}, has ended"):
        ask(controller)


def test_a_controller_that_says_nothing(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload_module, "_TIMEOUT_S", -1.0)
    with pytest.raises(Overdue) as caught:
        ask(controller)
    assert caught.value.exit_code is ExitCode.TIMEOUT
