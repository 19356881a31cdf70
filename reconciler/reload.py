"""Has the running controller take its file now, and says what came of it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import ClassVar

from reconciler.config_file import load, read_files
from reconciler.errors import (
    Blocked,
    Degraded,
    ExitCode,
    NoInput,
    NoPermission,
    Overdue,
    RolledBack,
    Unavailable,
    XdplbError,
)
from reconciler.lock import find_holder
from reconciler.status import RUN_ROOT, Attempt, ControllerStatus, name_state, read_status

_TIMEOUT_S = 180.0
_POLL_S = 0.05


class Rejected(XdplbError):
    """The controller did not take the file."""

    exit_code: ClassVar[ExitCode] = ExitCode.CONFIG


def reload(folder: Path, path: str, *, root: Path | None = None) -> Attempt:
    """Send SIGHUP to the controller, and return its verdict on the file as it is now.

    Args:
        folder: where the instance is pinned; named for it.
        path: the controller's file.
        root: where controllers leave their accounts, by instance.

    Raises:
        Unavailable: no controller runs.
        ConfigInvalid, Rejected, NoInput, Blocked: the file was not taken.
        Overdue: there was no verdict in three minutes.
        XdplbError: it could not be applied; of the class that says why, if the account does.
    """
    name = folder.name if root else name_state(folder.name, folder.parent)
    root = root or RUN_ROOT
    before = read_status(name, root)
    pid = _find_controller(folder, before)
    os.kill(pid, signal.SIGHUP)
    deadline = time.monotonic() + _TIMEOUT_S
    while not (attempt := _find_verdict(name, path, before, root)):
        if not _is_alive(pid):
            raise XdplbError(f"the controller, pid {pid}, has ended", remedy="see its log")
        if time.monotonic() > deadline:
            raise Overdue(f"the controller, pid {pid}, has not taken {path} in {_TIMEOUT_S:.0f} s")
        time.sleep(_POLL_S)
    _check(attempt, path)
    return attempt


def _find_controller(folder: Path, account: ControllerStatus | None) -> int:
    """The process that holds the instance, if it is one that stays."""
    holder = find_holder(folder) if folder.is_dir() else None
    # Who makes a single pass holds it too, and leaves an account at its end only:
    # the signal would kill it.
    if holder is None or account is None or account.pid != holder:
        raise Unavailable(
            f"no controller runs for instance {folder.name}",
            remedy="start one (xdplb-reconcile), or make one pass: xdplb-reconcile --once",
        )
    return holder


def _find_verdict(
    name: str, path: str, before: ControllerStatus | None, root: Path
) -> Attempt | None:
    """The controller's attempt since, if it is one at the file as it is now."""
    account = read_status(name, root)
    if account is None or (before and account.last_attempt == before.last_attempt):
        return None
    return account.last_attempt if account.last_attempt.sha256 == _digest(path) else None


def _digest(path: str) -> str:
    try:
        return read_files(path).sha256
    except NoInput:
        return ""


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _check(attempt: Attempt, path: str) -> None:
    """Raise what the controller met, as the command that does it itself would."""
    if attempt.result == "rejected":
        load(path)  # says every problem with its place
        raise Rejected(attempt.message)
    if attempt.result == "missing":
        raise NoInput(attempt.message)
    if attempt.result == "blocked":
        raise Blocked(attempt.message)
    if attempt.result == "failed":
        raise _name_failure(attempt)


def _name_failure(attempt: Attempt) -> XdplbError:
    """The error of the class that has the controller's exit code, where it is one we know."""
    known = {
        each.exit_code.name: each for each in (Unavailable, NoPermission, RolledBack, Degraded)
    }
    return known.get(attempt.exit_code, XdplbError)(attempt.message)
