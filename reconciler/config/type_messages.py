"""Says what kind of value was expected, what stands there, and how to write it."""

from __future__ import annotations

from reconciler.config import codes
from reconciler.config.nodes import Mapping, Node, Path, Scalar, ScalarValue, Sequence, diagnose
from reconciler.diagnostics import Diagnostic, quote

_EXPECTED = {
    "string": "a string",
    "integer": "a whole number",
    "boolean": "true or false",
    "object": "a mapping",
    "array": "a list",
}

# What YAML 1.1 called booleans, and people still write.
_OLD_BOOLEANS = {
    **dict.fromkeys(("yes", "on", "y"), "true"),
    **dict.fromkeys(("no", "off", "n"), "false"),
}


def explain_type(expected: str | list[str], name: str, path: Path, node: Node) -> Diagnostic:
    """Return a diagnostic for a node whose JSON Schema type is none of those expected."""
    types = [expected] if isinstance(expected, str) else expected
    choices = " or ".join(_EXPECTED[kind] for kind in types)
    if not path:
        message = f"the file must be {choices}, not {_describe(node)}"
        hint = "start with 'interface: eth0'"
    elif isinstance(node, Scalar) and node.value is None:
        message, hint = f"{name} has no value; it must be {choices}", ""
    else:
        message = f"{name} must be {choices}, not {_describe(node)}"
        hint = _hint_at_type(types, path, node)
    return diagnose(codes.WRONG_TYPE, node.place, message, hint)


def _describe(node: Node) -> str:
    if isinstance(node, Mapping):
        return "a mapping"
    if isinstance(node, Sequence):
        return "a list"
    return _describe_scalar(node.value)


def _describe_scalar(value: ScalarValue) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the string {quote(value)}"
    return f"the number {value}"


def _hint_at_type(types: list[str], path: Path, node: Node) -> str:
    if "backends" in path[:-1] and isinstance(node, Sequence):
        return "put quotes around an address in brackets"
    if path[-2:-1] == ("backends",):
        return "write for example 10.0.0.11"
    return _hint_at_scalar(types, node.value) if isinstance(node, Scalar) else ""


def _hint_at_scalar(types: list[str], value: ScalarValue) -> str:
    if "integer" in types:
        return _hint_at_integer(value)
    if "boolean" in types:
        word = _OLD_BOOLEANS.get(str(value).lower())
        return f"write {word}" if word else ""
    if "string" in types:
        return "put quotes around it"
    return "write each item on its own line after '- '" if "array" in types else ""


def _hint_at_integer(value: ScalarValue) -> str:
    if isinstance(value, str):
        return _hint_at_digits(value)
    if isinstance(value, float) and value.is_integer():
        return f"write {int(value)}" if abs(value) < 1e18 else ""
    return ""


def _hint_at_digits(text: str) -> str:
    if not text.isascii() or not text[:1].isdigit():
        return ""
    if text.isdigit():
        return "take the quotes away"
    if text.replace("_", "").isdigit():
        return f"write {int(text.replace('_', ''))}"
    if text.replace(":", "").isdigit():
        return "it is one number; a backend's port goes behind its address, 10.0.0.11:8080"
    if text.replace(",", "").replace("-", "").isdigit():
        return "it is one number; list a service for each"
    return ""
