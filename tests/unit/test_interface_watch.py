"""The kernel's news of interfaces."""

from __future__ import annotations

import threading
from pathlib import Path

from reconciler.interface_watch import InterfaceWatch


def count_threads() -> int:
    return sum(thread.name == "interface-watch" for thread in threading.enumerate())


def test_it_ends_and_leaves_nothing() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    watch = InterfaceWatch(lambda: None)
    assert count_threads() == 1
    watch.stop()
    assert count_threads() == 0
    assert len(list(Path("/proc/self/fd").iterdir())) == before
