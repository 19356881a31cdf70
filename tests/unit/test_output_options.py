"""What every command that prints for people takes: --color, NO_COLOR, --quiet, --json-out."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from reconciler.cli.color import make_console
from reconciler.cli.main import VERBS, run, xdplb
from reconciler.cli.options import choose_paths
from reconciler.errors import ExitCode

from ..fake import FakeDataplane, FakeInstance
from ..surveys import make_survey

GOOD = """\
interface: eth0
vip: 192.0.2.1
port: 80
backends: [10.0.0.1]
"""
BAD = GOOD.replace("port", "prot")
WARNED = GOOD.replace("10.0.0.1", "127.0.0.1")
LOOKUP = ["lookup", "192.0.2.2:1", "-c"]


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("XDPLB_CONFIG", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, text in {"lb.yaml": GOOD, "bad.yaml": BAD, "warned.yaml": WARNED}.items():
        (tmp_path / name).write_text(text)


# --- which commands take which ---


def list_options(verb: str) -> set[str]:
    command = xdplb.get_command(click.Context(xdplb), verb)
    assert command is not None
    return {option for param in command.params for option in param.opts}


@pytest.mark.parametrize("verb", sorted(set(VERBS) - {"completion"}))
def test_every_verb_that_prints_for_people(verb: str) -> None:
    assert {"-q", "--quiet", "-v", "--verbose", "--color"} <= list_options(verb)


@pytest.mark.parametrize("verb", ["apply", "run"])
def test_both_that_make_a_pass_take_the_same(verb: str) -> None:
    options = {"--json", "--json-out", "--detailed-exitcode", "--allow-large-change"}
    assert options | {"--no-verify", "--lock-timeout", "--pin-dir"} <= list_options(verb)


# --- colours ---


@pytest.mark.parametrize(
    ("variable", "flags", "is_colored"),
    [
        ("", [], True),
        ("1", [], False),
        ("1", ["--color", "auto"], False),
        ("1", ["--color", "always"], True),
        ("", ["--color", "never"], False),
    ],
)
@pytest.mark.parametrize("verb", [LOOKUP, ["doctor"]])
def test_colours_on_a_terminal(
    verb: list[str], variable: str, flags: list[str], is_colored: bool
) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "NO_COLOR": variable, "TERM": "xterm"}
    script = """
import sys
from types import SimpleNamespace
from reconciler.cli import doctor
from reconciler.cli.main import main
from reconciler.diagnosis.finding import Finding, Severity
doctor._inspect = lambda *_: None
doctor.diagnose = lambda _: [Finding("XLB521", Severity.ERROR, "eth0", "is down")]
main(sys.argv[1:])
"""
    words = [*verb, "bad.yaml", *flags]
    with subprocess.Popen(
        [sys.executable, "-c", script, *words], stdout=theirs, stderr=theirs, env=environment
    ) as process:
        assert process.wait(timeout=60) != 0
    os.close(theirs)
    with open(ours, "rb", buffering=0) as terminal:
        shown = terminal.read(65536)
    assert b"error" in shown
    assert (b"\x1b[" in shown) == is_colored


@pytest.mark.parametrize(("color", "is_colored"), [(None, False), (True, True), (False, False)])
def test_a_console_asks_the_same(
    color: bool | None, is_colored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into a pipe, and with NO_COLOR, which `--color always` outdoes."""
    monkeypatch.setenv("NO_COLOR", "1")
    with click.Context(xdplb, color=color):
        console = make_console()
        console.file = io.StringIO()
        console.print("words", style="bold red")
    assert ("\x1b[" in console.file.getvalue()) == is_colored


# --- quiet ---


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["validate", "lb.yaml", "warned.yaml"], ExitCode.OK),
        (["plan", "warned.yaml", "--against", "lb.yaml"], ExitCode.OK),
        ([*LOOKUP, "lb.yaml", "--with", "warned.yaml"], ExitCode.OK),
    ],
)
def test_quiet_says_nothing(
    words: list[str], code: ExitCode, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, "--quiet"]) == code
    assert capsys.readouterr() == ("", "")
    assert run([*words, "--quiet", "--json"]) == code
    out, err = capsys.readouterr()
    assert json.loads(out)["format_version"] == "1.0"
    assert err == ""


@pytest.mark.parametrize("words", [["validate", "bad.yaml"], [*LOOKUP, "bad.yaml"]])
def test_quiet_says_what_is_wrong(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words, "-q"]) == ExitCode.CONFIG
    out, err = capsys.readouterr()
    assert out == ""
    assert "bad.yaml:3:1: error[XLB201]" in err


def test_top_in_silence_has_to_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    surveyor = SimpleNamespace(name="default", take=make_survey)
    monkeypatch.setattr("reconciler.cli.top.make_surveyor", lambda *_: surveyor)
    monkeypatch.setattr("reconciler.cli.top.wait_for_key", lambda *_: False)
    assert run(["top", "-n", "default", "-q"]) == ExitCode.USAGE
    assert "say with --count when it is to end" in capsys.readouterr().err
    assert run(["top", "-n", "default", "-q", "--count", "2"]) == ExitCode.OK
    assert capsys.readouterr() == ("", "")


# --- validate: the file as an option, and its document ---


def test_which_files_are_validated() -> None:
    assert choose_paths(["a", "b"], None) == ["a", "b"]
    assert choose_paths([], "c") == ["c"]
    assert choose_paths(["c"], "c") == ["c"]
    with pytest.raises(click.UsageError, match="two configurations are named: b and c"):
        choose_paths(["c", "b"], "c")


def test_validate_takes_the_file_as_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate", "-c", "bad.yaml"]) == ExitCode.CONFIG
    assert "bad.yaml:3:1: error" in capsys.readouterr().err
    assert run(["validate", "lb.yaml", "-c", "bad.yaml"]) == ExitCode.USAGE


@pytest.mark.parametrize(("name", "code"), [("lb.yaml", 0), ("bad.yaml", 78), ("none.yaml", 66)])
def test_the_document_of_a_validation_goes_to_a_file(
    name: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["validate", name, "--json"]) == code
    printed = json.loads(capsys.readouterr().out)
    assert run(["validate", name, "--json-out", "done.json"]) == code
    assert json.loads(Path("done.json").read_text()) == printed
    assert run(["validate", name, "--json-out", "none/done.json"]) == ExitCode.NOINPUT
    assert "cannot write none/done.json" in capsys.readouterr().err


# --- status ---


@pytest.fixture
def _surveyor(monkeypatch: pytest.MonkeyPatch) -> None:
    surveyor = SimpleNamespace(name="default", take=make_survey)
    monkeypatch.setattr("reconciler.cli.status.make_surveyor", lambda *_: surveyor)


@pytest.mark.usefixtures("_surveyor")
def test_the_document_of_a_status_goes_to_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "-n", "default", "--json-out", "done.json"]) == 0
    assert capsys.readouterr().out.startswith("instance default, generation 0\n")
    assert run(["status", "-n", "default", "--json"]) == 0
    assert json.loads(Path("done.json").read_text()) == json.loads(capsys.readouterr().out)
    assert run(["status", "-n", "default", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


# --- wait and detach ---


@pytest.fixture
def dataplane(monkeypatch: pytest.MonkeyPatch) -> FakeDataplane:
    made = FakeDataplane()
    made.attachments = SimpleNamespace(read=lambda: {"eth1": None, "eth0": None})  # type: ignore[attr-defined]
    monkeypatch.setattr(
        "reconciler.instance.Instance", lambda name, _root: FakeInstance(made, name)
    )
    return made


class Never:
    lacks = "it is not there"

    def look(self) -> bool:
        return False


@pytest.mark.usefixtures("_applied")
def test_the_document_of_a_wait(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["wait", "--for", "synced", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert 0 <= document.pop("waited_s") < 60
    assert document == {
        "format_version": "1.0",
        "kind": "xdplb.wait",
        "condition": "synced",
        "holds": True,
        "lacks": None,
    }


@pytest.mark.usefixtures("_applied")
def test_the_document_of_a_wait_that_ran_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("reconciler.cli.wait.Synced", lambda *_: Never())
    assert run(["wait", "--for", "synced", "--json", "--timeout", "0s"]) == ExitCode.TIMEOUT
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert (document["holds"], document["lacks"]) == (False, "it is not there")
    assert err == "xdplb: synced: not so after 0 s: it is not there\n"


@pytest.fixture
def _applied(dataplane: FakeDataplane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.cli.one_pass.leave_account", lambda *_arguments: None)
    assert run(["apply", "--yes", "-q"]) == 0
    assert dataplane.exists()


@pytest.mark.usefixtures("_applied")
def test_the_document_of_a_detach(
    dataplane: FakeDataplane, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["detach", "-n", "nobodys", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "format_version": "1.0",
        "kind": "xdplb.detach",
        "name": "nobodys",
        "interfaces": ["eth0", "eth1"],
    }
    assert not dataplane.exists()
