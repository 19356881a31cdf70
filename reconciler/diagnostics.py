"""What is wrong with a file, where, and what to write instead.

A `Diagnostic` is a value; the functions below turn many of them into the forms
that people, programs and GitHub read. Codes are stable and grouped by stage:
XLB1xx the YAML, XLB2xx the schema, XLB3xx the meaning, XLB4xx warnings.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from reconciler.model import Source

Severity: TypeAlias = Literal["error", "warning"]

Paint: TypeAlias = Callable[[str, str], str]
"""Gives a text the colour of its role: a severity, or `hint`."""

# Breaks a line where libyaml does, so that its line numbers find our lines.
_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")

# A longer line is cut down to this many characters around the caret.
_SNIPPET_WIDTH = 100
_QUOTE_WIDTH = 60


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One problem of one file.

    `source` is None when the problem has no place, as with a file that can't be
    read. `length` is how many characters from there on are meant.
    """

    code: str
    severity: Severity
    message: str
    source: Source | None = None
    hint: str = ""
    length: int = 1

    @property
    def is_error(self) -> bool:
        """Whether this alone makes the file invalid."""
        return self.severity == "error"


def sort_by_place(diagnostics: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Return them in the order in which a reader of the file meets them."""
    return tuple(sorted(diagnostics, key=_place_key))


def _place_key(diagnostic: Diagnostic) -> tuple[str, int, int, str, str]:
    source = diagnostic.source or Source("", 0, 0)
    return (source.file, source.line, source.column, diagnostic.code, diagnostic.message)


def split_lines(text: str) -> list[str]:
    """Return the lines of a file as YAML counts them, without their ends."""
    return _LINE_BREAK.split(text)


def leave_plain(text: str, _role: str) -> str:
    """Return the text as it is: the `Paint` of those who want no colours."""
    return text


def render_human(
    diagnostics: Iterable[Diagnostic], texts: Mapping[str, str], paint: Paint = leave_plain
) -> str:
    """Return the diagnostics as a compiler prints them.

    Args:
        diagnostics: printed in the order given.
        texts: the text of each file by the name it has in `Source.file`; a file
            that is not in it is shown without its lines.
        paint: colours severities, carets and hints.
    """
    lines = {file: split_lines(text) for file, text in texts.items()}
    return "\n".join(_render_one(diagnostic, lines, paint) for diagnostic in diagnostics)


def _render_one(diagnostic: Diagnostic, lines: Mapping[str, list[str]], paint: Paint) -> str:
    source = diagnostic.source
    place = f"{source}: " if source else ""
    message = _make_printable(diagnostic.message)
    verdict = paint(f"{diagnostic.severity}[{diagnostic.code}]", diagnostic.severity)
    parts = [f"{place}{verdict}: {message}"]
    if source and source.line <= len(lines.get(source.file, [])):
        line = lines[source.file][source.line - 1]
        shown, below, carets = _render_snippet(line, source, diagnostic.length)
        parts += [shown, below + paint(carets, diagnostic.severity)]
    if diagnostic.hint:
        parts.append(f"  {paint('hint', 'hint')}: {_make_printable(diagnostic.hint)}")
    return "\n".join(parts)


def _render_snippet(line: str, source: Source, length: int) -> tuple[str, str, str]:
    """Return the line, what leads to the carets below it, and the carets."""
    start = max(0, source.column - 1 - _SNIPPET_WIDTH // 2) if len(line) > _SNIPPET_WIDTH else 0
    shown = _make_printable(line[start : start + _SNIPPET_WIDTH])
    before = shown[: source.column - 1 - start]
    carets = "^" * max(1, min(length, len(shown) - len(before)))
    gutter = " " * len(str(source.line))
    return f"  {source.line} | {shown}".rstrip(), f"  {gutter} | {_as_blank(before)}", carets


def quote(text: object) -> str:
    """Return what a file says, cut short, in quotes for a message."""
    shown = str(text)
    return f"'{shown}'" if len(shown) <= _QUOTE_WIDTH else f"'{shown[:_QUOTE_WIDTH]}...'"


def _make_printable(line: str) -> str:
    """A file must not be able to write escape sequences to a terminal."""
    return "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in line)


def _as_blank(text: str) -> str:
    """Blanks as wide as `text`, tabs kept, so that the caret stands below its word."""
    return "".join(
        "\t" if c == "\t" else " " * (2 if unicodedata.east_asian_width(c) in "WF" else 1)
        for c in text
    )


def to_json(diagnostics: Iterable[Diagnostic]) -> list[dict[str, str | int | None]]:
    """Return one JSON-ready mapping a diagnostic; a place that is unknown is null."""
    return [
        {
            "code": diagnostic.code,
            "severity": diagnostic.severity,
            "message": diagnostic.message,
            "file": diagnostic.source.file if diagnostic.source else None,
            "line": diagnostic.source.line if diagnostic.source else None,
            "column": diagnostic.source.column if diagnostic.source else None,
            "hint": diagnostic.hint or None,
        }
        for diagnostic in diagnostics
    ]


def render_github(diagnostics: Iterable[Diagnostic]) -> str:
    """Return workflow commands, one a line, that GitHub shows beside the file's lines."""
    return "\n".join(_render_command(diagnostic) for diagnostic in diagnostics)


def _render_command(diagnostic: Diagnostic) -> str:
    hint = f"\nhint: {diagnostic.hint}" if diagnostic.hint else ""
    text = diagnostic.message + hint
    return render_annotation(diagnostic.severity, diagnostic.code, text, diagnostic.source)


def render_annotation(level: str, title: str, text: str, source: Source | None = None) -> str:
    """Return one workflow command: `level` is error, warning or notice."""
    properties = {"title": title}
    if source:
        properties = {
            "file": source.file,
            "line": str(source.line),
            "col": str(source.column),
            **properties,
        }
    listed = ",".join(f"{key}={_escape_property(value)}" for key, value in properties.items())
    return f"::{level} {listed}::{_escape_data(text)}"


def _escape_data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape_data(text).replace(":", "%3A").replace(",", "%2C")
