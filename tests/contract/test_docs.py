"""What the documents say is so: their commands run, their files parse, their tables agree.

How a block is tested is said by an HTML comment before it; CONTRIBUTING.md lists them.
"""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler import abi
from reconciler.cli.main import VERBS
from reconciler.config import parse
from reconciler.config.yaml12 import read_nodes
from reconciler.errors import ExitCode
from reconciler.lab import Lab, Topology, wait_until
from reconciler.lab.process import python_environment

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
COMMANDS = ("sh", "console")

_BLOCK = re.compile(
    r"(?P<comments>(?:^<!--[^\n]*-->\n)*)^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_COMMENT = re.compile(r"<!-- (.*) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block of a document, and what the comments before it say."""

    document: Path
    line: int
    language: str
    text: str
    comments: tuple[str, ...]

    def said(self, key):
        """What a comment `key: words` says; an empty string for a bare `key`, else None."""
        for comment in self.comments:
            name, _, words = comment.partition(":")
            if name == key:
                return words.strip()
        return None

    def __str__(self):
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def read_blocks(document):
    text = document.read_text(encoding="utf-8")
    return [
        Block(
            document,
            text[: match.start("language")].count("\n") + 1,
            match["language"],
            match["text"],
            tuple(_COMMENT.findall(match["comments"])),
        )
        for match in _BLOCK.finditer(text)
    ]


BLOCKS = [block for document in DOCUMENTS for block in read_blocks(document)]


def is_for(block, *, lab):
    """Whether to run this block now: in the laboratory, or on the machine itself."""
    is_command = block.language in COMMANDS and block.said("not run") is None
    return is_command and (block.said("run") is not None) == lab


def find_documents(*, lab):
    return [d for d in DOCUMENTS if any(is_for(b, lab=lab) for b in BLOCKS if b.document == d)]


def test_every_block_is_found():
    fences = sum(d.read_text(encoding="utf-8").count("\n```") for d in DOCUMENTS)
    assert fences == 2 * len(BLOCKS)


# --- commands ---


def write_script(block):
    """A shell script that does what the block shows; of a console, its prompts included."""
    lines = block.text.splitlines()
    if block.language == "sh":
        return "set -eu\n" + "\n".join(re.sub(r"^sudo ", "", line) for line in lines)
    script = ["code=0"]
    for line in lines:
        if line.startswith("$ "):
            command = line.removeprefix("$ ").removeprefix("sudo ")
            quoted = line.replace("'", "'\\''")
            script.append(f"printf '%s\\n' '{quoted}'\n(exit $code)\n{command}\ncode=$?")
    return "\n".join(script)


def run_block(block, folder, run):
    """Run a block in a folder; `run` starts a command and returns how it ended."""
    path = f"export PATH={Path(sys.executable).parent}:$PATH; cd {folder}; exec 2>&1\n"
    done = run(["sh", "-c", path + write_script(block)])
    if block.language == "sh":
        assert done.returncode == 0, f"{block}: {done.stdout}"
        return
    is_as_shown = re.fullmatch(make_pattern(block.text), squeeze(done.stdout), re.DOTALL)
    assert is_as_shown, f"{block} should print:\n{block.text}\nand prints:\n{done.stdout}"


def squeeze(text):
    """The text with every run of blanks made one: how wide columns are is no promise."""
    return re.sub(" +", " ", text.strip())


def make_pattern(text):
    return re.escape(squeeze(text)).replace(r"\.\.\.", ".*")


def run_here(command):
    environment = python_environment()
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60, env=environment
    )


@pytest.mark.parametrize("document", find_documents(lab=False), ids=lambda path: path.name)
def test_commands_do_what_is_shown(document, tmp_path):
    for block in read_blocks(document):
        if name := block.said("file"):
            (tmp_path / name).write_text(block.text, encoding="utf-8")
        elif is_for(block, lab=False):
            run_block(block, tmp_path, run_here)


class Balancer:
    """The balancer of a laboratory, where one document's commands run."""

    def __init__(self, lab):
        self.lab = lab
        self.controller = None

    def run(self, command):
        return self.lab.balancer.run(command, check=False, environment=python_environment())

    def start(self, block):
        """Run a block that goes on, and return when the kernel follows the file."""
        script = f"cd {self.lab.directory}; exec " + write_script(block).splitlines()[-1]
        path = f"PATH={Path(sys.executable).parent}:{python_environment()['PATH']}"
        command = ["env", path, "sh", "-c", script]
        self.controller = self.lab.balancer.popen(command, environment=python_environment())
        self.wait()

    def wait(self):
        if self.controller is not None:
            wait_until(self._is_in_sync, "the controller follows lb.yaml", 30)

    def _is_in_sync(self):
        assert self.controller.poll() is None, "the controller has ended"
        words = [sys.executable, "-m", "reconciler.cli.main", "plan", "--json"]
        done = self.run([*words, "-c", str(self.lab.directory / "lb.yaml")])
        return done.returncode == 0 and json.loads(done.stdout)["in_sync"]

    def end(self):
        self.controller.terminate()
        self.controller.wait(10)
        self.controller = None


@pytest.mark.root
@pytest.mark.parametrize("document", find_documents(lab=True), ids=lambda path: path.name)
def test_commands_do_what_is_shown_in_a_laboratory(document):
    with Lab(Topology(arms=1, backends=4)) as lab:
        lab.serve()
        balancer = Balancer(lab)
        for block in read_blocks(document):
            how = block.said("run") or ""
            if name := block.said("file"):
                (lab.directory / name).write_text(block.text, encoding="utf-8")
            elif not is_for(block, lab=True):
                continue
            elif "stays" in how:
                balancer.start(block)
            else:
                if "ends the controller" in how:
                    balancer.end()
                run_block(block, lab.directory, balancer.run)
                balancer.wait()


def test_what_is_not_run_says_why():
    reasons = [block.said("not run") for block in BLOCKS if block.language in COMMANDS]
    assert all(reason is None or len(reason) > 10 for reason in reasons)


def test_every_command_of_the_program_is_in_the_readme():
    named = set(re.findall(r"^\| `xdplb (\w+)", README.read_text(encoding="utf-8"), re.MULTILINE))
    assert named == set(VERBS)


# --- files ---


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "yaml"], ids=str)
def test_yaml_is_what_it_is_said_to_be(block):
    if block.said("fragment") is not None:
        assert read_nodes(block.text, str(block))[1] == []
        return
    parsed = parse(block.text.encode(), str(block))
    is_refused = parsed.config is None
    assert is_refused == (block.said("refused") is not None), parsed.diagnostics


# --- links and names ---


def strip_blocks(document):
    return _BLOCK.sub("", document.read_text(encoding="utf-8"))


def make_anchors(document):
    """The anchors that GitHub gives to a document's headings."""
    text = strip_blocks(document)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each).strip().lower().replace(" ", "-") for each in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    text = strip_blocks(document)
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        goal = (document.parent / path).resolve() if path else document
        assert goal.exists(), link
        assert not anchor or anchor in make_anchors(goal), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_that_are_named_are_there(document):
    names = r"`((?:bpf|reconciler|tests|schema|examples|docs|packaging)/[\w./-]*)(?::(\w+))?`"
    for path, function in re.findall(names, document.read_text(encoding="utf-8")):
        if path == "reconciler/cli/VERB.py":
            continue
        assert (ROOT / path).exists(), path
        assert not function or re.search(
            rf"\b{function}\(", (ROOT / path).read_text(encoding="utf-8")
        ), f"{path} has no {function}"


# --- tables ---


def read_rows(document, pattern):
    """The cells of every table row that begins with this pattern."""
    text = document.read_text(encoding="utf-8")
    rows = re.findall(rf"^\| (?:{pattern}) \|.*\|$", text, re.MULTILINE)
    return [[cell.strip(" `") for cell in row.strip("|").split(" | ")] for row in rows]


def test_the_verdict_table_is_the_programs():
    rows = read_rows(ROOT / "docs" / "packet-journey.md", r"\d+ \| `[A-Z_]+`")
    verdicts = {verdict.name: verdict.value for verdict in abi.Verdict}
    assert {name: int(number) for number, name, *_ in rows} == verdicts
    for *_, given_by in rows:
        for place in re.findall(r"[^`, ]+", given_by):
            header, function = place.split(":")
            assert f" {function}(" in (ROOT / header).read_text(encoding="utf-8"), place


def test_every_promise_names_tests_that_are_there():
    promises = read_rows(ROOT / "docs" / "promises.md", r"[A-Z][^|]+")
    assert len(promises) >= 11
    for promise, tests in promises:
        named = re.findall(r"(tests/[\w/]+\.py)::(\w+)", tests)
        assert named, promise
        for path, test in named:
            assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), test


def test_the_exit_code_table_is_the_programs():
    rows = read_rows(README, r"\d+")
    assert {name: int(number) for number, name, *_ in rows} == {e.name: e.value for e in ExitCode}


def find_field(name):
    """What the schema says of a field of the tables, such as `limits.services` or `weight`."""
    schema = json.loads((ROOT / "schema" / "lb.schema.json").read_text(encoding="utf-8"))
    kinds = schema["$defs"]
    if "." in name:
        group, field = name.split(".")
        found = schema["properties"][group]["properties"][field]
    else:
        homes = (schema, kinds["service"], kinds["backend"])
        found = next(home["properties"][name] for home in homes if name in home["properties"])
    while "$ref" in found and "minimum" not in found:
        found = kinds[found["$ref"].rpartition("/")[2]]
    return found


def test_whole_numbers_have_the_limits_of_the_schema():
    text = strip_blocks(ROOT / "docs" / "configuration.md").partition("\n## Health\n")[0]
    rows = re.findall(r"^\| `([a-z_.]+)` \| [^|]* \| (\d+) to (\d+)\b(?! of)", text, re.MULTILINE)
    assert len(rows) > 10
    for name, lowest, highest in rows:
        field = find_field(name)
        assert (field["minimum"], field["maximum"]) == (int(lowest), int(highest)), name


def test_every_field_is_explained():
    schema = json.loads((ROOT / "schema" / "lb.schema.json").read_text(encoding="utf-8"))
    text = strip_blocks(ROOT / "docs" / "configuration.md")
    named = {word for words in re.findall(r"`([^`]+)`", text) for word in re.findall(r"\w+", words)}
    fields = set(schema["properties"])
    for group in ("defaults", "safety", "reconcile", "limits"):
        fields |= set(schema["properties"][group]["properties"])
    for part in ("service", "backend"):
        fields |= set(schema["$defs"][part]["properties"])
    assert fields <= named, fields - named
