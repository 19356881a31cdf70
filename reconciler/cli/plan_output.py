"""A plan in words, in JSON, and as GitHub annotations."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from reconciler.cli.override_output import render_overrides
from reconciler.cli.plan_report import PlanReport, describe_disruption
from reconciler.diagnostics import Paint, leave_plain, render_annotation, render_github
from reconciler.diagnostics import to_json as diagnostics_to_json
from reconciler.disruption import BREAKS_CONNECTIONS, Disruption
from reconciler.errors import Blocked
from reconciler.model import Protocol
from reconciler.override_store import list_overrides
from reconciler.overrides import list_backends
from reconciler.plan import Plan, Store
from reconciler.proposal import Change, RingChange

FORMAT_VERSION = "1.0"
_SIGNS = {"create": "+", "update": "~", "delete": "-"}


# --- for programs ---


def to_json(report: PlanReport) -> dict[str, Any]:
    """Return the document of a plan; its keys keep their meaning within a major version."""
    proposal = report.proposal
    config, observed = proposal.config, proposal.observed
    return {
        "format_version": FORMAT_VERSION,
        "kind": "xdplb.plan",
        "config": {"path": config.path, "sha256": config.sha256},
        "live": {
            "name": (report.against or config).name,
            "interfaces": sorted(observed.attachments),
            "generation": observed.generation,
            "config_sha256": observed.config_sha256 or None,
        },
        "in_sync": proposal.is_in_sync,
        "changes": [_change_to_json(change) for change in report.changes],
        "rings": [
            {
                "service": ring.service,
                "size": ring.size,
                "slots_moved": ring.slots_moved,
                "slots_moved_min": ring.slots_moved_min,
            }
            for ring in proposal.rings
        ],
        "guard": {"blocked": report.is_blocked, "reason": proposal.objection},
        "diagnostics": diagnostics_to_json(report.diagnostics),
        "summary": summarise(proposal.changes),
        "connections": [_disruption_to_json(one) for one in report.disruptions],
        "against": report.against and report.against.path,
        "overrides": list_overrides(proposal.overrides, list_backends(config)),
        "controller": list(report.controller),
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


def _disruption_to_json(one: Disruption) -> dict[str, Any]:
    return {
        "service": one.service,
        "protocol": one.protocol.name.lower(),
        "broken_percent": round(100 * one.broken_share, 2),
        "causes": list(one.causes),
        "ending": [
            {"backend": e.backend, "within_s": e.within_s, "remembered": e.remembered}
            for e in one.endings
        ],
    }


def summarise(changes: Iterable[Change]) -> dict[str, int]:
    """Return how many changes of each kind there are; drift is counted apart."""
    counts = {"add": 0, "change": 0, "remove": 0, "drift": 0}
    kinds = {"create": "add", "update": "change", "delete": "remove"}
    for change in changes:
        counts["drift" if change.reason == "drift" else kinds[change.action]] += 1
    return counts


# --- for GitHub ---


def render_annotations(report: PlanReport) -> str:
    """Return workflow commands: what speaks against the plan, its sum, and each change.

    GitHub shows the first few of a kind, and those that have a place beside it.
    """
    lines = [render_github([one]) for one in report.diagnostics]
    if not report.proposal.is_in_sync:
        lines.append(render_annotation("notice", "plan", "\n".join(_render_figures(report))))
    for change in report.changes:
        text = f"{_SIGNS[change.action]} {change.address}  {_describe(change)}".rstrip()
        lines.append(render_annotation("notice", "plan", text, change.source))
    return "\n".join(lines)


# --- for people ---


def render_plan(report: PlanReport, paint: Paint = leave_plain) -> str:
    """Return the plan for people: a line a resource, what moves and breaks, and overrides."""
    lines = [_render_plan(report, paint)]
    if report.proposal.overrides:
        known = list_backends(report.proposal.config)
        listed = list_overrides(report.proposal.overrides, known)
        lines += ["overrides:", *render_overrides(listed, time.time())]
    return "\n".join(lines)


def _render_plan(report: PlanReport, paint: Paint) -> str:
    proposal = report.proposal
    file, other = proposal.config.path, f"instance {proposal.config.name}"
    if report.against:
        other = report.against.path
        if proposal.is_in_sync:
            return "\n".join(_render_sameness(report, file, other))
    if proposal.is_in_sync:
        generation = proposal.observed.generation
        return f"in sync: the kernel does what {file} says (generation {generation})"
    lines = [f"{file} against {other}:", ""]
    lines += _render_sections(report.changes, paint)
    lines += ["", *_render_figures(report, paint)]
    lines += _render_controller(report)
    if proposal.objection:
        verdict = paint("blocked", "error") if report.is_blocked else paint("allowed", "warning")
        lines.append(f"{verdict}: {proposal.objection} [{Blocked.code}]")
    return "\n".join(lines)


def _render_sameness(report: PlanReport, file: str, other: str) -> Iterator[str]:
    if file == other:
        yield f"no changes: {file} was compared with itself"
    elif report.is_same:
        yield f"no changes: {file} asks for what {other} asks for"
    else:
        yield f"no changes: {file} asks of the kernel what {other} asks of it"
    yield from _render_controller(report)


def _render_controller(report: PlanReport) -> Iterator[str]:
    if report.controller:
        yield f"the controller is told another: {', '.join(report.controller)}"


def describe_writes(operations: Plan) -> str:
    """Return how many writes a plan takes, for those who want to know more."""
    slots = sum(len(one.indexes) for one in operations if isinstance(one, Store))
    rows = sum(not isinstance(one, Store) for one in operations)
    return f"writes: {rows} rows, {slots} slots"


def _render_sections(changes: Sequence[Change], paint: Paint) -> Iterator[str]:
    drift = [change for change in changes if change.reason == "drift"]
    meant = [change for change in changes if change.reason != "drift"]
    yield from _render_changes(meant, paint)
    if drift:
        yield from ([""] if meant else [])
        yield "drift: the kernel is not as it was left; this puts it back"
        yield from _render_changes(drift, paint)


def _render_changes(changes: Sequence[Change], paint: Paint) -> Iterator[str]:
    """Yield aligned lines: sign and address, what changes, slots, place."""
    address_width = max((len(change.address) for change in changes), default=0)
    # What has no slots may be as long as it is: nothing stands to its right but its place.
    with_slots = [change for change in changes if change.slots is not None]
    attribute_width = max((len(_describe_attributes(c)) for c in with_slots), default=0)
    slot_width = max((len(_describe_slots(c)) for c in with_slots), default=0)
    for change in changes:
        columns = (
            f"{change.address:<{address_width}}",
            f"{_describe_attributes(change):<{attribute_width}}",
            f"{_describe_slots(change):<{slot_width}}",
            _describe_place(change),
        )
        sign = paint(_SIGNS[change.action], change.action)
        yield f"  {sign} {'  '.join(filter(None, columns))}".rstrip()


def _describe(change: Change) -> str:
    words = (_describe_attributes(change), _describe_slots(change))
    return "  ".join(filter(None, words))


def _describe_attributes(change: Change) -> str:
    words = []
    if change.action == "update":
        words += [
            f"{key} {_text(change.before.get(key))} -> {_text(change.after.get(key))}"
            for key in {**change.before, **change.after}
        ]
    elif change.action == "create":
        words += [f"{key} {_text(value)}" for key, value in _headline(change.after)]
    if change.reason not in ("config", "drift"):
        words.append(f"({change.reason})")
    return "  ".join(words)


def _describe_slots(change: Change) -> str:
    return f"slots {change.slots[0]} -> {change.slots[1]}" if change.slots is not None else ""


def _describe_place(change: Change) -> str:
    return f"[{change.source.file}:{change.source.line}]" if change.source is not None else ""


def _headline(attributes: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key in ("vips", "address", "port", "protocol", "forwarding", "weight", "mode"):
        if key in attributes:
            yield key, attributes[key]


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _render_figures(report: PlanReport, paint: Paint = leave_plain) -> Iterator[str]:
    proposal = report.proposal
    yield from (_render_ring(ring) for ring in proposal.rings)
    for one in report.disruptions:
        text = describe_disruption(one)
        if one.broken_share and one.protocol is Protocol.TCP:
            text = paint(f"{text} [{BREAKS_CONNECTIONS}]", "warning")
        yield text
    counts = summarise(proposal.changes)
    yield "plan: {add} to add, {change} to change, {remove} to remove, {drift} drifted".format(
        **counts
    )


def _render_ring(ring: RingChange) -> str:
    moved, least = (100 * n / ring.size for n in (ring.slots_moved, ring.slots_moved_min))
    return (
        f"ring of {ring.service}: moves {ring.slots_moved} of {ring.size} slots ({moved:.2f} %),"
        f" least possible {ring.slots_moved_min} ({least:.2f} %)"
    )
