"""Turns an error of the schema into a sentence about a place of the file."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from reconciler.config import codes
from reconciler.config.name import NAME_RULE
from reconciler.config.nodes import Mapping, Node, Path, Scalar, diagnose, find_node
from reconciler.config.type_messages import explain_type
from reconciler.diagnostics import Diagnostic, quote

_ITEMS = {
    "backends": "a backend",
    "services": "a service",
    "interface": "an interface",
    "include": "an include",
}

# What a pattern says, by the title of its schema.
_RULES = {
    "instance name": NAME_RULE,
    "service name": "use letters, digits, '_' and '-', at most 63 of them, not '_' or '-' first",
    "backend name": "start with a letter, a digit or '['; then also . : _ - ], at most 63 in all",
    "listen address": "write an address and a port, 127.0.0.1:9464 or '[::1]:9464'; or off",
    "interface name": "at most 15 characters, without blanks, '/' and ':'",
}

# difflib takes quadratic time, and nobody mistypes a key into one this long.
_MAX_SUGGESTED = 40


@dataclass(frozen=True, slots=True)
class Violation:
    """What the validator says: a keyword that a value does not satisfy.

    `expected` is the keyword's value and `schema` what the keyword stands in.
    """

    keyword: str
    expected: Any
    schema: dict[str, Any]
    path: Path
    message: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What the schema refuses, and the node that later stages must not look at (or None)."""

    diagnostic: Diagnostic
    bad_path: Path | None = None


class SchemaIndex:
    """Knows which keys there are, and where each belongs."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.top_keys = tuple(schema["properties"])
        self._homes = _find_homes(schema)
        self.keys = list(self._homes)

    def find_homes(self, key: str) -> str:
        """Return where a key may stand, in words, or an empty string."""
        return " or in ".join(self._homes.get(key, ()))


def _find_homes(schema: dict[str, Any]) -> dict[str, list[str]]:
    definitions = schema["$defs"]
    containers = {
        "a service": definitions["service"],
        "a backend": definitions["backend"],
        "'health'": definitions["health"],
        **{quote(key): sub for key, sub in schema["properties"].items()},
    }
    homes: dict[str, list[str]] = {key: ["the top level"] for key in schema["properties"]}
    for container, sub in containers.items():
        for key in sub.get("properties", ()):
            homes.setdefault(key, []).append(container)
    return homes


def explain_violation(violation: Violation, root: Node, index: SchemaIndex) -> Iterator[Finding]:
    """Yield the findings that one violation stands for."""
    path = violation.path
    node = find_node(root, path)
    if violation.keyword == "additionalProperties" and isinstance(node, Mapping):
        yield from _explain_unknown_keys(violation, node, index)
    elif violation.keyword == "required" and isinstance(node, Mapping):
        yield from _explain_missing_key(violation, node, index)
    elif violation.keyword == "not" and isinstance(root, Mapping):
        yield Finding(_explain_mixed_forms(path, root), path)
    else:
        yield Finding(_explain_value(violation, node), path or None)


def name_path(path: Path) -> str:
    """Return what the node at a path is called in a sentence."""
    if not path:
        return "the file"
    last = path[-1]
    if isinstance(last, str):
        return quote(last)
    return _ITEMS.get(str(path[-2]), "an item")


def _explain_unknown_keys(
    violation: Violation, mapping: Mapping, index: SchemaIndex
) -> Iterator[Finding]:
    known = list(violation.schema["properties"])
    for key in mapping.entries:
        if key not in known:
            container = f"in {name_path(violation.path)}" if violation.path else "at the top level"
            message = f"unknown key {quote(key)} {container}"
            hint = _hint_at_key(key, known, index)
            yield Finding(diagnose(codes.UNKNOWN_KEY, mapping.keys[key], message, hint))


def _hint_at_key(key: str, known: list[str], index: SchemaIndex) -> str:
    if suggestion := suggest(key, known):
        return f"did you mean {quote(suggestion)}?"
    if homes := index.find_homes(key):
        return f"{quote(key)} belongs in {homes}"
    if suggestion := suggest(key, index.keys):
        return f"did you mean {quote(suggestion)}? it belongs in {index.find_homes(suggestion)}"
    return f"known keys are {', '.join(known)}"


def suggest(word: str, known: list[str]) -> str:
    """Return the known word that was most likely meant, or an empty string."""
    if len(word) > _MAX_SUGGESTED:
        return ""
    lowered = word.lower().replace("-", "_")
    return next(iter(difflib.get_close_matches(lowered, known, n=1, cutoff=0.6)), "")


def _explain_missing_key(
    violation: Violation, mapping: Mapping, index: SchemaIndex
) -> Iterator[Finding]:
    known = list(violation.schema.get("properties", index.top_keys))
    mistyped = {suggest(key, known) for key in mapping.entries if key not in known}
    # The validator yields one error a missing key and names it only in its message.
    missing = next(k for k in violation.expected if violation.message.startswith(f"{k!r} "))
    is_form_open = not violation.path and missing != "interface"
    if missing in mistyped or (is_form_open and "services" in mistyped):
        return
    message = f"{name_path(violation.path)} needs {quote(missing)}"
    hint = "or list 'services', each with a name, a port and backends" if is_form_open else ""
    if not violation.path and list(mapping.entries) == ["services"]:
        hint = "a file of services only is included by another: check that one"
    yield Finding(diagnose(codes.MISSING_KEY, mapping.place, message, hint))


def _explain_mixed_forms(path: Path, root: Mapping) -> Diagnostic:
    key = str(path[-1])
    other = "services" if "services" in root.entries else "include"
    message = f"{quote(key)} is of the short form, but this file has {quote(other)}: the long form"
    hint = f"move {quote(key)} into a service, or take {quote(other)} away"
    return diagnose(codes.MIXED_FORMS, root.keys[key], message, hint)


def _explain_value(violation: Violation, node: Node) -> Diagnostic:
    name = name_path(violation.path)
    if violation.schema.get("title") == "duration":
        return _explain_malformed(violation, name, node)
    match violation.keyword:
        case "type":
            return explain_type(violation.expected, name, violation.path, node)
        case "enum":
            return _explain_enum(violation, name, node)
        case "minimum" | "maximum":
            return _explain_range(violation, name, node)
        case "minItems" | "maxItems":
            return _explain_count(violation, name, node)
        case _:
            return _explain_malformed(violation, name, node)


def _explain_count(violation: Violation, name: str, node: Node) -> Diagnostic:
    if violation.keyword == "minItems":
        return diagnose(codes.TOO_FEW, node.place, f"{name} is empty; at least one is needed")
    message = f"{name} has more than {violation.expected} items"
    return diagnose(codes.TOO_MANY, node.place, message)


def _explain_enum(violation: Violation, name: str, node: Node) -> Diagnostic:
    known = [str(value) for value in violation.expected]
    given = _show(node)
    choices = " or ".join(filter(None, (", ".join(map(quote, known[:-1])), quote(known[-1]))))
    suggestion = suggest(given, known)
    hint = f"did you mean {quote(suggestion)}?" if suggestion else ""
    message = f"{name} must be {choices}, not {quote(given)}"
    return diagnose(codes.UNKNOWN_VALUE, node.place, message, hint)


def _explain_range(violation: Violation, name: str, node: Node) -> Diagnostic:
    lowest, highest = violation.schema["minimum"], violation.schema["maximum"]
    message = f"{name} must be from {lowest} to {highest}, not {_show(node)}"
    return diagnose(codes.OUT_OF_RANGE, node.place, message)


def _explain_malformed(violation: Violation, name: str, node: Node) -> Diagnostic:
    kind = violation.schema.get("title", "value that can be used here")
    article = "an" if kind[0] in "aeiou" else "a"
    given = quote(_show(node))
    is_item = not isinstance(violation.path[-1], str)
    message = f"{given} is not {article} {kind}"
    if not is_item:
        message = f"{name} must be {article} {kind}, not {given}"
    examples = ", ".join(map(str, violation.schema.get("examples", ())))
    if kind == "duration" and isinstance(node, Scalar) and type(node.value) is int:
        return diagnose(codes.MALFORMED, node.place, message, f"write {node.value}s")
    hint = _RULES.get(kind) or (f"write for example {examples}" if examples else "")
    return diagnose(codes.MALFORMED, node.place, message, hint)


def _show(node: Node) -> str:
    return str(node.value) if isinstance(node, Scalar) else ""
