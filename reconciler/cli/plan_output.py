"""A proposal in words and in JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from reconciler.config_file import STANDARD_INPUT_NAME
from reconciler.diagnostics import Diagnostic
from reconciler.diagnostics import to_json as diagnostics_to_json
from reconciler.errors import NoInput
from reconciler.proposal import Change, Proposal, RingChange

FORMAT_VERSION = "1.0"
_SIGNS = {"create": "+", "update": "~", "delete": "-"}


def to_json(proposal: Proposal, warnings: Sequence[Diagnostic] = ()) -> dict[str, Any]:
    """Return the document of a plan; its keys keep their meaning within a major version."""
    config, observed = proposal.config, proposal.observed
    return {
        "format_version": FORMAT_VERSION,
        "kind": "xdplb.plan",
        "config": {"path": config.path, "sha256": config.sha256},
        "live": {
            "name": config.name,
            "interfaces": sorted(observed.attachments),
            "generation": observed.generation,
            "config_sha256": observed.config_sha256 or None,
        },
        "in_sync": proposal.is_in_sync,
        "changes": [_change_to_json(change) for change in proposal.changes],
        "rings": [
            {
                "service": ring.service,
                "size": ring.size,
                "slots_moved": ring.slots_moved,
                "slots_moved_min": ring.slots_moved_min,
            }
            for ring in proposal.rings
        ],
        "guard": {"blocked": proposal.objection is not None, "reason": proposal.objection},
        "diagnostics": diagnostics_to_json(warnings),
        "summary": summarise(proposal.changes),
    }


def _change_to_json(change: Change) -> dict[str, Any]:
    document: dict[str, Any] = {
        "address": change.address,
        "actions": [change.action],
        "reason": change.reason,
        "before": change.before or None,
        "after": change.after or None,
    }
    if change.slots is not None:
        document["slots"] = {"before": change.slots[0], "after": change.slots[1]}
    if change.source is not None:
        source = change.source
        document["source"] = {"file": source.file, "line": source.line, "column": source.column}
    return document


def summarise(changes: Iterable[Change]) -> dict[str, int]:
    """Return how many changes of each kind there are; drift is counted apart."""
    counts = {"add": 0, "change": 0, "remove": 0, "drift": 0}
    kinds = {"create": "add", "update": "change", "delete": "remove"}
    for change in changes:
        counts["drift" if change.reason == "drift" else kinds[change.action]] += 1
    return counts


def write_json(document: dict[str, Any], path: Path) -> None:
    """Write a document to a file.

    Raises:
        NoInput: it can't be written there.
    """
    try:
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        message = f"cannot write {path}: {error.strerror}"
        raise NoInput(message, remedy="name a file in a folder that is there") from None


def render_plan(proposal: Proposal, against: str | None = None) -> str:
    """Return the plan for people: a line a resource, then what moves.

    `against` is the file it was compared with, if not with the kernel.
    """
    if proposal.is_in_sync and against:
        return f"no changes: {_file(proposal)} asks for what {against} asks for"
    if proposal.is_in_sync:
        generation = proposal.observed.generation
        return f"in sync: the kernel does what {_file(proposal)} says (generation {generation})"
    other = against or f"instance {proposal.config.name}"
    lines = [f"{_file(proposal)} against {other}:", ""]
    lines += _render_changes(proposal.changes)
    lines += ["", *(_render_ring(ring) for ring in proposal.rings), _render_summary(proposal)]
    if proposal.objection:
        lines.append(f"blocked: {proposal.objection}")
    return "\n".join(lines)


def _file(proposal: Proposal) -> str:
    path = proposal.config.path
    return "standard input" if path == STANDARD_INPUT_NAME else path


def _render_changes(changes: Sequence[Change]) -> Iterator[str]:
    width = max(len(change.address) for change in changes)
    for change in changes:
        text = f"  {_SIGNS[change.action]} {change.address:<{width}}  {_describe(change)}"
        yield text.rstrip()


def _describe(change: Change) -> str:
    words = []
    if change.action == "update":
        words += [
            f"{key} {_text(change.before.get(key))} -> {_text(change.after.get(key))}"
            for key in {**change.before, **change.after}
        ]
    elif change.action == "create":
        words += [f"{key} {_text(value)}" for key, value in _headline(change.after)]
    if change.slots is not None:
        words.append(f"slots {change.slots[0]} -> {change.slots[1]}")
    if change.reason != "config":
        words.append(f"({change.reason})")
    if change.source is not None:
        words.append(f"[{change.source.file}:{change.source.line}]")
    return "  ".join(words)


def _headline(attributes: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key in ("vips", "address", "port", "protocol", "forwarding", "weight", "mode"):
        if key in attributes:
            yield key, attributes[key]


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _render_ring(ring: RingChange) -> str:
    moved, least = (100 * n / ring.size for n in (ring.slots_moved, ring.slots_moved_min))
    return (
        f"ring of {ring.service}: moves {ring.slots_moved} of {ring.size} slots ({moved:.2f} %),"
        f" least possible {ring.slots_moved_min} ({least:.2f} %)"
    )


def _render_summary(proposal: Proposal) -> str:
    counts = summarise(proposal.changes)
    return "plan: {add} to add, {change} to change, {remove} to remove, {drift} drifted".format(
        **counts
    )
