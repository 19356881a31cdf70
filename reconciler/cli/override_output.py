"""Overrides in words."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from reconciler.override_store import parse_override
from reconciler.overrides import Override


def render_overrides(listed: Sequence[dict[str, Any]], now: float) -> list[str]:
    """Return a line for each of the overrides that `list_overrides` gave."""
    names = [f"{each['service']}/{each['backend']}" for each in listed]
    width = max(map(len, names), default=0)
    lines = []
    for name, each in zip(names, listed, strict=True):
        note = " - there is no such backend" if each["stray"] else ""
        lines.append(f"  {name:<{width}}  {describe_override(parse_override(each), now)}{note}")
    return lines


def describe_override(override: Override, now: float) -> str:
    """Return, for example, `drain by alice until 14:05 (12m left): kernel update`.

    `now` is in seconds since the epoch; the time of day is the machine's own.
    """
    words = f"{override.state.name.lower()} by {override.owner}"
    if override.until is not None:
        words += (
            f" until {format_moment(override.until, now)} ({format_rest(override.until - now)})"
        )
    return f"{words}: {override.reason}" if override.reason else words


def format_moment(moment: float, now: float) -> str:
    """Return the time of day, and the date if it is another than now's."""
    local, today = datetime.fromtimestamp(moment), datetime.fromtimestamp(now)
    return f"{local:%H:%M}" if local.date() == today.date() else f"{local:%Y-%m-%d %H:%M}"


def format_rest(rest_s: float) -> str:
    """Return how much time is left, in its two largest units."""
    if rest_s <= 0:
        return "over"
    minutes, seconds = divmod(round(rest_s), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes}m left" if minutes else f"{hours}h left"
    return f"{minutes}m left" if minutes else f"{seconds}s left"


def count_connections(number: int) -> str:
    """Return, for example, `1 connection`."""
    return f"{number} connection" if number == 1 else f"{number} connections"
