"""`xdplb apply` and `run --once`: what is shown, asked and told, on a fake data plane."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli.main import run
from reconciler.errors import ExitCode, XdplbError

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
LONGER = TEXT.replace("10.0.0.4]", "10.0.0.4, 10.0.0.5]")
SHORTER = TEXT.replace("10.0.0.3, 10.0.0.4]", "10.0.0.3]")
MUCH_SHORTER = TEXT.replace(", 10.0.0.3, 10.0.0.4]", "]")


class Machine:
    """What the commands run on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dataplane = FakeDataplane()

    def write(self, text: str, name: str = "lb.yaml") -> str:
        (self.folder / name).write_text(text, encoding="utf-8")
        return name

    def apply(self, text: str) -> None:
        self.write(text)
        assert run(["apply", "--yes", "-q"]) == 0


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDPLB_CONFIG", raising=False)
    monkeypatch.setattr(
        "reconciler.instance.Instance", lambda name, _root: FakeInstance(made.dataplane, name)
    )
    monkeypatch.setattr("reconciler.cli.one_pass.leave_account", lambda *_arguments: None)
    monkeypatch.setattr("reconciler.cli.run.start_log", lambda **_flags: None)
    made.write(TEXT)
    return made


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sit at a terminal and type this."""
    return lambda text: monkeypatch.setattr("sys.stdin", Terminal(text))


@pytest.fixture(autouse=True)
def _nobody_sits_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))


# --- showing and asking ---


def test_it_shows_the_plan_and_says_what_it_did(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["apply", "--yes"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("lb.yaml against instance default:\n\n  + interface.eth0 ")
    assert out.endswith(" 0 drifted\napplied and verified: generation 1\n")
    assert err == ""
    assert run(["apply", "--yes"]) == 0
    assert capsys.readouterr().out == (
        "in sync: the kernel does what lb.yaml says (generation 1)\n"
    )


def test_nobody_to_ask(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["apply"]) == ExitCode.USAGE
    assert "add --yes" in capsys.readouterr().err
    assert not machine.dataplane.exists()


def test_nothing_to_see(
    machine: Machine, answer: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    answer("y\n")
    assert run(["apply", "--quiet"]) == ExitCode.USAGE
    assert "add --yes" in capsys.readouterr().err


def test_a_configuration_on_standard_input_leaves_nobody_to_ask(
    machine: Machine, answer: Callable[[str], None]
) -> None:
    answer(TEXT)
    assert run(["apply", "-"]) == ExitCode.USAGE


@pytest.mark.parametrize("text", ["y\n", "yes\n"])
def test_yes(
    machine: Machine, text: str, answer: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    answer(text)
    assert run(["apply"]) == 0
    out, err = capsys.readouterr()
    assert "Apply this? [y/N]" in out + err
    assert out.endswith("applied and verified: generation 1\n")


@pytest.mark.parametrize("text", ["n\n", "\n", "perhaps\nno\n"])
def test_no(
    machine: Machine, text: str, answer: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    answer(text)
    assert run(["apply"]) == ExitCode.BLOCKED
    assert capsys.readouterr().err.endswith(
        "xdplb: not applied, as you said; nothing was changed [XLB604]\n"
    )
    assert not machine.dataplane.exists()


def test_an_end_of_input_is_an_interrupt(machine: Machine, answer: Callable[[str], None]) -> None:
    answer("")
    assert run(["apply"]) == 130
    assert not machine.dataplane.exists()


def test_nothing_is_asked_where_nothing_changes(
    machine: Machine, answer: Callable[[str], None]
) -> None:
    machine.apply(TEXT)
    answer("")
    assert run(["apply"]) == 0


def test_nothing_is_asked_that_is_refused_anyway(
    machine: Machine, answer: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    machine.apply(TEXT)
    machine.write(MUCH_SHORTER)
    answer("")
    before = machine.dataplane.read()
    assert run(["apply"]) == ExitCode.BLOCKED
    out, err = capsys.readouterr()
    assert "blocked: service web: removes 2 of 4 backends" in out
    assert "--allow-large-change [XLB601]" in err
    assert machine.dataplane.read() is before
    answer("y\n")
    assert run(["apply", "--allow-large-change", "--json-out", "done.json"]) == 0
    out = capsys.readouterr().out
    assert "allowed: service web: removes 2 of 4 backends" in out
    document = json.loads((machine.folder / "done.json").read_text())
    assert document["guard"]["blocked"] is False
    assert [(d["code"], d["severity"]) for d in document["diagnostics"]] == [("XLB601", "warning")]
    assert machine.dataplane.read().generation == 2


# --- exit codes ---


@pytest.mark.parametrize("verb", ["apply --yes", "run --once"])
def test_changes_are_told_if_asked_for(machine: Machine, verb: str) -> None:
    words = [*verb.split(), "--detailed-exitcode", "-c", "lb.yaml"]
    assert run(words) == ExitCode.CHANGES
    assert run(words) == ExitCode.OK


def fail_at(machine: Machine, *numbers: int) -> None:
    write, calls = machine.dataplane.write, 0

    def strike(operation: Any) -> None:
        nonlocal calls
        calls += 1
        if calls in numbers:
            raise XdplbError("the kernel refuses")
        write(operation)

    machine.dataplane.write = strike  # type: ignore[method-assign]


@pytest.mark.parametrize("verb", ["apply --yes", "run --once"])
def test_a_rollback(machine: Machine, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    machine.apply(TEXT)
    before = machine.dataplane.read()
    machine.write(LONGER)
    fail_at(machine, 3)
    assert run([*verb.split(), "--json"]) == ExitCode.ROLLED_BACK
    out, err = capsys.readouterr()
    assert err.endswith("xdplb: the kernel refuses; the state before it is back [XLB605]\n")
    document = json.loads(out)
    assert (document["applied"], document["writes"]) == (False, 0)
    assert [each["code"] for each in document["diagnostics"]] == ["XLB605"]
    assert document["summary"]["add"] == 1
    assert machine.dataplane.read() == before


def test_a_rollback_that_fails(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.apply(TEXT)
    machine.write(LONGER)
    fail_at(machine, 3, 4)
    assert run(["apply", "--yes"]) == ExitCode.DEGRADED
    assert "putting the state before it back failed too" in capsys.readouterr().err


# --- verifying ---


def spoil_read_back(machine: Machine) -> None:
    before, looks = machine.dataplane.read(), 0

    def look() -> Any:
        nonlocal looks
        looks += 1
        return machine.dataplane.tables if looks != 2 else before

    machine.dataplane.read = look  # type: ignore[method-assign]


def test_what_reads_back_otherwise_is_taken_back(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.apply(TEXT)
    before = machine.dataplane.read()
    machine.write(LONGER)
    spoil_read_back(machine)
    assert run(["apply", "--yes"]) == ExitCode.ROLLED_BACK
    err = capsys.readouterr().err
    assert "read back, the kernel differs from the plan: " in err
    assert machine.dataplane.tables == before


@pytest.mark.parametrize("verb", ["apply --yes", "run --once"])
def test_verifying_can_be_left_out(
    machine: Machine, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.apply(TEXT)
    machine.write(LONGER)
    spoil_read_back(machine)
    assert run([*verb.split(), "--no-verify"]) == 0
    assert capsys.readouterr().out.endswith("applied, not verified: generation 2\n")
    assert machine.dataplane.tables is not None
    assert len(machine.dataplane.tables.backends) == 5


# --- documents ---


@pytest.mark.parametrize("verb", ["apply --yes", "run --once"])
def test_the_document(machine: Machine, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*verb.split(), "--json", "--json-out", "done.json"]) == 0
    out, err = capsys.readouterr()
    assert (machine.folder / "done.json").read_text() == out
    document = json.loads(out)
    assert (document["applied"], document["kind"]) == (True, "xdplb.plan")
    assert document["writes"] > 0
    # Words go elsewhere; nobody was asked, but somebody may look.
    assert ("  + service.web" in err) == verb.startswith("apply")


def test_a_document_beside_the_words(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["apply", "--yes", "--json-out", "done.json"]) == 0
    assert "applied and verified" in capsys.readouterr().out
    assert json.loads((machine.folder / "done.json").read_text())["applied"] is True


def test_more(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["apply", "--yes", "-v"]) == 0
    assert re.search(r"\nwrites: \d+ rows, 509 slots\napplied", capsys.readouterr().out)


def test_quiet(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["apply", "--yes", "-q"]) == 0
    assert capsys.readouterr() == ("", "")


# --- a dry run ---


def test_a_dry_run_writes_nothing(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "--once", "--dry-run"]) == 0
    assert "applied" not in capsys.readouterr().out
    assert not machine.dataplane.exists()


# --- saved plans ---


@pytest.fixture
def saved(machine: Machine, capsys: pytest.CaptureFixture[str]) -> Machine:
    machine.apply(TEXT)
    machine.write(LONGER)
    assert run(["plan", "--json-out", "plan.json"]) == 0
    capsys.readouterr()
    return machine


def test_a_saved_plan_is_applied(saved: Machine) -> None:
    assert run(["apply", "--plan", "plan.json", "--yes"]) == 0
    assert len(saved.dataplane.read().backends) == 5


def test_a_saved_plan_of_another_place(saved: Machine) -> None:
    (saved.folder / "lb.yaml").rename(saved.folder / "moved.yaml")
    assert run(["apply", "--plan", "plan.json", "moved.yaml", "--yes"]) == 0


def refuse_stale(machine: Machine, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = machine.dataplane.read()
    assert run(["apply", "--plan", "plan.json", "--yes"]) == ExitCode.BLOCKED
    err = capsys.readouterr().err
    assert err.startswith(f"xdplb: {words}")
    assert err.endswith("; plan again, and look at what it says now [XLB603]\n")
    assert machine.dataplane.read() == before


def test_stale_another_file(saved: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    saved.write(LONGER + "# a comment\n")
    refuse_stale(saved, "lb.yaml is not the file that plan.json plans", capsys)


def test_stale_another_generation(saved: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    saved.apply(SHORTER)
    saved.write(LONGER)
    refuse_stale(saved, "plan.json starts from generation 1, this is 2", capsys)


def test_stale_applied_already(saved: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["apply", "--plan", "plan.json", "--yes", "-q"]) == 0
    refuse_stale(saved, "plan.json starts from generation 1, this is 2", capsys)


def test_stale_drifted(saved: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    tables = saved.dataplane.read()
    slots = tables.slots.copy()
    slots[:100] = slots[0]
    saved.dataplane.tables = type(tables)(**{**vars(tables), "slots": slots})
    refuse_stale(saved, "plan.json changes something else than what would change now", capsys)


def test_stale_detached_and_applied_anew(
    saved: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    saved.dataplane.remove()
    saved.apply(SHORTER)
    saved.write(LONGER)
    refuse_stale(saved, "plan.json starts from another configuration", capsys)


def test_a_plan_of_another_instance(saved: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads((saved.folder / "plan.json").read_text())
    document["live"]["name"] = "edge"
    (saved.folder / "plan.json").write_text(json.dumps(document))
    refuse_stale(saved, "plan.json is of instance edge, this is default", capsys)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a saved plan"),
        ("[]", "is not a saved plan"),
        ("[" * 100_000, "is not a saved plan"),
        ('{"kind": "xdplb.plan"}', "is not a saved plan"),
        ('{"kind": "xdplb.status"}', "is not a saved plan"),
    ],
)
def test_what_is_no_plan(
    machine: Machine, text: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.write(text, "plan.json")
    assert run(["apply", "--plan", "plan.json", "--yes"]) == ExitCode.NOINPUT
    assert words in capsys.readouterr().err


def test_a_plan_that_is_not_there(machine: Machine) -> None:
    assert run(["apply", "--plan", "none.json", "--yes"]) == ExitCode.NOINPUT


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("format_version", "2.0", "has the format 2.0, not 1.0"),
        ("against", "old.yaml", "compares two files"),
    ],
)
def test_a_plan_that_can_not_be_applied(
    saved: Machine, key: str, value: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads((saved.folder / "plan.json").read_text()) | {key: value}
    (saved.folder / "plan.json").write_text(json.dumps(document))
    assert run(["apply", "--plan", "plan.json", "--yes"]) == ExitCode.NOINPUT
    assert words in capsys.readouterr().err


def test_a_plan_of_standard_input_needs_its_file(saved: Machine) -> None:
    document = json.loads((saved.folder / "plan.json").read_text())
    document["config"]["path"] = "<stdin>"
    (saved.folder / "plan.json").write_text(json.dumps(document))
    assert run(["apply", "--plan", "plan.json", "--yes"]) == ExitCode.USAGE
    assert run(["apply", "--plan", "plan.json", "--yes", "lb.yaml"]) == 0
