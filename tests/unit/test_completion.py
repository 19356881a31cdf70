"""What a shell offers, asked of the shell itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from reconciler.cli.main import VERBS, run, xdplb
from reconciler.lab.process import python_environment

pytestmark = pytest.mark.slow

FILE = """\
interface: eth0
services:
  - {name: web, vip: 192.0.2.1, port: 80, backends: [{name: web-1, address: 10.0.0.1}]}
  - {name: dns, vip: 192.0.2.1, port: 53, backends: [10.0.0.2]}
"""
# Each asks the shell to complete the words, the last one under the cursor, and prints
# what is offered, a line each; FILES stands for the shell's own file names.
SCRIPTS = {
    "bash": """
        compopt() { [ "$2" = default ] && echo FILES; }
        source <(xdplb completion bash)
        complete -p xdplb >/dev/null || exit 1
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        _xdplb_completion xdplb
        printf '%s\\n' "${COMPREPLY[@]}"
    """,
    "zsh": """
        compdef() { [[ $1 = _xdplb_completion && $2 = xdplb ]] || exit 1 }
        _describe() { print -l -- ${(P)argv[3]%%:*} }
        compadd() { print -l -- ${(P)argv[-1]} }
        _path_files() { print FILES }
        source <(xdplb completion zsh)
        words=("$@"); CURRENT=$#
        _xdplb_completion
    """,
    "fish": """
        xdplb completion fish | source
        complete -C "$argv" | string split -f 1 \\t
    """,
}


@pytest.fixture
def ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, require: Callable[[object, str], None]
) -> Callable[..., set[str]]:
    """A function `ask(shell, *words)` that returns what the shell offers for the last word."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lb.yaml").write_text(FILE)
    (tmp_path / "xdplb").write_text(
        f'#!/bin/sh\nexec {sys.executable} -m reconciler.cli.main "$@"\n'
    )
    (tmp_path / "xdplb").chmod(0o755)
    environment = python_environment()
    environment |= {"PATH": f"{tmp_path}:{environment['PATH']}", "HOME": str(tmp_path)}
    environment.pop("XDPLB_CONFIG", None)

    def ask_shell(shell: str, *words: str) -> set[str]:
        require(shutil.which(shell), f"{shell} is missing")
        if shell == "fish":
            command = [shell, "-c", SCRIPTS[shell], " ".join(words)]
        else:
            command = [shell, "-c", SCRIPTS[shell], shell, *words]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, env=environment
        )
        assert done.stderr == ""
        return set(done.stdout.split())

    return ask_shell


@pytest.mark.parametrize("shell", SCRIPTS)
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["pl"], {"plan"}),
        (["plan", "--det"], {"--detailed-exitcode"}),
        (["lookup", "192.0.2.2:1", ""], {"web", "dns"}),
        (["completion", "f"], {"fish"}),
        (["--ver"], {"--version"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_words_are_offered(
    ask: Callable[..., set[str]], shell: str, words: list[str], offered: set[str]
) -> None:
    assert ask(shell, "xdplb", *words) == offered


@pytest.mark.parametrize("shell", SCRIPTS)
def test_all_verbs_are_offered(ask: Callable[..., set[str]], shell: str) -> None:
    assert ask(shell, "xdplb", "") == set(VERBS)


@pytest.mark.parametrize("shell", SCRIPTS)
@pytest.mark.parametrize("words", [["validate", "l"], ["plan", "l"], ["run", "-c", "l"]])
def test_files_are_left_to_the_shell(
    ask: Callable[..., set[str]], shell: str, words: list[str]
) -> None:
    assert ask(shell, "xdplb", *words) == ({"lb.yaml"} if shell == "fish" else {"FILES"})


def offer(*words: str) -> str:
    """What the program offers for the last word, whatever shell asks."""
    environment = {
        "_XDPLB_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["xdplb", *words]),
        "COMP_CWORD": str(len(words)),
    }
    return CliRunner().invoke(xdplb, prog_name="xdplb", env=environment).output


@pytest.mark.parametrize("text", ["", "nonsense", FILE.replace("web", "w eb"), None])
def test_a_file_that_is_not_valid_offers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDPLB_CONFIG", "lb.yaml")
    if text is not None:
        (tmp_path / "lb.yaml").write_text(text)
    assert offer("lookup", "192.0.2.2:1", "").split() == []


def test_instances_are_offered(tmp_path: Path) -> None:
    for name in ("edge", "east", "west"):
        (tmp_path / name).mkdir()
    assert offer("status", "--pin-dir", str(tmp_path), "-n", "e").split() == [
        "plain,east",
        "plain,edge",
    ]


def test_completing_a_verb_imports_none_of_them() -> None:
    program = (
        "import sys\n"
        "from reconciler.cli.main import run\n"
        "run([])\n"
        "assert not [name for name in sys.modules if name.startswith(('numpy', 'rich', 'yaml'))]\n"
    )
    environment = {
        **python_environment(),
        "_XDPLB_COMPLETE": "bash_complete",
        "COMP_WORDS": "xdplb ",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True,
        timeout=60, env=environment,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.partition(",")[2] for line in done.stdout.split()] == list(VERBS)


def test_a_shell_that_is_not_known() -> None:
    assert run(["completion", "tcsh"]) == 64


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_script_names_the_program(shell: str) -> None:
    text = CliRunner().invoke(xdplb, ["completion", shell], prog_name="xdplb").output
    assert f"_XDPLB_COMPLETE={shell}_complete" in text
    assert "pytest" not in text
