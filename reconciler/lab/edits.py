"""Edits of an lb.yaml in its short form, made on the text as a person would make them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import yaml

from reconciler.errors import XdplbError

DEFAULT_WEIGHT = 100


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of the file: its title, and what it does to the text."""

    title: str
    change: Callable[[str], str]


def add_backend(address: str) -> Edit:
    """Append a backend after the last one."""

    def change(text: str) -> str:
        last = _lines_of_backends(text)[-1]
        indent = last.group("indent")
        return f"{text[: last.end()]}\n{indent}- {address}{text[last.end() :]}"

    return Edit(f"add {address}", change)


def remove_backend(address: str) -> Edit:
    """Take a backend's line out."""

    def change(text: str) -> str:
        line = _line_of(text, address)
        return text[: line.start()] + text[line.end() :].removeprefix("\n")

    return Edit(f"remove {address}", change)


def set_weight(address: str, weight: int) -> Edit:
    """Give a backend a weight."""

    def change(text: str) -> str:
        line = _line_of(text, address)
        words = f"{line.group('indent')}- {{address: {address}, weight: {weight}}}"
        return text[: line.start()] + words + text[line.end() :]

    return Edit(f"weight {weight} for {address}", change)


def set_interfaces(interfaces: Sequence[str]) -> Edit:
    """Name the balancer's interfaces; a single one is written as the short form has it."""
    words = interfaces[0] if len(interfaces) == 1 else f"[{', '.join(interfaces)}]"

    def change(text: str) -> str:
        return re.sub(r"^interface:[^\n#]*?(?=\s*(#|$))", f"interface: {words}", text, flags=re.M)

    return Edit(f"interface {words}", change)


def read_weights(text: str) -> dict[str, int]:
    """The weights of a short form's backends, by address, in the order of the file."""
    weights: dict[str, int] = {}
    for backend in yaml.safe_load(text)["backends"]:
        if isinstance(backend, str):
            weights[backend] = DEFAULT_WEIGHT
        else:
            weights[backend["address"]] = backend.get("weight", DEFAULT_WEIGHT)
    return weights


def read_port(text: str) -> int:
    """The port of a short form's service."""
    return int(yaml.safe_load(text)["port"])


def list_differences(before: str, after: str) -> list[str]:
    """The lines that an edit takes out and puts in, each after `-` or `+`."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    return [line for line in lines if line[0] in "+-" and line[:3] not in ("+++", "---")]


_BACKEND = re.compile(
    r"^(?P<indent> *)- *(\{ *address: *)?[\"']?(?P<address>[0-9A-Fa-f.:]+)\b.*$", re.M
)


def _lines_of_backends(text: str) -> list[re.Match[str]]:
    found = list(_BACKEND.finditer(text))
    if not found:
        raise XdplbError("the file has no line with a backend")
    return found


def _line_of(text: str, address: str) -> re.Match[str]:
    for line in _lines_of_backends(text):
        if line["address"] == address:
            return line
    raise XdplbError(f"the file has no line for backend {address}")
