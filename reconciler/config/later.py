"""What the schema describes already and this release does not do yet.

It is refused, never ignored: a file must not promise what does not happen.
Taking an entry out of the table opens the feature.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.config import codes
from reconciler.config.nodes import Mapping, Node, Place, Sequence, diagnose
from reconciler.diagnostics import Diagnostic, quote

# `service.` stands for any service.
LATER = frozenset(("defaults.health", "service.health", "safety.min_up_percent"))


def refuse_later_features(root: Mapping) -> Iterator[Diagnostic]:
    """Yield an error for everything in the tree that a later release will do."""
    for path, place in _walk(root):
        if path in LATER:
            message = f"{quote(path.rpartition('.')[2])} is not supported yet"
            yield diagnose(codes.NOT_SUPPORTED_YET, place, message)


def _walk(root: Mapping) -> Iterator[tuple[str, Place]]:
    """Yield the path and the key's place of every entry outside the backends."""
    for key, node in root.entries.items():
        yield key, root.keys[key]
        services = node.items if key == "services" and isinstance(node, Sequence) else ()
        for service in services:
            yield from _walk_entries("service.", service)
        yield from _walk_entries(f"{key}.", node)


def _walk_entries(prefix: str, node: Node) -> Iterator[tuple[str, Place]]:
    if isinstance(node, Mapping):
        for key in node.entries:
            yield f"{prefix}{key}", node.keys[key]
