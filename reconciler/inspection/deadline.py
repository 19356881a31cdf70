"""Look at several things at once, and wait for none of them longer than the deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from reconciler.diagnosis.facts import Unseen
from reconciler.errors import XdplbError


def look_at_all(
    looks: Mapping[str, Callable[[], Any]], deadline_s: float
) -> dict[str, Any | Unseen]:
    """Return what each function returned, or why it is not known, by its name.

    A look that has not come back after `deadline_s` seconds is left behind: its thread
    keeps nothing from ending. What no look should raise is raised here.
    """
    found: dict[str, Any] = {}
    failures: list[Exception] = []

    def look(name: str) -> None:
        try:
            found[name] = looks[name]()
        except XdplbError as error:
            found[name] = Unseen(error.message)
        except OSError as error:
            found[name] = Unseen(str(error))
        except Exception as error:  # it belongs to the caller, not to this thread
            failures.append(error)

    threads = [threading.Thread(target=look, args=(name,), daemon=True) for name in looks]
    for thread in threads:
        thread.start()
    end_s = time.monotonic() + deadline_s
    for thread in threads:
        thread.join(max(end_s - time.monotonic(), 0))
    if failures:
        raise failures[0]
    late = Unseen(f"it took longer than {deadline_s:g} s")
    return dict.fromkeys(looks, late) | dict(found)  # a copy: a late one may still come
