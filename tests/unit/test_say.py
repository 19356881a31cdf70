"""Commands that write, with nobody to hear what they say: it decides nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from reconciler.cli.main import run
from reconciler.errors import ExitCode, XdplbError
from reconciler.lab.process import python_environment

from ..fake import FakeDataplane, FakeInstance

TEXT = """\
interface: eth0
limits: {ring_slots: 2048, backends: 64}
services:
  - name: web
    vip: 192.0.2.1
    port: 80
    ring_size: 509
    backends: [10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4]
"""
PASSES = ["apply --yes", "apply --yes --json", "run --once", "run --once --json"]


@pytest.fixture
def dataplane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDataplane:
    made = FakeDataplane()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDPLB_CONFIG", raising=False)
    monkeypatch.setattr(
        "reconciler.instance.Instance", lambda name, _root: FakeInstance(made, name)
    )
    monkeypatch.setattr("reconciler.cli.one_pass.leave_account", lambda *_arguments: None)
    monkeypatch.setattr("reconciler.cli.run.start_log", lambda **_flags: None)
    Path("lb.yaml").write_text(TEXT, encoding="utf-8")
    return made


def _open_pipe_without_reader() -> TextIO:
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w", encoding="utf-8")


def _open_full_device() -> TextIO:
    return open("/dev/full", "w", encoding="utf-8")


@pytest.fixture(params=[_open_pipe_without_reader, _open_full_device])
def lost(request: pytest.FixtureRequest) -> Iterator[TextIO]:
    """A stream that takes nothing."""
    with request.param() as stream:
        yield stream


@pytest.mark.parametrize("verb", PASSES)
def test_a_pass_is_made_whoever_listens(
    dataplane: FakeDataplane,
    verb: str,
    lost: TextIO,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdout", lost)
    assert run([*verb.split(), "-c", "lb.yaml"]) == ExitCode.FAILED
    assert dataplane.read().generation == 1
    err = capsys.readouterr().err
    assert "xdplb: cannot write standard output: " in err
    assert "unexpected" not in err


@pytest.mark.parametrize("verb", PASSES)
def test_a_pass_is_made_without_standard_error(
    dataplane: FakeDataplane, verb: str, lost: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("lb.yaml").write_text(TEXT.replace("10.0.0.4", "127.0.0.1"), encoding="utf-8")  # warned of
    monkeypatch.setattr("sys.stderr", lost)
    code = run([*verb.split(), "-c", "lb.yaml"])
    assert code == (ExitCode.OK if verb == "run --once --json" else ExitCode.FAILED)
    assert dataplane.read().generation == 1


def test_a_refusal_keeps_its_exit_code(
    dataplane: FakeDataplane, lost: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["apply", "--yes", "-q"]) == 0
    Path("lb.yaml").write_text(TEXT.replace(", 10.0.0.3, 10.0.0.4", ""), encoding="utf-8")
    monkeypatch.setattr("sys.stdout", lost)
    monkeypatch.setattr("sys.stderr", lost)
    assert run(["apply", "--yes"]) == ExitCode.BLOCKED
    assert dataplane.read().generation == 1


def test_what_nobody_sees_is_not_asked(
    dataplane: FakeDataplane,
    lost: TextIO,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("reconciler.cli.apply._require_somebody", lambda *_words, **_flags: None)
    monkeypatch.setattr("sys.stdout", lost)
    assert run(["apply"]) == ExitCode.FAILED
    assert "nobody sees what is asked; nothing was changed" in capsys.readouterr().err
    assert not dataplane.exists()


# --- the document ---


@pytest.mark.parametrize("verb", ["apply --yes", "run --once", "run --once --dry-run"])
@pytest.mark.parametrize("place", ["none/done.json", "lb.yaml/done.json"])
def test_a_place_for_the_document_is_there_before_the_pass(
    dataplane: FakeDataplane, verb: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*verb.split(), "--json-out", place]) == ExitCode.NOINPUT
    assert f"cannot write {place}: No such file or directory" in capsys.readouterr().err
    assert not dataplane.exists()


def test_a_document_that_was_lost(
    dataplane: FakeDataplane, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["apply", "--yes", "--json-out", "/dev/full"]) == ExitCode.FAILED
    assert "xdplb: cannot write /dev/full: No space left on device" in capsys.readouterr().err
    assert dataplane.read().generation == 1


def test_a_document_of_a_failure_that_was_lost(
    dataplane: FakeDataplane, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_operation: object) -> None:
        raise XdplbError("the kernel refuses")

    dataplane.write = refuse  # type: ignore[method-assign]
    assert run(["apply", "--yes", "--json-out", "/dev/full"]) == ExitCode.ROLLED_BACK
    first, second = capsys.readouterr().err.splitlines()
    assert first == "xdplb: cannot write /dev/full: No space left on device"
    assert second.startswith("xdplb: the kernel refuses")


def test_a_file_that_was_there_is_replaced(dataplane: FakeDataplane) -> None:
    Path("done.json").write_text("old", encoding="utf-8")
    assert run(["apply", "--yes", "-q", "--json-out", "done.json"]) == 0
    assert json.loads(Path("done.json").read_text(encoding="utf-8"))["applied"] is True
    assert dataplane.exists()


# --- commands that only print ---

READERS = [
    "validate lb.yaml",
    "validate lb.yaml --json",
    "plan --against lb.yaml",
    "plan --against lb.yaml --json",
    "lookup 192.0.2.2:1",
    "completion bash",
]


@pytest.mark.parametrize("verb", READERS)
@pytest.mark.usefixtures("dataplane")
def test_a_full_output_is_an_error(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with _open_full_device() as full:
        monkeypatch.setattr("sys.stdout", full)
        assert run(verb.split()) == ExitCode.FAILED
    assert capsys.readouterr().err == (
        "xdplb: cannot write standard output: No space left on device;"
        " make room there, or send it elsewhere\n"
    )


@pytest.mark.parametrize("verb", READERS)
@pytest.mark.usefixtures("dataplane")
def test_they_end_with_their_reader(verb: str) -> None:
    """As a process: what is left in a buffer fails once more when it ends."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "reconciler.cli.main", *verb.split()],
        stdout=writer, stderr=subprocess.PIPE, check=False, timeout=60, env=python_environment(),
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (ExitCode.OK, b"")


@pytest.mark.usefixtures("dataplane")
def test_a_verdict_is_kept_though_nobody_reads_why(
    monkeypatch: pytest.MonkeyPatch, lost: TextIO
) -> None:
    Path("lb.yaml").write_text("nonsense", encoding="utf-8")
    monkeypatch.setattr("sys.stderr", lost)
    assert run(["validate", "lb.yaml"]) == ExitCode.CONFIG


@pytest.mark.parametrize("verb", ["validate -", "plan - --against lb.yaml", "lookup ::1 -c -"])
@pytest.mark.usefixtures("dataplane")
def test_a_standard_input_that_is_closed(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert run(verb.split()) == ExitCode.NOINPUT
    expected = "xdplb: standard input is closed; name a file, or open it\n"
    assert capsys.readouterr() == ("", expected)
