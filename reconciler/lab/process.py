"""Processes of a laboratory: started apart, awaited by their first line, ended by pid."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from reconciler.errors import Overdue, XdplbError

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PACKAGE_PARENT = str(Path(__file__).parents[2])


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    """Start a program in a process group of its own, so that Ctrl-C does not reach it."""
    return subprocess.Popen(command, text=True, start_new_session=True, **options)


def python_environment() -> dict[str, str]:
    """This process's environment, in which Python finds this very package."""
    paths = [_PACKAGE_PARENT, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def await_line(process: subprocess.Popen[str], line: str, timeout_s: float = 10.0) -> None:
    """Return when the process has printed this line, its first, on its standard output.

    Raises:
        XdplbError: it printed something else, or ended.
        Overdue: it printed nothing in time.
    """
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(timeout_s):
            raise Overdue(f"no word from {process.args!r} in {timeout_s:g} s")
    said = process.stdout.readline().strip()
    if said != line:
        raise XdplbError(f"{process.args!r} should say {line!r}, said {said!r}")


def end(processes: Iterable[subprocess.Popen[str]], grace_s: float = 3.0) -> None:
    """End processes and their groups: ask all, wait for all, then kill who is left.

    Args:
        processes: started by `start`; those that have ended are left alone.
        grace_s: how long they have between being asked and being killed, in seconds.
    """
    running = [process for process in processes if process.poll() is None]
    for process in running:
        _signal_group(process, signal.SIGTERM)
    deadline_s = time.monotonic() + grace_s
    for process in running:
        try:
            process.wait(max(0.0, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            _signal_group(process, signal.SIGKILL)
            process.wait()


def _signal_group(process: subprocess.Popen[str], number: signal.Signals) -> None:
    # While it is not reaped, its pid is nobody else's, and so is its group's number.
    if process.poll() is None:
        os.killpg(process.pid, number)


@contextmanager
def termination_raised() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit, so that `finally` runs as for Ctrl-C.

    A handler that somebody else has set stays. Does nothing outside the main thread.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    with ExitStack() as stack:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                stack.enter_context(_handler(number, leave))
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold back Ctrl-C and its like until the end: a second one must not stop a clean-up."""
    with ExitStack() as stack:
        for number in _ENDING:
            stack.enter_context(_handler(number, lambda _number, _frame: None))
        yield


@contextmanager
def _handler(number: signal.Signals, handler: Any) -> Iterator[None]:
    try:
        before = signal.signal(number, handler)
    except ValueError:  # not in the main thread, where signals do not arrive anyway
        yield
        return
    try:
        yield
    finally:
        signal.signal(number, before)
