"""Where standings are kept: /run/xdplb/<name>/health.json.

They are a hint for the next controller, and for a pass that has none beside it: what was
known when the file was written. Under /run, so that they end with the machine's uptime.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reconciler.documents import open_document
from reconciler.health.standing import Standing
from reconciler.log import log_event
from reconciler.overrides import BackendName
from reconciler.replace import replace_text
from reconciler.status import RUN_ROOT

FORMAT_VERSION = "1.0"
_KIND = "xdplb.health"
# A controller that runs writes at least so often: who reads can tell.
KEEP_EVERY_S = 30.0
# Older standings are of a controller that is no more; two writes may come late.
FRESH_S = 3 * KEEP_EVERY_S


@dataclass(frozen=True, slots=True)
class Remembered:
    """Standings from before. `written_at` is in seconds since the epoch, None for never."""

    standings: Mapping[BackendName, Standing] = field(default_factory=dict)
    written_at: float | None = None

    def measure_age_s(self, now: float) -> float:
        """Return how old they are, in seconds; without end if they never were."""
        return float("inf") if self.written_at is None else abs(now - self.written_at)

    def is_fresh(self, now: float) -> bool:
        """Whether the controller that wrote them goes on, or has just ended."""
        return self.measure_age_s(now) <= FRESH_S


class HealthStore:
    """The standings of the instance `name`."""

    def __init__(self, name: str, root: Path | None = None) -> None:
        self.path = (root or RUN_ROOT) / name / "health.json"
        self._written: dict[BackendName, tuple[bool, int]] | None = None
        self._written_at = float("-inf")

    def read(self) -> Remembered:
        """Return what is kept; nothing where there is no file.

        What can't be read is logged and counts as nothing: it is only a hint.
        """
        try:
            return parse_health(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return Remembered()
        except (OSError, ValueError) as error:
            log_event(logging.WARNING, health="unreadable", path=str(self.path), reason=str(error))
            return Remembered()

    def read_fresh(self) -> Mapping[BackendName, Standing]:
        """Return what the running controller knows; nothing where none has run lately."""
        kept = self.read()
        return kept.standings if kept.is_fresh(time.time()) else {}

    def keep(self, standings: Mapping[BackendName, Standing], now: float) -> None:
        """Write the standings if a backend has changed, or the last write is long ago.

        To be called at every turn of a loop: it costs nothing while there is nothing to
        write. What can't be written is logged; it is tried again at the next turn that has
        reason to write.
        """
        told = {name: (each.is_up, each.transitions) for name, each in standings.items()}
        if told == self._written and abs(now - self._written_at) < KEEP_EVERY_S:
            return
        self._written, self._written_at = told, now
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            replace_text(self.path, format_health(standings, now))
        except OSError as error:
            log_event(logging.WARNING, health="unwritable", path=str(self.path), reason=str(error))

    def forget(self) -> None:
        """Remove them with the instance that is no more."""
        self.path.unlink(missing_ok=True)


def format_health(standings: Mapping[BackendName, Standing], now: float) -> str:
    """Return the file that says so."""
    document = {
        "format_version": FORMAT_VERSION,
        "kind": _KIND,
        "written_at": now,
        "backends": [
            {
                "service": service,
                "backend": backend,
                "server": each.server,
                "up": each.is_up,
                "since": each.since,
                "streak": each.streak,
                "detail": each.detail,
                "transitions": each.transitions,
            }
            for (service, backend), each in sorted(standings.items())
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def parse_health(text: str) -> Remembered:
    """Return what a file says.

    Raises:
        ValueError: it is not what `format_health` writes.
    """
    try:
        document = open_document(text, _KIND, FORMAT_VERSION)
        standings = {
            (str(each["service"]), str(each["backend"])): _parse_standing(each)
            for each in document["backends"]
        }
        return Remembered(standings, float(document["written_at"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it holds no standings ({error})") from error


def _parse_standing(document: Mapping[str, Any]) -> Standing:
    if not isinstance(document["up"], bool):
        raise ValueError("'up' is neither true nor false")
    return Standing(
        is_up=document["up"],
        since=float(document["since"]),
        streak=int(document["streak"]),
        detail=str(document["detail"]),
        transitions=int(document["transitions"]),
        server=str(document["server"]),
    )
