"""Says what a YAML syntax error means, in words of the file rather than of a parser."""

from __future__ import annotations

import re

import yaml

from reconciler.config import codes
from reconciler.config.nodes import Place, diagnose
from reconciler.config.values import parse_address_port
from reconciler.diagnostics import Diagnostic, split_lines

_TAB_INDENT = re.compile(r" *\t\s*[^\s#]")
_ADDRESS_PORT = re.compile(r"\[[0-9A-Fa-f:.]+\]:[0-9]+")
_TIGHT_KEY = re.compile(r"\s*(?:- +)?(?P<key>\w[\w-]*):(?P<value>[^\s:].*)")
_WORDS = re.compile(r"\s*(?:- +)?(?P<key>\w[\w-]*) +(?P<value>[^\s#].*)")
_ADDRESS_ITEM = re.compile(r"(?P<indent> *)- +([\"']?)(?P<text>[0-9A-Fa-f.:\[\]]+)\2\s*(?:#.*)?")
_PAIR = re.compile(r"(?P<indent> *)(?P<pair>\w[\w-]*:(?: .*)?)")
_QUOTE_HINT = "put quotes around the value"
_INDENT_HINT = "check the indentation of this line against the lines above it"

# What libyaml and PyYAML's own parser say (a part of it), what it means, what to do.
# The first entry that matches is taken, so the particular stand before the general.
_MEANINGS: tuple[tuple[str, str, str], ...] = (
    ("mapping values are not allowed", "unexpected ':'", f"{_INDENT_HINT}, or quote the value"),
    ("could not find expected ':'", "a ':' is missing after this key", "write 'key: value'"),
    ("cannot start any token", "a value can't start with this character", _QUOTE_HINT),
    ("unexpected end of stream", "a quote is not closed", "close it on the same line"),
    ("',' or ']'", "a ',' or ']' is missing", "close the '[' list"),
    ("',' or '}'", "a ',' or '}' is missing", "close the '{' mapping"),
    ("expected key", "this does not fit the mapping it stands in", _INDENT_HINT),
    ("expected '-' indicator", "this does not fit the list it stands in", _INDENT_HINT),
    ("expected <block end>", "this does not fit what it stands in", _INDENT_HINT),
    ("unknown escape", "unknown escape in a double-quoted string", "use single quotes"),
    ("expected node content", "a value is missing", _QUOTE_HINT),
    ("document start", "something follows the end of the document", "a file holds one document"),
    ("incompatible YAML", "this version of YAML is not supported", "take the %YAML line away"),
)


def explain_syntax(error: yaml.YAMLError, text: str, file: str) -> Diagnostic:
    """Return a diagnostic for what the YAML parser refused."""
    lines = split_lines(text)
    line, column = _locate(error, lines)
    shown = lines[line] if line < len(lines) else ""
    if _TAB_INDENT.match(shown):
        place = Place(file, line + 1, shown.index("\t") + 1, 1)
        return diagnose(codes.TAB, place, "a tab in the indentation", "YAML indents with spaces")
    if diagnostic := _explain_line(error, lines, line, column, file):
        return diagnostic
    message, hint = _translate(error)
    if shown[:column].endswith(("]", "}", '"', "'")):
        hint = "put quotes around the whole value"
    start = getattr(error, "context_mark", None)
    if start and start.line != line:
        message = f"{message} (of what starts on line {start.line + 1})"
    return diagnose(codes.SYNTAX, Place(file, line + 1, column + 1, 1), message, hint)


def _explain_line(
    error: yaml.YAMLError, lines: list[str], line: int, column: int, file: str
) -> Diagnostic | None:
    """Return what a common slip of the pen is, where the line itself shows it."""
    shown = lines[line] if line < len(lines) else ""
    for match in _ADDRESS_PORT.finditer(shown):
        if match.start() <= column <= match.end():
            place = Place(file, line + 1, match.start() + 1, match.end() - match.start())
            message = "an IPv6 address with a port needs quotes"
            return diagnose(codes.SYNTAX, place, message, f'write "{match.group()}"')
    above = next((n for n in range(line - 1, -1, -1) if lines[n].strip()), line)
    if diagnostic := _explain_item(lines, above, line, file):
        return diagnostic
    problem = getattr(error, "problem", None) or ""
    key = getattr(error, "context_mark", None)
    if "could not find expected ':'" in problem and key:
        return _explain_key(lines, key.line, file)
    if "mapping values are not allowed" in problem:
        return _explain_key(lines, above, file)
    return None


def _explain_item(lines: list[str], above: int, line: int, file: str) -> Diagnostic | None:
    """Return a diagnostic for `- 10.0.0.11` with `weight: 50` below it."""
    if line >= len(lines):
        return None
    item, pair = _ADDRESS_ITEM.fullmatch(lines[above]), _PAIR.fullmatch(lines[line])
    if not item or not pair or len(pair["indent"]) < max(1, len(item["indent"])):
        return None
    try:
        address, port = parse_address_port(item["text"])
    except ValueError:
        return None
    words = [f"address: {address}", *([f"port: {port}"] if port else [])]
    words.append(pair["pair"].partition(" #")[0].strip())
    return diagnose(
        codes.SYNTAX,
        Place(file, above + 1, item.start("text") + 1, len(item["text"])),
        "a backend with more than an address is a mapping",
        f"write {{{', '.join(words)}}}",
    )


def _explain_key(lines: list[str], line: int, file: str) -> Diagnostic | None:
    """Return a diagnostic for `port:80` or `port 80`, which YAML takes for words.

    It notices at the ':' of a later line.
    """
    shown = lines[line] if line < len(lines) else ""
    if match := _TIGHT_KEY.fullmatch(shown):
        place = Place(file, line + 1, match.start("value"), 1)
        message = "a blank is missing after this ':'"
    elif ":" not in shown and (match := _WORDS.fullmatch(shown)):
        place = Place(file, line + 1, match.start("key") + 1, len(match["key"]))
        message = "a ':' is missing after this key"
    else:
        return None
    return diagnose(
        codes.SYNTAX, place, message, f"write '{match['key']}: {match['value'].strip()}'"
    )


def _locate(error: yaml.YAMLError, lines: list[str]) -> tuple[int, int]:
    """Return line and column, from 0.

    What is never closed is noticed at the end of the file: then the place where
    it was opened is the one to show.
    """
    problem = getattr(error, "problem_mark", None)
    context = getattr(error, "context_mark", None)
    is_at_end = problem is not None and not any(lines[problem.line :])
    mark = (context if is_at_end else problem) or problem or context
    return (mark.line, mark.column) if mark else (0, 0)


def _translate(error: yaml.YAMLError) -> tuple[str, str]:
    problem = getattr(error, "problem", None) or "this is not YAML"
    for part, meaning, hint in _MEANINGS:
        if part in problem:
            return meaning, hint
    return str(problem), ""
