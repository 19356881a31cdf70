"""Wait for a condition, never for a length of time."""

from __future__ import annotations

import time
from collections.abc import Callable

from reconciler.errors import Overdue

_PAUSE_S = 0.01


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 10.0) -> None:
    """Return as soon as the condition holds.

    Args:
        condition: asked again and again, and once more when the time is over.
        what: the condition in words, for the error.
        timeout_s: how long to go on asking, in seconds.

    Raises:
        Overdue: it did not hold in time.
    """
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise Overdue(f"waited {timeout_s:g} s in vain: {what}")
        time.sleep(_PAUSE_S)
