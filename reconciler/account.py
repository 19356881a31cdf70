"""What the controller says of itself: log, systemd, status.json, history, conditions."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

from reconciler.conditions import (
    ATTACHED,
    BACKENDS_HEALTHY,
    READY,
    Condition,
    Conditions,
    judge_attachment,
    judge_backends,
    judge_file,
    judge_pass,
    judge_readiness,
    renew_conditions,
)
from reconciler.config.summary import summarise
from reconciler.diagnostics import Diagnostic
from reconciler.errors import Blocked, NoInput, XdplbError
from reconciler.health.effect import NO_JUDGEMENT
from reconciler.history import History, PassRecord, record_failure, record_outcome
from reconciler.log import log_event
from reconciler.model import Config
from reconciler.notify import Notifier
from reconciler.status import Attempt, ControllerStatus, read_status, write_status
from reconciler.tables import Attachment

if TYPE_CHECKING:
    from reconciler.apply import Outcome

# The other two have lines of their own.
_LOGGED = (READY, ATTACHED, BACKENDS_HEALTHY)


class Account:
    """Keeps and tells how it goes with one instance.

    Attributes:
        config: the configuration in force.
        attempt: the last one at the file as it is now; None before any.
        conditions: what is true now.
    """

    def __init__(self, name: str, config: Config, notifier: Notifier | None = None) -> None:
        self.name = name
        self.config = config
        self.attempt: Attempt | None = None
        self.conditions: Conditions = ()
        self._path = config.path
        self._notifier = notifier or Notifier({})
        self._history = History(name)
        self._good: Attempt | None = None
        self._last_pass: Attempt | None = None  # the last pass, whatever file it was for
        self._generation = 0
        self._attached: dict[str, Attachment] = {}
        self._judgement = NO_JUDGEMENT
        self._shown_advice: tuple[Diagnostic, ...] = ()
        self._shown_upkeep = ""

        self._remember()

    def _remember(self) -> None:
        """Go on where the account before this one ended: what was so, is so since then."""
        before = read_status(self.name)
        self.conditions = before.conditions if before else ()

    def forget_attempt(self) -> None:
        """Another file is there, and nobody has tried it yet."""
        self.attempt = None

    # --- what happens ---

    def reject(self, error: XdplbError, sha256: str) -> None:
        """The file can't be taken; what ran goes on."""
        log_event(logging.ERROR, config="rejected", running=self._running(), reason=str(error))
        for one in getattr(error, "diagnostics", ()):
            log_event(logging.ERROR, at=str(one.source), code=one.code, problem=one.message)
        result = "missing" if isinstance(error, NoInput) else "rejected"
        self.attempt = Attempt(result, time.time(), sha256, str(error))
        self._record(PassRecord(time.time(), result, self._generation, sha256, message=str(error)))
        self._tell()

    def finish(self, config: Config, outcome: Outcome, *, is_newest: bool, took_s: float) -> None:
        """A pass went well; `is_newest` if it was for the file as it is now."""
        self._take_good(config, outcome, is_newest=is_newest)
        self.note(outcome, took_s)
        self._show_advice(outcome)

    def note(self, outcome: Outcome, took_s: float) -> None:
        """A pass has left things as it says, whatever becomes of the file."""
        self._take(outcome, took_s)
        self._shown_upkeep = ""
        if outcome.writes:
            log_outcome(outcome)
        self._tell()

    def leave(self, outcome: Outcome, took_s: float) -> None:
        """A pass of somebody who does not stay and prints its outcome: only files tell of it."""
        self._take_good(self.config, outcome, is_newest=True)
        self._take(outcome, took_s)
        self._renew_conditions()
        self._write()

    def fail(self, config: Config, error: XdplbError, took_s: float) -> None:
        """A pass failed; what stood before stands."""
        if self.attempt is None or self.attempt.message != str(error):
            log_event(
                logging.ERROR,
                reconcile="failed",
                code=error.exit_code.name,
                running=self._running(),
                reason=str(error),
            )
            self._record(
                record_failure(error, self._generation, config.sha256, time.time(), took_s)
            )
        result = "blocked" if isinstance(error, Blocked) else "failed"
        self.attempt = self._last_pass = Attempt(
            result, time.time(), config.sha256, str(error), error.exit_code.name
        )
        self._tell()

    def fail_upkeep(self, error: Exception) -> None:
        """What a refused file should not have held up failed too."""
        if self._shown_upkeep != str(error):
            self._shown_upkeep = str(error)
            log_event(logging.ERROR, upkeep="failed", running=self._running(), reason=str(error))

    def _take_good(self, config: Config, outcome: Outcome, *, is_newest: bool) -> None:
        self.config = config
        self._generation = outcome.proposal.desired.generation
        self._good = self._last_pass = Attempt(
            describe_outcome(outcome), time.time(), config.sha256
        )
        if is_newest:
            self.attempt = self._good

    def _take(self, outcome: Outcome, took_s: float) -> None:
        self._attached = dict(outcome.result.attachments)
        self._judgement = outcome.proposal.judgement
        if outcome.writes:
            self._record(record_outcome(outcome, time.time(), took_s))

    # --- telling ---

    def _tell(self) -> None:
        before = {each.type: each for each in self.conditions}
        self._renew_conditions()
        for each in self.conditions:
            was = before.get(each.type)
            if each.type in _LOGGED and (was is None or was.reason != each.reason):
                log_condition(each)
        if self._shown:
            self._notifier.say_status(self._describe(self._shown))
        self._write()

    @property
    def _shown(self) -> Attempt | None:
        return self.attempt or self._good

    def _write(self) -> None:
        if self._shown is None:
            return
        status = ControllerStatus(os.getpid(), self._path, self._shown, self._good, self.conditions)
        try:
            write_status(self.name, status)
        except OSError as error:
            log_event(logging.WARNING, status="unwritten", reason=str(error))

    def _renew_conditions(self) -> None:
        if self._shown:
            fresh = self._judge(self._shown)
            self.conditions = renew_conditions(self.conditions, fresh, time.time())

    def _judge(self, attempt: Attempt) -> Conditions:
        last = self._last_pass or attempt
        names = self.config.interfaces
        return (
            judge_readiness(self._generation, names, self._attached),
            judge_file(attempt.result, attempt.message),
            judge_pass(last.result, last.message),
            judge_attachment(names, self._attached),
            judge_backends(
                self._judgement.checked,
                ["/".join(name) for name in self._judgement.down],
                self._judgement.panics,
            ),
        )

    def _record(self, record: PassRecord) -> None:
        try:
            self._history.append(record)
        except OSError as error:
            log_event(logging.WARNING, history="unwritten", reason=str(error))

    def _show_advice(self, outcome: Outcome) -> None:
        for one in outcome.advice:
            if one not in self._shown_advice:
                log_event(logging.WARNING, code=one.code, advice=one.message, hint=one.hint)
        self._shown_advice = outcome.advice

    def _running(self) -> str:
        return self.config.sha256[:12]

    def _describe(self, attempt: Attempt) -> str:
        running = f"generation {self._generation}, {summarise(self.config)}"
        if attempt is self._good:
            return f"{running}: {attempt.result}"
        return f"{running}, {attempt.result.upper()} is a newer file: {attempt.message}"


def leave_account(state_name: str, config: Config, outcome: Outcome, took_s: float) -> None:
    """Leave word of a pass for `xdplb status`, where nobody stays to tell of it."""
    Account(state_name, config).leave(outcome, took_s)


def describe_outcome(outcome: Outcome) -> str:
    """Return `applied`, `in_sync`, or `drifted` where drift was left alone."""
    if outcome.is_changed:
        return "applied"
    return "in_sync" if outcome.proposal.is_in_sync else "drifted"


def log_outcome(outcome: Outcome) -> None:
    """Write one line of a pass that did something."""
    proposal = outcome.proposal
    log_event(
        logging.INFO,
        reconcile=describe_outcome(outcome) if outcome.is_changed else "upkeep",
        generation=proposal.desired.generation,
        changes=len(proposal.changes),
        writes=outcome.writes,
        slots_moved=sum(ring.slots_moved for ring in proposal.rings),
        sha256=proposal.config.sha256[:12],
    )


def log_condition(condition: Condition) -> None:
    """Write one line of a condition that is another than it was."""
    level = logging.INFO if condition.status else logging.WARNING
    text = {"message": condition.message} if condition.message else {}
    log_event(
        level, condition=condition.type, status=condition.status, reason=condition.reason, **text
    )
