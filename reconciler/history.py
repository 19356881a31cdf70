"""The last passes that did something, or failed: /var/lib/xdplb/<name>/history.jsonl."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.documents import parse_json
from reconciler.errors import XdplbError
from reconciler.replace import replace_text

if TYPE_CHECKING:
    from reconciler.apply import Outcome

HISTORY_ROOT = Path("/var/lib/xdplb")

# Kept; the file is cut back to so many when it has twice that.
KEPT = 100


@dataclass(frozen=True)
class PassRecord:
    """One pass. `at` is in seconds since the epoch, `took_s` how long it took.

    `result` is `applied`; `upkeep`, which changes nothing that the file says; `rejected` or
    `missing` of a file that could not be taken; or the kind of failure, as an exit code's
    name: `blocked`, `rolled_back`, `degraded`, `unavailable`, `failed`.
    """

    at: float
    result: str
    generation: int
    sha256: str
    changes: int = 0
    writes: int = 0
    slots_moved: int = 0
    took_s: float = 0.0
    message: str = ""


def record_outcome(outcome: Outcome, at: float, took_s: float) -> PassRecord:
    """Return the record of a pass that went well."""
    proposal = outcome.proposal
    return PassRecord(
        at,
        "applied" if outcome.is_changed else "upkeep",
        proposal.desired.generation,
        proposal.config.sha256,
        len(proposal.changes),
        outcome.writes,
        sum(ring.slots_moved for ring in proposal.rings),
        round(took_s, 6),
    )


def record_failure(
    error: XdplbError, generation: int, sha256: str, at: float, took_s: float
) -> PassRecord:
    """Return the record of a pass that failed: its result is the error's kind."""
    kind = error.exit_code.name.lower()
    return PassRecord(at, kind, generation, sha256, took_s=round(took_s, 6), message=str(error))


class History:
    """The kept records of an instance, oldest first."""

    def __init__(self, name: str, root: Path | None = None) -> None:
        self.path = (root or HISTORY_ROOT) / name / "history.jsonl"

    def append(self, record: PassRecord) -> None:
        """Add a record, in one write; now and then forget the oldest.

        Raises:
            OSError: it can't be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(record)) + "\n")
        lines = self._read_lines()
        if len(lines) >= 2 * KEPT:
            replace_text(self.path, "".join(f"{line}\n" for line in lines[-KEPT:]))

    def read(self) -> list[PassRecord]:
        """Return what can be read: a line that was cut off is passed over."""
        records = []
        for line in self._read_lines()[-KEPT:]:
            try:
                records.append(PassRecord(**parse_json(line)))
            except (ValueError, TypeError):
                continue
        return records

    def _read_lines(self) -> list[str]:
        try:
            return self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []
