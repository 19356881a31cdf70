"""What the schema describes already and this release does not do yet.

It is refused, never ignored: a file must not promise what does not happen.
Taking an entry out of the table opens the feature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from reconciler.config import codes
from reconciler.config.nodes import Mapping, Node, Place, Scalar, Sequence, diagnose
from reconciler.diagnostics import Diagnostic, quote

_SHORT_FORM_KEYS = frozenset(("vip", "port", "protocol", "affinity", "ring_size", "drain_timeout"))


@dataclass(frozen=True, slots=True)
class Later:
    """A path that is refused, altogether or for the values that `applies_to` names.

    `service.` stands for any service, `backend.` for any backend; the short
    form's keys are those of its service.
    """

    path: str
    applies_to: Callable[[object], bool] | None = None
    hint: str = ""


def _is_other_than(supported: str) -> Callable[[object], bool]:
    return lambda value: value != supported


def _is_zero(value: object) -> bool:
    return value == 0


_ONLY_READY = "take the backend out of the list instead"

LATER: tuple[Later, ...] = (
    Later("backend.state", _is_other_than("ready"), _ONLY_READY),
    Later("backend.weight", _is_zero, _ONLY_READY),
    Later("defaults.weight", _is_zero),
    Later("defaults.health"),
    Later("service.health"),
    Later("safety.min_up_percent"),
    Later("metrics"),
    Later("include"),
)


def refuse_later_features(root: Mapping) -> Iterator[Diagnostic]:
    """Yield an error for everything in the tree that a later release will do."""
    entries = {later.path: later for later in LATER}
    for path, key_place, node in _walk(root):
        later = entries.get(path)
        if later is None:
            continue
        if later.applies_to is None:
            message = f"{quote(path.rpartition('.')[2])} is not supported yet"
            yield diagnose(codes.NOT_SUPPORTED_YET, key_place, message, later.hint)
        elif isinstance(node, Scalar) and later.applies_to(node.value):
            shown = f"{path.rpartition('.')[2]}: {node.value}"
            message = f"{quote(shown)} is not supported yet"
            yield diagnose(codes.NOT_SUPPORTED_YET, node.place, message, later.hint)


def _walk(root: Mapping) -> Iterator[tuple[str, Place, Node]]:
    """Yield the path, the key's place and the value of every entry."""
    for key, node in root.entries.items():
        if key == "services" and isinstance(node, Sequence):
            for service in node.items:
                yield from _walk_service(service)
        elif key == "backends":
            yield from _walk_backends(node)
        elif key in _SHORT_FORM_KEYS:
            yield f"service.{key}", root.keys[key], node
        else:
            yield key, root.keys[key], node
            yield from _walk_entries(f"{key}.", node)


def _walk_entries(prefix: str, node: Node) -> Iterator[tuple[str, Place, Node]]:
    if isinstance(node, Mapping):
        for key, value in node.entries.items():
            yield f"{prefix}{key}", node.keys[key], value


def _walk_service(service: Node) -> Iterator[tuple[str, Place, Node]]:
    yield from _walk_entries("service.", service)
    if isinstance(service, Mapping) and (backends := service.get("backends")):
        yield from _walk_backends(backends)


def _walk_backends(backends: Node) -> Iterator[tuple[str, Place, Node]]:
    for backend in backends.items if isinstance(backends, Sequence) else ():
        if isinstance(backend, Scalar):
            yield "backend.address", backend.place, backend
        else:
            yield from _walk_entries("backend.", backend)
