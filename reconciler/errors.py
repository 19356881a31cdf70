"""The one tree of errors. Each class fixes the exit code its command ends with."""

from __future__ import annotations

import enum
from typing import ClassVar


class ExitCode(enum.IntEnum):
    """Exit codes of every command; part of the public contract."""

    OK = 0
    FAILED = 1
    CHANGES = 2
    ROLLED_BACK = 3
    DEGRADED = 4
    BLOCKED = 5
    TIMEOUT = 6
    USAGE = 64
    NOINPUT = 66
    UNAVAILABLE = 69
    LOCKED = 75
    NOPERM = 77
    CONFIG = 78


class XdplbError(Exception):
    """A command can't do its job. `remedy` says what the reader can do about it.

    `code` is that of docs/diagnostics.md, for what becomes of a change.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED
    code: ClassVar[str] = ""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class Overdue(XdplbError):
    """What was waited for has not come in time."""

    exit_code = ExitCode.TIMEOUT


class NoInput(XdplbError):
    """The configuration file is missing or can't be read."""

    exit_code = ExitCode.NOINPUT


class Unavailable(XdplbError):
    """The machine lacks an interface, a kernel feature or BCC."""

    exit_code = ExitCode.UNAVAILABLE


class Locked(XdplbError):
    """Another controller holds this instance."""

    exit_code = ExitCode.LOCKED


class NoPermission(XdplbError):
    """Capabilities are missing."""

    exit_code = ExitCode.NOPERM


class Blocked(XdplbError):
    """The guard refused the change; nothing was changed."""

    exit_code = ExitCode.BLOCKED
    code = "XLB601"


class Stale(Blocked):
    """A saved plan is not what would be done now; nothing was changed."""

    code = "XLB603"


class Declined(Blocked):
    """Whoever was asked said no; nothing was changed."""

    code = "XLB604"


class RolledBack(XdplbError):
    """The apply failed; the state before it is back and verified."""

    exit_code = ExitCode.ROLLED_BACK
    code = "XLB605"


class Degraded(XdplbError):
    """The apply failed and so did the rollback."""

    exit_code = ExitCode.DEGRADED
    code = "XLB606"
