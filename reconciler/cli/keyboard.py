"""Single keys from a terminal, while something else is waited for."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reading_keys() -> Iterator[None]:
    """Have keys come at once and unseen while the block runs; without a terminal, nothing."""
    if not sys.stdin.isatty():
        yield
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    tty.setcbreak(fd, termios.TCSANOW)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSANOW, before)


def wait_for_key(keys: str, timeout_s: float) -> bool:
    """Wait until one of the keys is pressed, or for so long; return whether it was.

    Without a terminal there are no keys.
    """
    deadline = time.monotonic() + timeout_s
    if not sys.stdin.isatty():
        time.sleep(timeout_s)
        return False
    fd = sys.stdin.fileno()
    while (left_s := deadline - time.monotonic()) > 0:
        if not select.select([fd], [], [], left_s)[0]:
            break
        pressed = os.read(fd, 64).decode(errors="replace")
        if not pressed or any(key in pressed for key in keys):
            return True  # or the terminal has hung up
    return False
