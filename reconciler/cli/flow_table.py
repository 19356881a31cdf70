"""The memory of flows as `xdplb status` shows it: how full it is, and what happened to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reconciler import abi

if TYPE_CHECKING:
    from reconciler.dataplane.kernel import KernelDataplane


def describe_flow_table(dataplane: KernelDataplane) -> dict[str, Any]:
    """Return how many flows are remembered, for how many there is room, and the events."""
    entries, capacity = dataplane.measure_flows()
    counts = dataplane.read_counters("flow_events").tolist()
    events = {event.name.lower(): counts[event] for event in abi.FlowEvent}
    return {"entries": entries, "capacity": capacity, "events": events}


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
