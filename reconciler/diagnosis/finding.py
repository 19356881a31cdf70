"""One thing that the doctor looked at, and what is to be done about it."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.diagnosis.facts import Unseen

_NAMED = 3


class Severity(str, enum.Enum):
    """How much a finding matters.

    A note is nothing wrong, or nothing that can be seen from here. A warning costs
    something. With an error the file can't be obeyed, or a service not be reached.
    """

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, and what mends it.

    Attributes:
        code: which look this is.
        severity: what came of it.
        subject: an interface, a backend, a service; `machine` for the rest.
        message: what was found, and after a colon why it matters.
        command: what mends it, or shows more, to be copied into a shell; empty if
            there is none.
        host: the machine the command is for; empty for this one.
        hint: in words, what no command can do.
    """

    code: str
    severity: Severity
    subject: str
    message: str
    command: str = ""
    host: str = ""
    hint: str = ""


def report_ok(code: str, subject: str, message: str) -> Finding:
    """Return a finding with which all is well."""
    return Finding(code, Severity.OK, subject, message)


def report_unseen(code: str, subject: str, unseen: Unseen) -> Finding:
    """Return the finding that nothing could be found."""
    return Finding(code, Severity.NOTE, subject, f"not looked at: {unseen.reason}")


def name_some(names: Sequence[object]) -> str:
    """Return names for a message, a few of them if they are many."""
    shown = [str(name) for name in names[:_NAMED]]
    if len(names) > _NAMED:
        return f"{', '.join(shown)} and {len(names) - _NAMED} more"
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))
