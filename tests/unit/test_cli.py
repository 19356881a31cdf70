"""The programs as a shell meets them: exit codes, streams, and one line instead of a traceback."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler import __version__
from reconciler.cli import main as cli
from reconciler.cli.main import VERBS, main, main_reconcile, run
from reconciler.errors import (
    Blocked,
    Degraded,
    ExitCode,
    Locked,
    NoInput,
    NoPermission,
    Overdue,
    RolledBack,
    Unavailable,
    XdplbError,
)

OLD = """\
interface: eth0
services:
  - name: web
    vip: 192.0.2.1
    port: 80
    backends:
      - {name: web-1, address: 10.0.0.1}
      - {name: web-2, address: 10.0.0.2}
"""
NEW = OLD.replace("10.0.0.2}", "10.0.0.2, weight: 50}") + "      - 10.0.0.3\n"
BAD = OLD.replace("port: 80", "prot: 80")


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDPLB_CONFIG", raising=False)
    # It would keep this test's standard error for all that come after.
    monkeypatch.setattr("reconciler.cli.run.start_log", lambda **_flags: None)
    for name, text in {"old.yaml": OLD, "lb.yaml": NEW, "bad.yaml": BAD}.items():
        (tmp_path / name).write_text(text)


# --- exit codes ---


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("plan --against old.yaml", 0),
        ("plan lb.yaml --against old.yaml", 0),
        ("plan -c lb.yaml --against old.yaml", 0),
        ("plan lb.yaml -c lb.yaml --against old.yaml", 0),
        ("plan --against old.yaml --detailed-exitcode", 2),
        ("plan --against lb.yaml --detailed-exitcode", 0),
        ("validate", 0),
        ("--version", 0),
        ("--help", 0),
        # bad flags
        ("plan --aginst old.yaml", 64),
        ("plan a b", 64),
        ("plan --format xml", 64),
        ("plan lb.yaml -c old.yaml --against old.yaml", 64),
        ("--nonsense", 64),
        ("plna", 64),
        ("run --dry-run", 64),
        ("run nonsense", 64),
        ("run --lock-timeout soon", 64),
        ("run -c - ", 64),
        ("drain", 64),
        ("drain web/a --for soon", 64),
        ("wait", 64),
        # no file
        ("plan none.yaml --against old.yaml", 66),
        ("plan --against none.yaml", 66),
        ("plan . --against old.yaml", 66),
        ("validate none.yaml", 66),
        ("run --once -c none.yaml", 66),
        ("status -c none.yaml", 66),
        # no valid file
        ("plan bad.yaml --against old.yaml", 78),
        ("plan --against bad.yaml", 78),
        ("validate bad.yaml", 78),
        ("run --once -c bad.yaml", 78),
        ("run -c bad.yaml", 78),
    ],
)
def test_exit_codes(
    words: str, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", _Input(NEW))
    assert run(words.split()) == code
    out, err = capsys.readouterr()
    assert (out == "") == (code not in (0, 2))
    assert (err == "") == (code in (0, 2))
    assert "Traceback" not in err


class _Input:
    def __init__(self, text: str) -> None:
        self.buffer = self
        self._data = text.encode()

    def read(self, _size: int) -> bytes:
        return self._data


ERRORS = [
    (XdplbError, 1),
    (RolledBack, 3),
    (Degraded, 4),
    (Blocked, 5),
    (Overdue, 6),
    (NoInput, 66),
    (Unavailable, 69),
    (Locked, 75),
    (NoPermission, 77),
]


@pytest.mark.parametrize(("error", "code"), ERRORS)
def test_every_error_has_its_code_and_says_what_to_do(
    error: type[XdplbError],
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_arguments: object) -> None:
        raise error("it is so", remedy="do this")

    monkeypatch.setattr("reconciler.cli.plan.propose_offline", fail)
    assert run(["plan", "--against", "old.yaml"]) == code
    suffix = f" [{error.code}]" if error.code else ""
    assert capsys.readouterr() == ("", f"xdplb: it is so; do this{suffix}\n")


def test_a_file_that_is_not_valid_is_shown_as_a_compiler_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["plan", "bad.yaml", "--against", "old.yaml"]) == ExitCode.CONFIG
    assert capsys.readouterr() == (
        "",
        "bad.yaml:5:5: error[XLB201]: unknown key 'prot' in a service\n"
        "  5 |     prot: 80\n"
        "    |     ^^^^\n"
        "  hint: did you mean 'port'?\n"
        "xdplb: bad.yaml is not valid: 1 error\n",
    )


def test_a_missing_file_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "none.yaml", "--against", "old.yaml"]) == ExitCode.NOINPUT
    assert capsys.readouterr().err == (
        "xdplb: there is no file none.yaml;"
        " name one, set XDPLB_CONFIG, or start from examples/lb.yaml\n"
    )


# --- what nobody expected ---


@pytest.fixture
def _bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise RuntimeError("BUG")

    monkeypatch.setattr("reconciler.cli.plan.propose_offline", fail)


@pytest.mark.usefixtures("_bug")
def test_a_bug_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "--against", "old.yaml"]) == ExitCode.FAILED
    assert capsys.readouterr() == (
        "",
        "xdplb: unexpected: RuntimeError: BUG; run it with -v and report what it shows\n",
    )


@pytest.mark.usefixtures("_bug")
@pytest.mark.parametrize("flag", ["-v", "--verbose"])
def test_a_bug_is_shown_whole_if_asked_for(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    assert run(["plan", "--against", "old.yaml", flag]) == ExitCode.FAILED
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):\n")
    assert "RuntimeError: BUG" in err


def test_every_verb_can_say_more(capsys: pytest.CaptureFixture[str]) -> None:
    """`-v` is what is asked for after a bug."""
    lacking = []
    for verb in set(VERBS) - {"validate", "demo"}:
        run([verb, "--help"])
        if "--verbose" not in capsys.readouterr().out:
            lacking.append(verb)
    assert lacking == []


@pytest.mark.parametrize("verb", ["validate", "demo"])
def test_the_other_verbs_can_say_more(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    run([verb, "--help"])
    assert "--verbose" in capsys.readouterr().out


def test_an_interrupt_is_told_as_a_shell_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("reconciler.cli.plan.propose_offline", interrupt)
    assert run(["plan", "--against", "old.yaml"]) == 130
    assert capsys.readouterr().err.strip() == "xdplb: interrupted"


def test_a_reader_that_went_away_is_no_failure() -> None:
    """In a process of its own: what is left to say has nobody to read it."""
    script = "from reconciler.cli.main import main; main(['plan', '--against', 'old.yaml'])"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
        assert process.wait() == 0


# --- words ---


@pytest.mark.parametrize("program", [main, main_reconcile])
def test_versions(program: object, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        program(["--version"])  # type: ignore[operator]
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"xdplb, version {__version__}\n"


def test_xdplb_reconcile_is_xdplb_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(cli, "run", lambda words: called.append(words) or 0)
    for program in (main_reconcile, main):
        with pytest.raises(SystemExit):
            program(["--once", "-c", "lb.yaml"])
    monkeypatch.setattr(sys, "argv", ["xdplb-reconcile", "-h"])
    with pytest.raises(SystemExit):
        main_reconcile()
    assert called == [
        ["run", "--once", "-c", "lb.yaml"],
        ["--once", "-c", "lb.yaml"],
        ["run", "-h"],
    ]


def test_the_verbs_are_listed_in_the_order_of_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-h"]) == 0
    listed = capsys.readouterr().out.split("Commands:\n")[1]
    assert [line.split()[0] for line in listed.splitlines() if line[2:3] != " "] == list(VERBS)


def test_help_and_offline_verbs_import_no_kernel() -> None:
    """In a process of its own: BCC maps LLVM, pyroute2 takes a while to load."""
    script = """
import contextlib, io, sys
from reconciler.cli.main import VERBS, run

def find_loaded():
    return sorted({"bcc", "pyroute2", "watchdog", "matplotlib"} & set(sys.modules))

with contextlib.redirect_stdout(io.StringIO()):
    codes = [run(["validate"]), run(["plan", "--against", "old.yaml"])]
loaded_offline = find_loaded()
with contextlib.redirect_stdout(io.StringIO()):
    codes += [run([verb, "--help"]) for verb in VERBS] + [run(["--help"])]
assert set(codes) == {0}, codes
print(loaded_offline, "bcc" in find_loaded(), "matplotlib" in find_loaded())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout == "[] False False\n"


# --- the plan ---


def test_the_plan_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "--against", "old.yaml"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out == (
        "lb.yaml against old.yaml:\n"
        "\n"
        "  + service.web.backend.10.0.0.3:80  address 10.0.0.3  port 80  weight 100"
        "  slots 0 -> 26215      [lb.yaml:9]\n"
        "  ~ service.web.backend.web-2        weight 100 -> 50                     "
        "  slots 32768 -> 13107  [lb.yaml:8]\n"
        "\n"
        "ring of web: moves 30477 of 65537 slots (46.50 %), least possible 26215 (40.00 %)\n"
        "connections of web: none broken\n"
        "plan: 1 to add, 1 to change, 0 to remove, 0 drifted\n"
    )


def test_the_plan_backwards(capsys: pytest.CaptureFixture[str]) -> None:
    run(["plan", "old.yaml", "--against", "lb.yaml"])
    out = capsys.readouterr().out
    assert re.search(r"^  - service\.web\.backend\.10\.0\.0\.3:80 +slots 26215 -> 0$", out, re.M)
    assert "none broken; those on 10.0.0.3:80 have 5m to end\n" in out


def test_a_plan_that_is_refused_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "seed.yaml").write_text("hash_seed: 1\n" + OLD)
    run(["plan", "seed.yaml", "--against", "old.yaml"])
    assert capsys.readouterr().out.splitlines()[-1] == (
        "blocked: the hash seed changes (hash_seed, or name): every flow would move [XLB601]"
    )


def test_a_plan_that_would_be_refused_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "seed.yaml").write_text("hash_seed: 1\n" + OLD)
    assert run(["plan", "seed.yaml", "--against", "old.yaml"]) == ExitCode.OK
    assert "blocked: the hash seed changes" in capsys.readouterr().out


def test_no_changes(capsys: pytest.CaptureFixture[str]) -> None:
    run(["plan", "--against", "lb.yaml"])
    assert capsys.readouterr().out == "no changes: lb.yaml was compared with itself\n"


def test_more(capsys: pytest.CaptureFixture[str]) -> None:
    run(["plan", "--against", "old.yaml", "-v"])
    assert re.search(r"\nwrites: \d+ rows, 30477 slots\n$", capsys.readouterr().out)


def test_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "--against", "old.yaml", "-q", "--detailed-exitcode"]) == ExitCode.CHANGES
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("flag", [["--json"], ["--format", "json"]])
def test_the_plan_for_programs(capsys: pytest.CaptureFixture[str], flag: list[str]) -> None:
    assert run(["plan", "--against", "old.yaml", *flag, "--json-out", "plan.json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert Path("plan.json").read_text() == out
    document = json.loads(out)
    # Stable order, part of the public contract.
    assert list(document) == [
        *("format_version", "kind", "config", "live", "in_sync", "changes", "rings", "guard"),
        *("diagnostics", "summary", "connections", "against", "overrides", "controller"),
    ]
    assert (document["format_version"], document["kind"]) == ("1.0", "xdplb.plan")
    assert list(document["config"]) == ["path", "sha256"]
    assert list(document["live"]) == ["name", "interfaces", "generation", "config_sha256"]
    assert document["live"]["generation"] == 1
    assert document["in_sync"] is False
    added, changed = document["changes"]
    assert changed == {
        "address": "service.web.backend.web-2",
        "actions": ["update"],
        "reason": "config",
        "before": {"weight": 100},
        "after": {"weight": 50},
        "slots": {"before": 32768, "after": 13107},
        "source": {"file": "lb.yaml", "line": 8, "column": 9},
    }
    assert list(changed) == [
        *("address", "actions", "reason", "before", "after", "slots", "source")
    ]
    assert (added["actions"], added["before"]) == (["create"], None)
    assert document["rings"] == [
        {"service": "web", "size": 65537, "slots_moved": 30477, "slots_moved_min": 26215}
    ]
    assert document["guard"] == {"blocked": False, "reason": None}
    assert document["diagnostics"] == []
    assert document["summary"] == {"add": 1, "change": 1, "remove": 0, "drift": 0}
    assert document["connections"] == [
        {"service": "web", "protocol": "tcp", "broken_percent": 0.0, "causes": [], "ending": []}
    ]
    assert document["against"] == "old.yaml"


GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ["plan.json", "plan.txt", "plan.github"])
def test_a_plan_is_printed_as_it_always_was(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The whole of it, byte for byte: to change it is to change the contract."""
    (tmp_path / "seed.yaml").write_text("hash_seed: 1\n" + NEW.replace("10.0.0.1}", "127.0.0.1}"))
    form = {"plan.json": "json", "plan.txt": "human", "plan.github": "github"}[name]
    assert run(["plan", "seed.yaml", "--against", "old.yaml", "--format", form]) == 0
    assert capsys.readouterr().out == (GOLDEN / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("form", ["json", "github"])
def test_an_invalid_file_is_told_in_the_form_that_was_asked_for(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["plan", "bad.yaml", "--against", "old.yaml", "--format", form]) == 78
    out, err = capsys.readouterr()
    assert err == ""
    if form == "github":
        assert out.startswith("::error file=bad.yaml,line=5,col=5,title=XLB201::unknown key 'prot'")
        return
    document = json.loads(out)
    assert (document["kind"], document["valid"]) == ("xdplb.validation", False)
    assert [one["code"] for one in document["diagnostics"]] == ["XLB201"]


def test_standard_input_is_one_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "-", "--against", "-"]) == ExitCode.USAGE
    assert "can't be both" in capsys.readouterr().err


def test_the_plan_of_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", _Input(NEW))
    assert run(["plan", "-", "--against", "old.yaml"]) == 0
    assert capsys.readouterr().out.startswith("<stdin> against old.yaml:\n")


def test_planning_offline_reaches_for_no_kernel() -> None:
    """In a process that can import no kernel library at all."""
    script = """
import sys

class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"bcc", "pyroute2", "watchdog"}:
            raise ImportError(f"{name} is not to be imported")

sys.meta_path.insert(0, Nowhere())
from reconciler.cli.main import main
main(["plan", "--against", "old.yaml", "--detailed-exitcode"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (ExitCode.CHANGES, b"")


# --- colours ---


@pytest.mark.parametrize(
    ("words", "is_colored"),
    [
        ("NO_COLOR= --color always", True),
        ("NO_COLOR=1 --color always", True),
        ("NO_COLOR= --color never", False),
        ("NO_COLOR= --color auto", False),
        ("NO_COLOR=", False),
        ("NO_COLOR=1", False),
    ],
)
@pytest.mark.parametrize("verb", ["validate bad.yaml", "plan --against old.yaml", "plan bad.yaml"])
def test_colors(
    verb: str,
    words: str,
    is_colored: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    variable, *flags = words.split()
    monkeypatch.setenv(*variable.split("="))
    run([*verb.split(), *flags])
    assert ("\x1b[" in "".join(capsys.readouterr())) == is_colored


@pytest.mark.parametrize(("variable", "is_colored"), [("", True), ("1", False)])
def test_colors_on_a_terminal(variable: str, is_colored: bool) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "NO_COLOR": variable}
    script = "from reconciler.cli.main import main; main(['plan', '--against', 'old.yaml'])"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=theirs, env=environment
    ) as process:
        assert process.wait() == 0
    os.close(theirs)
    with open(ours, "rb", buffering=0) as terminal:
        assert (b"\x1b[" in terminal.read(65536)) == is_colored


# --- warnings and what can't be written ---


def test_warnings_go_to_standard_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "warned.yaml").write_text(OLD.replace("10.0.0.1}", "127.0.0.1}"))
    run(["plan", "warned.yaml", "--against", "old.yaml"])
    out, err = capsys.readouterr()
    assert "warning[XLB403]" in err
    assert "warning" not in out
    run(["plan", "warned.yaml", "--against", "old.yaml", "--json"])
    out, err = capsys.readouterr()
    assert err == ""
    assert [one["code"] for one in json.loads(out)["diagnostics"]] == ["XLB403", "XLB602"]


def test_a_document_that_can_not_be_written_says_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["plan", "--against", "old.yaml", "--json-out", "none/plan.json"]) != 0
    err = capsys.readouterr().err
    assert "none/plan.json" in err
    assert "unexpected" not in err
