"""`include`: what it asks for, what may stand in such a file, and whose services they become."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reconciler.config import codes
from reconciler.config.document import Document
from reconciler.config.nodes import Mapping, Node, Place, Scalar, Sequence, diagnose
from reconciler.config.schema_messages import suggest
from reconciler.diagnostics import Diagnostic, quote

EMPTY_HINT = "start with 'services:', or take the file away"


@dataclass(frozen=True, slots=True)
class Include:
    """One entry of `include`, and where it stands."""

    pattern: str
    place: Place


def list_includes(document: Document) -> tuple[Include, ...]:
    """Return what a file asks for; what the schema will refuse is left out."""
    listed = document.root.get("include") if isinstance(document.root, Mapping) else None
    items = listed.items if isinstance(listed, Sequence) else []
    return tuple(
        Include(item.value, item.place)
        for item in items
        if isinstance(item, Scalar) and isinstance(item.value, str) and item.value
    )


def take_services(document: Document) -> tuple[Node | None, list[Diagnostic]]:
    """Return the `services` of an included file, and what else in it is out of place."""
    root = document.root
    if root is None:
        return None, []
    if not isinstance(root, Mapping):
        message = "an included file must be a mapping with 'services'"
        return None, [diagnose(codes.WRONG_TYPE, root.place, message, "write 'services:' above it")]
    found = list(_refuse_other_keys(root))
    services = root.get("services")
    if services is None and not any(suggest(key, ["services"]) for key in root.entries):
        message = "an included file needs 'services'"
        found.append(diagnose(codes.MISSING_KEY, root.place, message))
    return services, found


def _refuse_other_keys(root: Mapping) -> Iterator[Diagnostic]:
    for key in root.entries:
        if key == "services":
            continue
        message = f"{quote(key)} can't stand in an included file, which holds 'services' only"
        hint = "set it in the file that includes this one"
        if key == "include":
            hint = "list the file in the file that includes this one"
        elif suggest(key, ["services"]):
            hint = "did you mean 'services'?"
        yield diagnose(codes.NOT_IN_INCLUDED, root.keys[key], message, hint)


def add_services(root: Mapping, included: list[Sequence]) -> None:
    """Put the services of included files behind a file's own."""
    if not included or "services" in root.pruned:
        return
    own = root.get("services")
    items = own.items if isinstance(own, Sequence) else []
    place = own.place if own else root.place_of("include")
    root.entries["services"] = Sequence(
        place, [*items, *(item for services in included for item in services.items)]
    )
    root.keys.setdefault("services", place)


def check_any_service(root: Mapping) -> Iterator[Diagnostic]:
    """Yield that neither a file nor what it includes has a service, if so."""
    if "include" in root.entries and not {"services"} & {*root.entries, *root.pruned}:
        message = "there is no service, neither in this file nor in what 'include' names"
        hint = "to balance nothing any more: xdplb detach"
        yield diagnose(codes.TOO_FEW, root.keys["include"], message, hint)
