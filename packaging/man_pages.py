"""Writes the man pages xdplb(1) and lb.yaml(5) from the commands, the schema and the README.

The build hook runs this when the wheel is built; `python packaging/man_pages.py DIR`
does it by hand. Nothing is said here that is said elsewhere: commands come with their
own help, fields with the schema's descriptions, exit codes with the README's table.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import click  # noqa: E402  (the checkout's own package comes first)

from reconciler import __version__  # noqa: E402
from reconciler.cli.main import VERBS, xdplb  # noqa: E402
from reconciler.config.schema import load_schema  # noqa: E402

ENVIRONMENT = (
    ("XDPLB_CONFIG", "The configuration, where neither an option nor an argument names one."),
    ("NO_COLOR", "If it is set and not empty: no colours, unless --color asks for them."),
    (
        "NOTIFY_SOCKET, WATCHDOG_USEC",
        "Set by systemd for a service of Type=notify: the controller then says when it is ready,"
        " when it reloads, what it does, and that it is alive.",
    ),
)
FILES = (
    (
        "/etc/xdplb/lb.yaml",
        "The configuration, where no other is named and ./lb.yaml is not there.",
    ),
    ("/sys/fs/bpf/xdplb/NAME/", "The maps, the program and its links, pinned."),
    ("/run/xdplb/NAME/status.json", "What the controller says of itself."),
)
EXAMPLES = (
    ("Is the file right?", "xdplb validate lb.yaml"),
    ("What would a new file change, and how many flows would move?", "xdplb plan new.yaml"),
    ("The same between two files, without root:", "xdplb plan new.yaml --against lb.yaml"),
    ("Bring the kernel to the file once:", "xdplb-reconcile --once -c lb.yaml"),
    ("Which backend does a client get?", "xdplb lookup 192.0.2.2:40000 web"),
)


def write_pages(folder: Path) -> list[Path]:
    """Write both pages into a folder, which is made; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {"xdplb.1": render_commands(), "lb.yaml.5": render_fields()}
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in pages]


# --- roff, see man(7) ---


def escape(text: str) -> str:
    """Return text as roff prints it: hyphens as they are typed, no dot in front."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def head(name: str, section: int, summary: str) -> Iterator[str]:
    """Yield the title and the NAME section."""
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    date = time.strftime("%Y-%m-%d", time.gmtime(epoch))
    yield f'.TH {name.upper()} {section} {date} "xdplb {__version__}"'
    yield from (".SH NAME", f"{escape(name)} \\- {escape(summary)}")


def paragraphs(text: str) -> Iterator[str]:
    """Yield text whose paragraphs are parted by empty lines."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip())):
        if number:
            yield ".PP"
        # Short lines, for those who read the source; the printer fills them anew.
        yield escape(textwrap.fill(" ".join(paragraph.split()), 78, break_on_hyphens=False))


def definition(term: str, text: str, note: str = "") -> Iterator[str]:
    """Yield an entry of a list: a term in bold, a note behind it, the text below."""
    yield ".TP"
    yield f"\\fB{escape(term)}\\fR{escape(note)}"
    yield from paragraphs(text)


def example(text: str) -> Iterator[str]:
    """Yield lines that are shown as they are."""
    yield from (".PP", ".in +4n", ".EX", escape(text.strip("\n")), ".EE", ".in")


def definitions(title: str, entries: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield a section that is a list."""
    yield f".SH {title}"
    for term, text in entries:
        yield from definition(term, text)


# --- xdplb(1) ---


def render_commands() -> str:
    """Return xdplb(1)."""
    root = click.Context(xdplb, info_name="xdplb")
    lines = [
        *head("xdplb", 1, "an XDP layer-4 load balancer that is run from one file"),
        *(".SH SYNOPSIS", "\\fBxdplb\\fR \\fICOMMAND\\fR [\\fIOPTION\\fR]..."),
        *(".br", "\\fBxdplb\\-reconcile\\fR [\\fIOPTION\\fR]..."),
        ".SH DESCRIPTION",
        *paragraphs(
            "xdplb brings the kernel's XDP data plane to what one file, lb.yaml(5), says, keeps it"
            " there, and says what a change will move before it is made.\n\n"
            "xdplb-reconcile is 'xdplb run' under another name."
        ),
        ".SH COMMANDS",
    ]
    for verb in VERBS:
        lines += render_verb(root, verb)
    lines += definitions("EXIT STATUS", list_exit_codes())
    lines += definitions("ENVIRONMENT", ENVIRONMENT)
    lines += definitions("FILES", FILES)
    lines.append(".SH EXAMPLES")
    for number, (words, command) in enumerate(EXAMPLES):
        lines += [*([".PP"] if number else []), escape(words), *example(command)]
    return "\n".join([*lines, ".SH SEE ALSO", "\\fBlb.yaml\\fR(5)"]) + "\n"


def render_verb(root: click.Context, verb: str) -> Iterator[str]:
    """Yield a command: its usage, its help, its options."""
    command = xdplb.get_command(root, verb)
    assert command is not None
    context = click.Context(command, info_name=verb, parent=root)
    pieces = " ".join(command.collect_usage_pieces(context))
    yield f".SS xdplb {verb}"
    yield f"\\fBxdplb {verb}\\fR {escape(pieces)}"
    yield ".PP"
    yield from paragraphs(command.help or "")
    for param in command.get_params(context):
        record = param.get_help_record(context)
        if isinstance(param, click.Option) and record and "--help" not in param.opts:
            yield from definition(*record)


def list_exit_codes() -> list[tuple[str, str]]:
    """Return number and meaning of each exit code, as the README's table has them."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([A-Z_]+) \| (.*) \|$", text, re.MULTILINE)
    return [(number, f"{name}: {meaning.replace('`', '')}.") for number, name, meaning in rows]


# --- lb.yaml(5) ---


def render_fields() -> str:
    """Return lb.yaml(5)."""
    schema = load_schema()
    parts = schema["$defs"]
    short = (ROOT / "examples" / "lb.yaml").read_text(encoding="utf-8")
    lines = [
        *head("lb.yaml", 5, "the configuration of xdplb"),
        ".SH DESCRIPTION",
        *paragraphs(schema["description"]),
        *example("\n".join(line for line in short.splitlines() if not line.startswith("#"))),
        ".PP",
        *paragraphs(
            "The file is YAML 1.2 without aliases, tags and merge keys. Times are numbers with a"
            " unit: 500ms, 2s, 5m, 1h. 'xdplb validate' shows every problem at once."
        ),
        *render_section("TOP LEVEL", "", schema),
        *render_section("SERVICES", "service", parts["service"]),
        *render_section("BACKENDS", "backend", parts["backend"]),
        *(".SH INCLUDED FILES", *paragraphs(parts["included"]["description"])),
        *render_section("", "", parts["included"]),
        *definitions("FILES", FILES[:1]),
        *(".SH SEE ALSO", "\\fBxdplb\\fR(1)"),
    ]
    return "\n".join(lines) + "\n"


def render_section(title: str, place: str, part: dict[str, Any]) -> Iterator[str]:
    """Yield the fields of a mapping, those of mappings in it too."""
    if title:
        yield f".SH {title}"
        if place:
            yield from paragraphs(part["description"])
    for name, field in list_fields(part):
        required = name in part.get("required", ())
        notes = [*(["required"] if required else []), *list_notes(field)]
        yield from definition(name, field["description"], f" ({'; '.join(notes)})" if notes else "")


def list_fields(part: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the path and the schema of every field; of a mapping its fields follow."""
    for name, field in part["properties"].items():
        yield prefix + name, field
        if "properties" in field and not prefix:
            yield from list_fields(field, f"{name}.")


def list_notes(field: dict[str, Any]) -> Iterator[str]:
    """Yield what a field may be, and what it is when it is left out."""
    if "enum" in field:
        yield " or ".join(map(str, field["enum"]))
    elif "minimum" in field:
        yield f"{field['minimum']} to {field['maximum']}"
    elif field.get("type") == "boolean":
        yield "true or false"
    if "default" in field:
        yield f"default {str(field['default']).lower()}"


if __name__ == "__main__":
    for page in write_pages(Path(sys.argv[1])):
        print(page)
