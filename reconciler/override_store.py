"""Where overrides are kept: /run/xdplb/<name>/overrides.json.

Under /run, so that they outlive the controller and not the machine's restart, as
the pins do.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from reconciler.documents import open_document
from reconciler.errors import Locked, NoPermission, XdplbError
from reconciler.lock import hold_lock
from reconciler.log import log_event
from reconciler.model import BackendState
from reconciler.overrides import (
    BackendName,
    Override,
    Overrides,
    find_in_force,
    find_next_end,
    find_strays,
)
from reconciler.replace import replace_text
from reconciler.status import RUN_ROOT

FORMAT_VERSION = "1.0"
_KIND = "xdplb.overrides"
_LAST_MOMENT = 253_370_764_800.0  # 9999-01-01: wherever it is shown, it has a year
# Another command holds it for the time of one read and one write.
_LOCK_TIMEOUT_S = 10.0


class OverrideStore:
    """The overrides of the instance `name`, those whose time is over among them."""

    def __init__(self, name: str, root: Path | None = None) -> None:
        self.path = (root or RUN_ROOT) / name / "overrides.json"

    def read(self) -> Overrides:
        """Return what is kept; nothing where there is no file.

        Raises:
            NoPermission: this user may not read it.
            XdplbError: it can't be read, or is not what xdplb writes.
        """
        try:
            return parse_overrides(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return ()
        except PermissionError as error:
            raise _refuse(f"cannot read {self.path}", error) from error
        except (OSError, ValueError) as error:
            raise XdplbError(
                f"{self.path} can't be read: {error}",
                remedy="mend it, or remove it, which ends every override",
            ) from error

    def change(self, edit: Callable[[Overrides], Overrides], now: float) -> Overrides:
        """Replace what is kept by what `edit` makes of those in force; return that.

        No other command changes them meanwhile. Whatever `edit` raises leaves them alone.

        Raises:
            Locked: another command has held them for long.
            NoPermission: this user may not write them.
            XdplbError: as `read`, or they can't be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with hold_lock(self.path.parent, timeout_s=_LOCK_TIMEOUT_S):
                kept = self.read()
                edited = edit(find_in_force(kept, now))
                if edited != kept:
                    replace_text(self.path, format_overrides(edited))
                return edited
        except Locked as error:
            raise Locked(
                f"another command is changing {self.path}", remedy="try it again"
            ) from error
        except PermissionError as error:
            raise _refuse(f"cannot write {self.path}", error) from error
        except OSError as error:
            raise XdplbError(f"cannot write {self.path}: {error.strerror}") from error

    def forget(self) -> None:
        """Remove them with the instance that is no more."""
        self.path.unlink(missing_ok=True)


class OverrideFollower:
    """Those in force as a controller knows them: by the last file that could be read.

    A file that can't be read ends no override: it is logged once, and what was read
    before goes on.

    Attributes:
        path: the file.
        taken: those that the last pass went by.
    """

    def __init__(self, store: OverrideStore) -> None:
        self.path = store.path
        self.taken: Overrides = ()
        self._store = store
        self._known: Overrides | None = None  # None: nothing has been read yet
        self._problem = ""

    def take(self, now: float) -> Overrides:
        """Return those in force, for a pass.

        Raises:
            XdplbError: they can't be read, and never could.
        """
        taken = self._find_in_force(now)
        for each in taken:
            if each not in self.taken:
                log_event(logging.INFO, override="on", **_describe(each))
        for each in self.taken:
            if each not in taken:
                log_event(logging.INFO, override="off", **_describe(each))
        self.taken = taken
        return taken

    def have_changed(self, now: float) -> bool:
        """Whether others are in force than the last pass went by."""
        return self._find_in_force(now) != self.taken

    def measure_rest_s(self, now: float) -> float:
        """Return how long those that were taken stay as they are, in seconds."""
        end = find_next_end(self.taken)
        return float("inf") if end is None else max(end - now, 0.0)

    def _find_in_force(self, now: float) -> Overrides:
        try:
            self._known = self._store.read()
            self._problem = ""
        except XdplbError as error:
            if self._known is None:
                raise
            if self._problem != str(error):
                self._problem = str(error)
                kept = len(self._known)
                log_event(logging.ERROR, overrides="unreadable", kept=kept, reason=str(error))
        return find_in_force(self._known, now)


def _describe(override: Override) -> dict[str, str]:
    return {
        "backend": f"{override.service}/{override.backend}",
        "state": override.state.name.lower(),
        "owner": override.owner,
        "until": "-" if override.until is None else f"{override.until:.0f}",
        "reason": override.reason,
    }


def _refuse(what: str, error: OSError) -> NoPermission:
    return NoPermission(f"{what}: {error.strerror}", remedy="run as root")


def format_overrides(overrides: Overrides) -> str:
    """Return the file that says so."""
    document = {
        "format_version": FORMAT_VERSION,
        "kind": _KIND,
        "overrides": [override_to_json(each) for each in overrides],
    }
    return json.dumps(document, indent=2) + "\n"


def override_to_json(override: Override) -> dict[str, Any]:
    """Return an override as every document has it."""
    return {
        "service": override.service,
        "backend": override.backend,
        "state": override.state.name.lower(),
        "owner": override.owner,
        "reason": override.reason,
        "since": override.since,
        "until": override.until,
    }


def list_overrides(overrides: Overrides, known: Collection[BackendName]) -> list[dict[str, Any]]:
    """Return the overrides as documents have them; a stray is of none of the known backends."""
    strays = find_strays(overrides, known)
    return [override_to_json(each) | {"stray": each in strays} for each in overrides]


def parse_overrides(text: str) -> Overrides:
    """Return what a file says.

    Raises:
        ValueError: it is not what `format_overrides` writes.
    """
    try:
        document = open_document(text, _KIND, FORMAT_VERSION)
        return tuple(parse_override(each) for each in document["overrides"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is no list of overrides ({error})") from error


def parse_override(document: dict[str, Any]) -> Override:
    """Return the override that `override_to_json` gave.

    Raises:
        KeyError: a key is missing, or the state is none.
        TypeError: a value is of another type.
        ValueError: a time is no number, or beyond the calendar.
    """
    since, until = float(document["since"]), document["until"]
    if not all(0 <= moment <= _LAST_MOMENT for moment in (since, float(until or 0))):
        raise ValueError("a time is beyond the calendar")
    return Override(
        service=str(document["service"]),
        backend=str(document["backend"]),
        state=BackendState[document["state"].upper()],
        owner=str(document["owner"]),
        reason=str(document["reason"]),
        since=since,
        until=None if until is None else float(until),
    )
