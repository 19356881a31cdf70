"""The memory of flows as `xdplb status` shows it: how full it is, and what happened to it."""

from __future__ import annotations

from typing import Any


def render_flow_table(document: dict[str, Any], *, verbose: bool) -> list[str]:
    """Return the lines for people: all of it, or only what somebody has to do about it."""
    entries, capacity, events = (document[key] for key in ("entries", "capacity", "events"))
    lines = []
    if verbose:
        lines.append(f"flow table: {entries} of {capacity} flows remembered")
        lines += [f"  {event:<18} {count}" for event, count in events.items()]
    if events["refused"]:
        lines.append(
            f"warning: the flow table had no room {events['refused']} times ({entries} of"
            f" {capacity} in use now): flows that found none may be forgotten and break. Raise"
            " limits.flows; it takes effect after xdplb detach"
        )
    return lines
