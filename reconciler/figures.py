"""Numbers and times as people read them, wherever they are shown."""

from __future__ import annotations


def format_share(share: float) -> str:
    """Return, for example, `28.57 %` of 0.2857."""
    return f"{100 * share:.2f} %"


def format_rate(rate: float) -> str:
    """Return, for example, `12.5` or `1,250`: with a place behind the point where it tells."""
    return f"{rate:,.1f}" if 0 < rate < 100 else f"{rate:,.0f}"


def format_age(at: float, now: float) -> str:
    """Return, for example, `42 s ago` or `3 h ago`."""
    seconds = max(now - at, 0.0)
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name} ago"
    return f"{seconds:.0f} s ago"
