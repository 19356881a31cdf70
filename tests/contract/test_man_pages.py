"""The man pages say what the commands, the schema and the README say, and are well-formed."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from reconciler.cli.main import VERBS, xdplb
from reconciler.config.schema import load_schema
from reconciler.errors import ExitCode

ROOT = Path(__file__).parents[2]

Require = Callable[[object, str], None]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    generator = runpy.run_path(str(ROOT / "packaging" / "man_pages.py"))
    return {page.name: page for page in generator["write_pages"](tmp_path_factory.mktemp("man"))}


def render(page: Path) -> str:
    """The page as a terminal shows it, without bold and underlined letters."""
    command = ["groff", "-man", "-Tascii", "-P-cbou", "-rHY=0", "-rLL=9999n", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    return done.stdout


@pytest.mark.parametrize("name", ["xdplb.1", "lb.yaml.5"])
def test_pages_are_well_formed(pages: dict[str, Path], require: Require, name: str) -> None:
    require(shutil.which("mandoc"), "mandoc is missing")
    require(shutil.which("groff"), "groff is missing")
    for command in (["mandoc", "-Tlint"], ["groff", "-man", "-ww", "-z"]):
        done = subprocess.run(
            [*command, str(pages[name])], capture_output=True, text=True, check=False, timeout=30
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_command_and_option_is_there(pages: dict[str, Path], require: Require) -> None:
    require(shutil.which("groff"), "groff is missing")
    shown = render(pages["xdplb.1"])
    for verb in VERBS:
        command = xdplb.get_command(click.Context(xdplb), verb)
        assert command is not None
        section = re.search(
            rf"^ +xdplb {verb}\n(.*?)(?=^ +xdplb \w+\n|^\w)", shown, re.MULTILINE | re.DOTALL
        )
        assert section, verb
        for param in command.params:
            if isinstance(param, click.Option):
                assert param.opts[-1] in section[1], (verb, param.opts)


def test_every_exit_code_is_there(pages: dict[str, Path], require: Require) -> None:
    require(shutil.which("groff"), "groff is missing")
    status = render(pages["xdplb.1"]).partition("EXIT STATUS")[2].partition("ENVIRONMENT")[0]
    shown = re.findall(r"^ +(\d+) +([A-Z_]+):", status, re.MULTILINE)
    assert [(int(number), name) for number, name in shown] == [(c.value, c.name) for c in ExitCode]


def test_every_field_is_there_with_its_default(pages: dict[str, Path], require: Require) -> None:
    require(shutil.which("groff"), "groff is missing")
    shown = render(pages["lb.yaml.5"])
    schema = load_schema()
    homes = (("TOP LEVEL", schema), ("SERVICES", schema["$defs"]["service"]))
    for title, home in (*homes, ("BACKENDS", schema["$defs"]["backend"])):
        section = shown.partition(f"\n{title}\n")[2]
        section = re.split(r"^\w", section, maxsplit=1, flags=re.MULTILINE)[0]
        for name, field in home["properties"].items():
            entry = re.search(rf"^ {{7}}{name}(?: |\n).*", section, re.MULTILINE)
            assert entry, (title, name)
            if "default" in field:
                assert f"default {str(field['default']).lower()}" in entry[0], name


def test_a_page_can_be_made_again_bit_by_bit(tmp_path: Path) -> None:
    texts = []
    for folder in ("one", "two"):
        subprocess.run(
            [sys.executable, str(ROOT / "packaging" / "man_pages.py"), str(tmp_path / folder)],
            check=True, capture_output=True, timeout=60,
            env={"PATH": "/usr/bin:/bin", "SOURCE_DATE_EPOCH": "1600000000"},
        )  # fmt: skip
        texts.append([page.read_text() for page in sorted((tmp_path / folder).iterdir())])
    assert texts[0] == texts[1]
    assert texts[0][1].startswith(".TH XDPLB 1 2020-09-13 ")
