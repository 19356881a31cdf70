"""The controller's loop: level-triggered, so that nothing is lost by a lost event.

File events, signals, the network's events and time only say "look again". A look
compares what is with what should be, and whatever made it look plays no part in the
result.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from reconciler.account import Account, describe_outcome
from reconciler.apply import Outcome
from reconciler.config_file import FileReader, Files, Loaded, parse_files
from reconciler.errors import NoInput, XdplbError
from reconciler.footprint import return_freed
from reconciler.health.checker import Checker
from reconciler.health.store import HealthStore
from reconciler.instance import Instance
from reconciler.interface_watch import InterfaceWatch
from reconciler.log import log_event
from reconciler.metrics.recorder import Recorder
from reconciler.metrics.service import MetricsService
from reconciler.model import Config
from reconciler.notify import Notifier
from reconciler.overrides import Overrides, apply_overrides
from reconciler.survey import Health
from reconciler.watch import POLL_S, FileWatch, Sources, Stamp, measure_age_s

_FIRST_RETRY_S, _LAST_RETRY_S = 1.0, 30.0
# An interface that comes up says so in several messages, and others' do too.
_INTERFACE_REST_S = 0.1


class Wake:
    """Ends a wait, from another thread or from a signal handler in the midst of the wait.

    A `threading.Event` has a lock that a signal handler would wait for in vain, since the
    thread that it interrupts holds it; a `SimpleQueue` is made for that.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        """End the wait under way, or the next one."""
        if self._calls.empty():
            self._calls.put(None)

    def wait(self, timeout_s: float) -> None:
        """Return when somebody has called, or after so long."""
        with contextlib.suppress(queue.Empty):
            self._calls.get(timeout=timeout_s)
        while not self._calls.empty():
            self._calls.get()


class Loop:
    """Keeps one instance to one file until it is told to stop.

    The caller holds the instance. Starts from a configuration that is valid and
    applied; from then on the last good one stays in force whatever the file says.

    Args:
        instance: the one to keep.
        path: of the file.
        first: what the file said.
        allow_large_change: do what the guard refuses.
        notifier: tells the service manager.
    """

    def __init__(
        self,
        instance: Instance,
        path: str,
        first: Loaded,
        *,
        allow_large_change: bool = False,
        notifier: Notifier | None = None,
    ) -> None:
        self.instance = instance
        self.path = Path(path)
        self.sources = Sources(self.path)
        self.reader = FileReader(path, first)
        self.allows_large_change = allow_large_change
        self.notifier = notifier or Notifier({})
        self.account = Account(instance.state_name, first.config, self.notifier)
        self.config: Config = first.config  # the last good one
        self._wanted: Config = first.config  # the last valid one
        self._overrides: Overrides = ()  # those that the last good pass put on
        self._file_sha256: str | None = first.config.sha256  # None: not looked at
        self._stamp: Stamp = {}
        self._wake = Wake()
        self._stopping = False
        self._look_at_file = self._is_forced = False
        self._look_around_at: float | None = None
        self.recorder = Recorder()
        self._metrics: MetricsService | None = None
        self._checker: Checker | None = None
        self._health_store = HealthStore(instance.state_name)
        self._followed: tuple[Config, Overrides] | None = None  # by the checker
        self._retry_s = 0.0
        self._next_pass = 0.0
        self._shown_drift = ""

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

    def look_around(self) -> None:
        """Look at the interfaces soon: something about some interface has changed."""
        if self._look_around_at is None:
            self._look_around_at = time.monotonic() + _INTERFACE_REST_S
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
        with ExitStack() as ends:
            watch = FileWatch(self.sources, self._wake.set)
            ends.callback(watch.stop)
            override_watch = FileWatch(Sources(self.instance.overrides.path), self._wake.set)
            ends.callback(override_watch.stop)
            ends.callback(InterfaceWatch(self.look_around).stop)
            self._checker = Checker(self._wake.set, self.recorder)
            self.recorder.measure_lag_s = self._checker.measure_lag_s
            ends.callback(self._checker.close)
            self._metrics = MetricsService(
                self.instance.name,
                self.instance.root,
                self.recorder,
                find_health=self._find_health,
            )
            ends.callback(self._metrics.close)
            self._stamp = self.sources.read_stamp()
            self._start_health(self._checker)
            self._start()
            ends.callback(self.notifier.say_stopping)
            self._look_at_file = True  # it may have changed before it was watched
            while not self._stopping:
                override_watch.refresh()
                self._turn(watch)

    def _start_health(self, checker: Checker) -> None:
        """Check the backends; until a check says otherwise they are as they were last."""
        self.instance.health.read, self.instance.health.speaks = checker.read, True
        checker.follow(self.config, self._health_store.read().standings)

    def _start(self) -> None:
        """Make the first pass; from then on interfaces may come and go."""
        begun_s = time.monotonic()
        outcome = self._reconcile(self.config)
        self._finish(self.config, outcome, time.monotonic() - begun_s)
        self.instance.bears_absence = True
        self.notifier.say_ready()
        return_freed()

    def _turn(self, watch: FileWatch) -> None:
        now = time.monotonic()
        self.notifier.say_alive()
        if self._checker:
            self._health_store.keep(self._checker.read(), time.time())
        watch.refresh()
        if self._is_file_ready(watch):
            with self.notifier.reloading():
                self._take_file()
            return_freed()
        elif now >= self._next_pass:
            self._pass(self._wanted)
        elif self._has_reason(now):
            self._pass_good()
        if not self._stopping:
            self._wake.wait(self._choose_wait_s())

    def _has_reason(self, now: float) -> bool:
        """Whether something beside the file asks for a pass."""
        if self._look_around_at is not None and now >= self._look_around_at:
            self._look_around_at = None
            if self.instance.have_interfaces_changed(self.config):
                return True
        now = time.time()
        return self.instance.overrides.have_changed(now) or self.instance.health.have_changed(now)

    def _choose_wait_s(self) -> float:
        now, at = time.monotonic(), time.time()
        until_pass = max(self._next_pass - now, 0.0)
        waiting_for_writer = self._look_at_file and not self._stopping
        poll_s = min(POLL_S, self._debounce_left_s()) if waiting_for_writer else POLL_S
        if self._look_around_at is not None:
            poll_s = min(poll_s, max(self._look_around_at - now, 0.0))
        instance = self.instance
        rest_s = min(instance.overrides.measure_rest_s(at), instance.health.measure_rest_s(at))
        return min(poll_s, until_pass, rest_s)

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

    # --- the file ---

    def _take_file(self) -> None:
        self._look_at_file = self._is_forced = False
        try:
            files = self.reader.read()
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
        self.account.forget_attempt()
        self._pass(config)

    def _parse(self, files: Files) -> Config:
        loaded = parse_files(files)
        config = loaded.config
        if config.name != self.config.name:
            raise XdplbError(
                f"{self.path}: name is {config.name}, this controller runs {self.config.name}",
                remedy="a new name is a new instance: start a controller of its own",
            )
        if files.known is None:
            self.reader.remember(loaded)
        return config

    def _reject(self, error: XdplbError, sha256: str) -> None:
        told = self.account.attempt
        if sha256 == self._file_sha256 and told and told.message == str(error):
            return
        self._file_sha256 = sha256
        self._wanted = self.config
        self.account.reject(error, sha256)

    # --- one pass ---

    def _pass(self, config: Config) -> None:
        begun_s = time.monotonic()
        try:
            outcome = self._reconcile(config)
        except XdplbError as error:
            self._fail(config, error, time.monotonic() - begun_s)
        except OSError as error:  # of the machine, and perhaps not for long
            self._fail(config, XdplbError(str(error)), time.monotonic() - begun_s)
        else:
            self._finish(config, outcome, time.monotonic() - begun_s)
            return
        if config is self.config:
            return
        if self.instance.overrides.taken != self._overrides:
            self._pass_good()
        else:
            self._keep_good()

    def _pass_good(self) -> None:
        """Put what is new on the last good configuration: a refused file does not hold it up."""
        due = self._next_pass
        self._pass(self.config)
        if self._wanted is not self.config:
            self._next_pass = min(self._next_pass, due)

    def _keep_good(self) -> None:
        """Heal, and end windows and drains: a file that is refused holds up neither."""
        begun_s = time.monotonic()
        try:
            outcome = self._reconcile(self.config)
        except (XdplbError, OSError) as error:
            self.account.fail_upkeep(error)
        else:
            self.account.note(outcome, time.monotonic() - begun_s)

    def _finish(self, config: Config, outcome: Outcome, took_s: float) -> None:
        self.config = config
        self._overrides = outcome.proposal.overrides
        self._follow_health()
        if self._metrics:
            self._metrics.follow(config)
        self._retry_s = 0.0
        self._next_pass = time.monotonic() + config.reconcile.resync_s
        is_newest = self._file_sha256 == config.sha256
        self.account.finish(config, outcome, is_newest=is_newest, took_s=took_s)

    def _follow_health(self) -> None:
        """Check the backends of what is in force, but for those in maint."""
        in_force = self.config, self._overrides
        if self._checker and self._followed != in_force:
            self._followed = in_force
            self._checker.follow(apply_overrides(*in_force), {})

    def _find_health(self) -> Health:
        """What the metrics tell of it, in their own thread."""
        standings = self._checker.read() if self._checker else {}
        return Health(standings, self.instance.health.taken.panics)

    def _fail(self, config: Config, error: XdplbError, took_s: float) -> None:
        """Keep the last good configuration in force, and try again later and later."""
        longest_s = min(_LAST_RETRY_S, config.reconcile.resync_s)
        self._retry_s = min(max(2 * self._retry_s, _FIRST_RETRY_S), longest_s)
        self._next_pass = time.monotonic() + self._retry_s
        self.instance.dataplane.close()
        self.account.fail(config, error, took_s)

    def _reconcile(self, config: Config) -> Outcome:
        return self.recorder.record_pass(lambda: self._make_pass(config), describe_outcome)

    def _make_pass(self, config: Config) -> Outcome:
        """Reconcile; with `heal: false`, drift is shown and left alone."""
        if not config.reconcile.heal:
            proposal = self.instance.propose(config)
            drift = [c.address for c in proposal.changes if c.reason == "drift"]
            if drift and len(drift) == len(proposal.changes):
                self._show_drift(drift)
                return Outcome(proposal)
        self._shown_drift = ""
        return self.instance.reconcile(config, allow_large_change=self.allows_large_change)

    def _show_drift(self, drift: list[str]) -> None:
        shown = ",".join(drift)
        if shown != self._shown_drift:
            self._shown_drift = shown
            log_event(logging.WARNING, drift=shown, heal=False)
