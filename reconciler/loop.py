"""The controller's loop: level-triggered, so that nothing is lost by a lost event.

File events, signals and time only say "look again". A look compares what is with
what should be, and whatever made it look plays no part in the result.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from reconciler.config.summary import summarise
from reconciler.config_file import Files, Loaded, parse_files, read_files
from reconciler.diagnostics import Diagnostic
from reconciler.errors import Blocked, NoInput, XdplbError
from reconciler.instance import Instance, Outcome
from reconciler.model import Config
from reconciler.notify import Notifier
from reconciler.overrides import Overrides
from reconciler.status import Attempt, ControllerStatus, write_status
from reconciler.watch import POLL_S, FileWatch, Sources, Stamp, measure_age_s

log = logging.getLogger("xdplb")

_FIRST_RETRY_S, _LAST_RETRY_S = 1.0, 30.0


@dataclass(frozen=True)
class LoopOptions:
    """How the controller is to behave, beside what the file says."""

    allow_large_change: bool = False


class Loop:
    """Keeps one instance to one file until it is told to stop.

    The caller holds the instance. Starts from a configuration that is valid and
    applied; from then on the last good one stays in force whatever the file says.
    """

    def __init__(
        self,
        instance: Instance,
        path: str,
        first: Loaded,
        options: LoopOptions | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        self.instance = instance
        self.path = Path(path)
        self.sources = Sources(self.path)
        self.options = options or LoopOptions()
        self.notifier = notifier or Notifier({})
        self.config: Config = first.config  # the last good one
        self._wanted: Config = first.config  # the last valid one
        self._overrides: Overrides = ()  # those that the last good pass put on
        self._file_sha256: str | None = first.config.sha256  # None: not looked at
        self._stamp: Stamp = {}
        self._wake = threading.Event()
        self._stopping = False
        self._look_at_file = self._is_forced = False
        self._retry_s = 0.0
        self._next_pass = 0.0
        self._attempt: Attempt | None = None  # at the file as it is now
        self._good: Attempt | None = None
        self._generation = 0
        self._shown_drift = ""
        self._shown_advice: tuple[Diagnostic, ...] = ()

    # --- from outside ---

    def stop(self) -> None:
        """End the loop after the pass under way. Traffic goes on."""
        self._stopping = True
        self._wake.set()

    def reload(self) -> None:
        """Look at the file now, and make a pass, changed or not."""
        self._look_at_file = self._is_forced = True
        self._file_sha256 = None
        self._wake.set()

    @contextmanager
    def signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT stop, SIGHUP reloads, while the block runs."""

        def on_stop(_number: int, _frame: FrameType | None) -> None:
            self.stop()

        def on_reload(_number: int, _frame: FrameType | None) -> None:
            self.reload()

        handlers = {signal.SIGTERM: on_stop, signal.SIGINT: on_stop, signal.SIGHUP: on_reload}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # --- the loop ---

    def run(self) -> None:
        """Apply the first configuration, then reconcile until stopped.

        Raises:
            XdplbError: the first pass failed. Later failures are logged and tried again.
        """
        watch = FileWatch(self.sources, self._wake.set)
        override_watch = FileWatch(Sources(self.instance.overrides.path), self._wake.set)
        self._stamp = self.sources.read_stamp()
        self._finish(self.config, self._reconcile(self.config))
        self.notifier.say_ready()
        self._look_at_file = True  # it may have changed before it was watched
        try:
            while not self._stopping:
                override_watch.refresh()
                self._turn(watch)
        finally:
            self.notifier.say_stopping()
            watch.stop()
            override_watch.stop()

    def _turn(self, watch: FileWatch) -> None:
        now = time.monotonic()
        self.notifier.say_alive()
        watch.refresh()
        if self._is_file_ready(watch):
            with self.notifier.reloading():
                self._take_file()
        elif now >= self._next_pass:
            self._pass(self._wanted)
        elif self.instance.overrides.have_changed(time.time()):
            self._pass_overrides()
        if not self._stopping:
            self._wake.wait(self._choose_wait_s())
        self._wake.clear()

    def _choose_wait_s(self) -> float:
        until_pass = max(self._next_pass - time.monotonic(), 0.0)
        waiting_for_writer = self._look_at_file and not self._stopping
        poll_s = min(POLL_S, self._debounce_left_s()) if waiting_for_writer else POLL_S
        return min(poll_s, until_pass, self.instance.overrides.measure_rest_s(time.time()))

    def _debounce_left_s(self) -> float:
        left = self.config.reconcile.debounce_s - measure_age_s(self._stamp)
        return max(left, 0.01)

    def _is_file_ready(self, watch: FileWatch) -> bool:
        """Whether the file changed and its writer is done with it.

        Done is one who closed or renamed the file, or has let it rest for the
        debounce time; until then it may be half a file.
        """
        stamp = self.sources.read_stamp()
        if stamp != self._stamp:
            self._stamp = stamp
            self._look_at_file = True
        is_complete = watch.take_complete()
        if not self._look_at_file:
            return False
        return (
            self._is_forced
            or is_complete
            or measure_age_s(stamp) >= self.config.reconcile.debounce_s
        )

    def _take_file(self) -> None:
        self._look_at_file = self._is_forced = False
        try:
            files = read_files(str(self.path))
        except NoInput as error:
            self._reject(error, "")
            return
        self.sources.patterns = files.patterns
        if files.sha256 == self._file_sha256:
            return
        try:
            config = self._parse(files)
        except XdplbError as error:
            self._reject(error, files.sha256)
            return
        self._file_sha256 = config.sha256
        self._wanted = config
        self._attempt = None
        self._pass(config)

    def _parse(self, files: Files) -> Config:
        config = parse_files(files).config
        if config.name != self.config.name:
            raise XdplbError(
                f"{self.path}: name is {config.name}, this controller runs {self.config.name}",
                remedy="a new name is a new instance: start a controller of its own",
            )
        return config

    def _reject(self, error: XdplbError, sha256: str) -> None:
        if sha256 == self._file_sha256:
            return
        self._file_sha256 = sha256
        self._wanted = self.config
        log.error("config=rejected running=%s reason=%s", self.config.sha256[:12], quote(error))
        for one in getattr(error, "diagnostics", ()):
            log.error("at=%s code=%s problem=%s", one.source, one.code, quote(one.message))
        result = "missing" if isinstance(error, NoInput) else "rejected"
        self._attempt = Attempt(result, time.time(), sha256, str(error))
        self._tell()

    # --- one pass ---

    def _pass(self, config: Config) -> None:
        try:
            outcome = self._reconcile(config)
        except XdplbError as error:
            self._fail(config, error)
        except OSError as error:  # of the machine, and perhaps not for long
            self._fail(config, XdplbError(str(error)))
        else:
            self._finish(config, outcome)
            return
        if config is self.config:
            return
        if self.instance.overrides.taken != self._overrides:
            self._pass_overrides()
        else:
            self._keep_good()

    def _pass_overrides(self) -> None:
        """Put overrides on the last good configuration: a refused file does not hold them up."""
        due = self._next_pass
        self._pass(self.config)
        if self._wanted is not self.config:
            self._next_pass = min(self._next_pass, due)

    def _keep_good(self) -> None:
        """Heal, and end windows and drains: a file that is refused holds up neither."""
        try:
            outcome = self._reconcile(self.config)
        except (XdplbError, OSError) as error:
            log.error("upkeep=failed running=%s reason=%s", self.config.sha256[:12], quote(error))
        else:
            log_outcome(outcome)

    def _finish(self, config: Config, outcome: Outcome) -> None:
        self.config = config
        self._overrides = outcome.proposal.overrides
        self._generation = outcome.proposal.desired.generation
        self._retry_s = 0.0
        self._next_pass = time.monotonic() + config.reconcile.resync_s
        self._good = Attempt(describe_outcome(outcome), time.time(), config.sha256)
        if self._file_sha256 == config.sha256:
            self._attempt = self._good
        self._tell()
        log_outcome(outcome)
        self._show_advice(outcome)

    def _show_advice(self, outcome: Outcome) -> None:
        for one in outcome.advice:
            if one not in self._shown_advice:
                log.warning(
                    "code=%s advice=%s hint=%s", one.code, quote(one.message), quote(one.hint)
                )
        self._shown_advice = outcome.advice

    def _reconcile(self, config: Config) -> Outcome:
        """Reconcile; with `heal: false`, drift is shown and left alone."""
        if not config.reconcile.heal:
            proposal = self.instance.propose(config)
            drift = [c.address for c in proposal.changes if c.reason == "drift"]
            if drift and len(drift) == len(proposal.changes):
                self._show_drift(drift)
                return Outcome(proposal)
        self._shown_drift = ""
        return self.instance.reconcile(config, allow_large_change=self.options.allow_large_change)

    def _show_drift(self, drift: list[str]) -> None:
        shown = ",".join(drift)
        if shown != self._shown_drift:
            self._shown_drift = shown
            log.warning("drift=%s heal=false", shown)

    def _fail(self, config: Config, error: XdplbError) -> None:
        """Keep the last good configuration in force, and try again later and later."""
        longest_s = min(_LAST_RETRY_S, config.reconcile.resync_s)
        self._retry_s = min(max(2 * self._retry_s, _FIRST_RETRY_S), longest_s)
        self._next_pass = time.monotonic() + self._retry_s
        self.instance.dataplane.close()
        if self._attempt is None or self._attempt.message != str(error):
            log.error(
                "reconcile=failed code=%s running=%s reason=%s",
                error.exit_code.name,
                self.config.sha256[:12],
                quote(error),
            )
        result = "blocked" if isinstance(error, Blocked) else "failed"
        self._attempt = Attempt(result, time.time(), config.sha256, str(error))
        self._tell()

    def _tell(self) -> None:
        attempt = self._attempt or self._good
        if attempt is None:
            return
        self.notifier.say_status(self._describe(attempt))
        status = ControllerStatus(os.getpid(), str(self.path), attempt, self._good)
        try:
            write_status(self.instance.name, status)
        except OSError as error:
            log.warning("status=unwritten reason=%s", quote(error))

    def _describe(self, attempt: Attempt) -> str:
        running = f"generation {self._generation}, {summarise(self.config)}"
        if attempt is self._good:
            return f"{running}: {attempt.result}"
        return f"{running}, {attempt.result.upper()} is a newer file: {attempt.message}"


def describe_outcome(outcome: Outcome) -> str:
    """Return `applied`, `in_sync`, or `drifted` where drift was left alone."""
    if outcome.is_changed:
        return "applied"
    return "in_sync" if outcome.proposal.is_in_sync else "drifted"


def log_outcome(outcome: Outcome) -> None:
    """Write one line if the pass did anything."""
    if not outcome.writes:
        return
    proposal = outcome.proposal
    log.info(
        "reconcile=%s generation=%d changes=%d writes=%d slots_moved=%d sha256=%s",
        describe_outcome(outcome) if outcome.is_changed else "upkeep",
        proposal.desired.generation,
        len(proposal.changes),
        outcome.writes,
        sum(ring.slots_moved for ring in proposal.rings),
        proposal.config.sha256[:12],
    )


def quote(value: object) -> str:
    """Return a log value in quotes, on one line."""
    text = " ".join(str(value).split())
    return '"' + text.replace('"', "'") + '"'
