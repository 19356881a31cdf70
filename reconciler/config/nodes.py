"""The tree that a YAML file is: values that know their place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from reconciler.diagnostics import Diagnostic
from reconciler.model import Source

ScalarValue: TypeAlias = bool | int | float | str | None

Path: TypeAlias = tuple[str | int, ...]


@dataclass(slots=True)
class Place:
    """Where a node starts, counted from 1, and how many characters it spans there."""

    file: str
    line: int
    column: int
    length: int

    @property
    def source(self) -> Source:
        """The same place as the model knows it."""
        return Source(self.file, self.line, self.column)

    def seen_from(self, other: Place) -> str:
        """Return words for this place in a message that stands at another one."""
        if self.file == other.file:
            return f"on line {self.line}"
        return f"at {self.file}:{self.line}"


@dataclass(slots=True)
class Scalar:
    """A leaf, already resolved by the YAML 1.2 core schema."""

    place: Place
    value: ScalarValue


@dataclass(slots=True)
class Sequence:
    """A list of nodes."""

    place: Place
    items: list[Node] = field(default_factory=list)


@dataclass(slots=True)
class Mapping:
    """Nodes by their keys, in the order of the file, and where each key stands.

    `pruned` are keys whose values were refused by an earlier stage: they are not
    among the entries, but neither may a default take their place.
    """

    place: Place
    entries: dict[str, Node] = field(default_factory=dict)
    keys: dict[str, Place] = field(default_factory=dict)
    pruned: set[str] = field(default_factory=set)

    def get(self, key: str) -> Node | None:
        """Return the value of a key, or None when the key is absent."""
        return self.entries.get(key)

    def place_of(self, key: str) -> Place:
        """Return the place of a key's value, or of the mapping when the key is absent."""
        node = self.entries.get(key)
        return node.place if node else self.place


Node: TypeAlias = Scalar | Sequence | Mapping


def to_plain(node: Node) -> object:
    """Return the tree as dicts, lists and scalars."""
    if isinstance(node, Mapping):
        return {key: to_plain(value) for key, value in node.entries.items()}
    if isinstance(node, Sequence):
        return [to_plain(item) for item in node.items]
    return node.value


def count_nodes(node: Node) -> int:
    """Return how many values a tree holds, itself included."""
    if isinstance(node, Mapping):
        return 1 + sum(map(count_nodes, node.entries.values()))
    if isinstance(node, Sequence):
        return 1 + sum(map(count_nodes, node.items))
    return 1


def find_node(root: Node, path: Iterable[str | int]) -> Node:
    """Return the node at a path of keys and indices. The path must exist."""
    node = root
    for step in path:
        if isinstance(node, Mapping) and isinstance(step, str):
            node = node.entries[step]
        elif isinstance(node, Sequence) and isinstance(step, int):
            node = node.items[step]
        else:
            raise KeyError(step)
    return node


def prune(root: Mapping, paths: Iterable[Path]) -> None:
    """Take the nodes at these paths out of the tree, so that later stages see them as absent.

    Every path must name a node below the root.
    """
    # From the back, so that taking an item out leaves the indices before it alone.
    for path in sorted(set(paths), key=_pruning_order, reverse=True):
        try:
            parent = find_node(root, path[:-1])
        except (KeyError, IndexError):
            continue
        step = path[-1]
        if isinstance(parent, Mapping) and isinstance(step, str):
            parent.entries.pop(step, None)
            parent.pruned.add(step)
        elif isinstance(parent, Sequence) and isinstance(step, int):
            del parent.items[step]


def _pruning_order(path: Path) -> list[tuple[int, str]]:
    return [(step, "") if isinstance(step, int) else (-1, step) for step in path]


def diagnose(
    code: str,
    place: Place,
    message: str,
    hint: str = "",
    *,
    severity: Literal["error", "warning"] = "error",
) -> Diagnostic:
    """Return a diagnostic at a place of the tree."""
    return Diagnostic(code, severity, message, place.source, hint, place.length)
