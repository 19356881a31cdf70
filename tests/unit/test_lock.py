"""One writer, and a lock that goes with its process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler import lock
from reconciler.errors import ExitCode, Locked
from reconciler.lock import find_holder, hold_lock

HOLD = """
import sys
from pathlib import Path
from reconciler.lock import hold_lock
with hold_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "edge"
    made.mkdir()
    return made


@pytest.fixture
def other(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which holds the folder until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_second_is_refused_and_told_who_is_the_first(
    folder: Path, other: subprocess.Popen[str]
) -> None:
    with pytest.raises(Locked) as caught, hold_lock(folder):
        pass
    message = str(caught.value)
    assert message.startswith(f"edge is held by pid {other.pid}, running since 2")
    assert message.endswith("UTC; stop it, or wait for it with --lock-timeout")
    assert caught.value.exit_code is ExitCode.LOCKED
    assert find_holder(folder) == other.pid


def test_the_lock_of_a_killed_process_is_gone(folder: Path, other: subprocess.Popen[str]) -> None:
    other.kill()
    other.wait()
    assert find_holder(folder) is None
    with hold_lock(folder):
        assert find_holder(folder) == os.getpid()


def test_the_lock_ends_with_its_block(folder: Path) -> None:
    for _ in range(2):
        with hold_lock(folder):
            pass
    with pytest.raises(ZeroDivisionError), hold_lock(folder):
        raise ZeroDivisionError
    assert find_holder(folder) is None


def test_one_process_does_not_hold_it_twice(folder: Path) -> None:
    with hold_lock(folder), pytest.raises(Locked, match=f"pid {os.getpid()}"), hold_lock(folder):
        pass


def test_instances_do_not_share_a_lock(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "core").mkdir()
    with hold_lock(folder), hold_lock(tmp_path / "core"):
        assert find_holder(folder) == find_holder(tmp_path / "core") == os.getpid()


def test_who_waits_gets_it_when_the_other_ends(
    folder: Path, other: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def end_the_other(_seconds: float) -> None:
        other.kill()
        other.wait()

    monkeypatch.setattr(lock.time, "sleep", end_the_other)
    with hold_lock(folder, timeout_s=60):
        assert find_holder(folder) == os.getpid()


def test_who_waits_waits_no_longer_than_told(
    folder: Path, other: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 1.0, 2.9, 3.0])
    monkeypatch.setattr(lock.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(lock.time, "sleep", lambda _seconds: None)
    with pytest.raises(Locked), hold_lock(folder, timeout_s=3):
        pass
    assert list(clock) == []


def test_a_folder_that_was_replaced_meanwhile_is_not_mistaken(
    folder: Path, other: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace_the_folder(_seconds: float) -> None:
        folder.rmdir()
        folder.mkdir()
        other.kill()
        other.wait()

    monkeypatch.setattr(lock.time, "sleep", replace_the_folder)
    with pytest.raises(Locked, match="taken down meanwhile"), hold_lock(folder, timeout_s=60):
        pass


def test_a_folder_that_has_gone_meanwhile_is_not_mistaken(
    folder: Path, other: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove_the_folder(_seconds: float) -> None:
        folder.rmdir()
        other.kill()
        other.wait()

    monkeypatch.setattr(lock.time, "sleep", remove_the_folder)
    with pytest.raises(Locked, match="taken down meanwhile"), hold_lock(folder, timeout_s=60):
        pass


def test_a_holder_that_can_not_be_seen(
    folder: Path, other: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in another pid namespace, whose locks /proc/locks does not list."""
    monkeypatch.setattr(lock, "_find_holder", lambda _fd: None)
    with pytest.raises(Locked, match="edge is held by another process"), hold_lock(folder):
        pass
