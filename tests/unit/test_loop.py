"""The controller's loop: when it looks, what it keeps, what it says."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from reconciler import account as account_module
from reconciler import history
from reconciler import loop as loop_module
from reconciler.account import describe_outcome
from reconciler.apply import Outcome
from reconciler.config_file import load
from reconciler.environment import imagine_environment
from reconciler.errors import Blocked, Unavailable, XdplbError
from reconciler.health import store as health_store
from reconciler.health.follower import HealthFollower
from reconciler.health.standing import Standing
from reconciler.loop import Loop
from reconciler.model import BackendState, Config
from reconciler.override_store import OverrideFollower, OverrideStore
from reconciler.overrides import BackendName, Override, apply_overrides, put_override
from reconciler.plan import step
from reconciler.proposal import Proposal, propose
from reconciler.status import ControllerStatus
from reconciler.tables import Tables, make_empty_tables

LIMITS = "limits: {ring_slots: 65537, backends: 64}\n"
TEXT = f"interface: eth0\nport: 80\n{LIMITS}backends: [10.0.0.1, 10.0.0.2]\n"
LONGER = TEXT.replace("10.0.0.2]", "10.0.0.2, 10.0.0.3]")
LONGEST = TEXT.replace("10.0.0.2]", "10.0.0.2, 10.0.0.3, 10.0.0.4]")
INVALID = TEXT.replace("port: 80", "port: none")
WATCHFUL = "reconcile: {heal: false}\n"


class FakeInstance:
    """An instance whose kernel is `step`; `errors` befall the next passes, None is none."""

    name = state_name = "default"

    def __init__(self, store: OverrideStore, clock: Clock) -> None:
        self.overrides, self.clock = OverrideFollower(store), clock
        self.standings: dict[BackendName, Standing] = {}
        self.health = HealthFollower(lambda: self.standings)
        self.tables: Tables = make_empty_tables(65_537)
        self.errors: list[XdplbError | None] = []
        self.passes: list[str] = []
        self.allowed: list[bool] = []
        self.closed = 0
        self.moved = self.bears_absence = False
        self.root = None
        self.dataplane = self

    def close(self) -> None:
        self.closed += 1

    def have_interfaces_changed(self, _config: Config) -> bool:
        return self.moved

    def propose(self, config: Config) -> Proposal:
        overrides = self.overrides.take(self.clock.now_s)
        machine = imagine_environment(config)
        judgement = self.health.take(apply_overrides(config, overrides), self.clock.now_s)
        return propose(
            *(config, machine, self.tables),
            now_ns=1,
            overrides=overrides,
            judgement=judgement,
        )

    def reconcile(self, config: Config, *, allow_large_change: bool = False) -> Outcome:
        self.passes.append(config.sha256)
        self.allowed.append(allow_large_change)
        proposal = self.propose(config)
        error = self.errors.pop(0) if self.errors else None
        if error:
            raise error
        if proposal.objection and not allow_large_change:
            raise Blocked(proposal.objection)
        self.tables = reduce(step, proposal.operations, self.tables)
        return Outcome(proposal, len(proposal.operations))


class FakeWatch:
    """A watch that has seen a change end, or has not."""

    def __init__(self) -> None:
        self.complete = False
        self.refreshed = 0

    def refresh(self) -> None:
        self.refreshed += 1

    def take_complete(self) -> bool:
        was, self.complete = self.complete, False
        return was


class FakeService:
    """Stands for what runs beside the loop: nobody's backends are asked from here."""

    def __init__(self, *_arguments: Any, **_options: Any) -> None:
        self.followed: list[Config] = []
        self.closed = False
        self.standings: dict[BackendName, Standing] = {}

    def follow(self, config: Config, *_known: Any) -> None:
        self.followed.append(config)

    def read(self) -> dict[BackendName, Standing]:
        return self.standings

    def measure_lag_s(self) -> float:
        return 0.0

    def close(self) -> None:
        self.closed = True

    stop = close


class Clock:
    """Stands in for the module `time`; the file's age is told apart."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.age_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def time(self) -> float:
        return self.now_s


class Bench:
    """A loop over a file in a folder, with everything around it faked."""

    def __init__(self, path: Path, clock: Clock, told: list[ControllerStatus]) -> None:
        self.path, self.clock, self.told = path, clock, told
        self.store = OverrideStore("default", path.parent / "run")
        self.instance, self.watch = FakeInstance(self.store, clock), FakeWatch()
        self.waits: list[float] = []

    def start(self, text: str = TEXT, **options: bool) -> Loop:
        """A loop that has made its first pass and has looked at its file."""
        self.write(text)
        self.loop = Loop(
            self.instance,  # type: ignore[arg-type]
            str(self.path),
            load(str(self.path)),
            **options,
        )
        self.loop._wake.wait = self._wait  # type: ignore[method-assign]
        self.loop._stamp = self.loop.sources.read_stamp()
        self.loop._start()
        self.instance.passes.clear()
        return self.loop

    def _wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        return False

    def write(self, text: str) -> None:
        """Put a whole file in place at once: another inode, so another stamp."""
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.replace(self.path)

    def turn(self, *, later_s: float = 0.0) -> None:
        self.clock.now_s += later_s
        self.loop._turn(self.watch)  # type: ignore[arg-type]

    @property
    def attempts(self) -> list[str]:
        return [status.last_attempt.result for status in self.told]


@pytest.fixture
def bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Bench:
    caplog.set_level(logging.WARNING, "xdplb")
    clock, told = Clock(), []
    monkeypatch.setattr(loop_module, "time", clock)
    monkeypatch.setattr(loop_module, "measure_age_s", lambda _stamp: clock.age_s)
    monkeypatch.setattr(account_module, "time", clock)
    for service in ("Checker", "MetricsService", "InterfaceWatch"):
        monkeypatch.setattr(loop_module, service, FakeService)
    monkeypatch.setattr(health_store, "RUN_ROOT", tmp_path / "run")
    monkeypatch.setattr(account_module, "read_status", lambda _name: None)
    monkeypatch.setattr(history, "HISTORY_ROOT", tmp_path / "lib")
    monkeypatch.setattr(account_module, "write_status", lambda _name, status: told.append(status))
    return Bench(tmp_path / "lb.yaml", clock, told)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# --- is the file ready? ---


@pytest.mark.parametrize(
    ("is_changed", "is_complete", "age_s", "is_ready"),
    [
        (False, False, 100.0, False),
        (False, True, 100.0, False),  # somebody else's file, or a touch that changed nothing
        (True, False, 0.0, False),  # may be half a file
        (True, False, 0.49, False),
        (True, False, 0.5, True),  # has rested for the debounce time
        (True, False, float("inf"), True),
        (True, True, 0.0, True),  # renamed into place, or closed by its writer
    ],
)
def test_a_file_is_ready_when_its_writer_is_done(
    bench: Bench, is_changed: bool, is_complete: bool, age_s: float, is_ready: bool
) -> None:
    loop = bench.start()
    if is_changed:
        bench.write(LONGER)
    bench.watch.complete, bench.clock.age_s = is_complete, age_s
    assert loop._is_file_ready(bench.watch) == is_ready  # type: ignore[arg-type]


def test_a_half_written_file_waits_and_is_not_forgotten(bench: Bench) -> None:
    bench.start()
    bench.write(LONGER[:20])
    bench.clock.age_s = 0.1
    bench.turn()
    assert bench.instance.passes == []
    assert bench.waits == [pytest.approx(0.4)]  # what is left of the debounce time
    bench.write(LONGER)
    bench.clock.age_s = 0.3
    bench.turn()
    assert bench.waits[1:] == [pytest.approx(0.2)]
    bench.clock.age_s = 0.5
    bench.turn()
    assert bench.instance.passes == [sha(LONGER)]
    assert bench.attempts[-1] == "applied"


def test_a_writer_that_goes_on_is_waited_for_with_no_event_at_all(bench: Bench) -> None:
    bench.start()
    bench.write(LONGER)
    bench.clock.age_s = 1.0
    bench.turn()
    assert bench.instance.passes == [sha(LONGER)]


@pytest.mark.parametrize("reload", [False, True])
def test_a_reload_makes_a_pass_changed_or_not(bench: Bench, reload: bool) -> None:
    loop = bench.start()
    if reload:
        loop.reload()
    bench.turn()
    assert bench.instance.passes == ([sha(TEXT)] if reload else [])


# --- what a look leads to ---


def test_a_file_that_says_the_same_makes_no_pass(bench: Bench) -> None:
    bench.start()
    bench.write(TEXT)
    bench.turn()
    assert bench.instance.passes == []


def test_a_changed_file_is_applied_and_told(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "xdplb")
    loop = bench.start()
    bench.write(LONGER)
    bench.turn()
    assert loop.config.sha256 == sha(LONGER)
    assert bench.told[-1].last_attempt == bench.told[-1].last_good
    assert bench.told[-1].last_attempt.sha256 == sha(LONGER)
    assert bench.told[-1].config_path == str(bench.path)
    assert caplog.messages[-1].startswith("reconcile=applied generation=2 changes=1 writes=")
    assert caplog.messages[-1].endswith(f"sha256={sha(LONGER)[:12]}")


def test_a_comment_is_taken_note_of_and_writes_nothing(bench: Bench) -> None:
    bench.start()
    before = bench.instance.tables
    bench.write(TEXT + "# hello\n")
    bench.turn()
    assert bench.instance.tables == before
    assert bench.attempts[-1] == "in_sync"
    assert bench.told[-1].last_good is not None
    assert bench.told[-1].last_good.sha256 == sha(TEXT + "# hello\n")


def spoil_invalid(bench: Bench) -> None:
    bench.write(INVALID)


def spoil_empty(bench: Bench) -> None:
    bench.write("")


def spoil_half(bench: Bench) -> None:
    bench.write(TEXT[:30])


def spoil_name(bench: Bench) -> None:
    bench.write("name: other\n" + TEXT)


def spoil_missing(bench: Bench) -> None:
    bench.path.unlink()


def spoil_kind(bench: Bench) -> None:
    bench.path.unlink()
    os.mkfifo(bench.path)  # to which nobody writes


SPOILERS = [spoil_invalid, spoil_empty, spoil_half, spoil_name, spoil_missing, spoil_kind]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_a_file_that_is_not_valid_changes_nothing_and_is_told_once(
    bench: Bench, caplog: pytest.LogCaptureFixture, spoil: Callable[[Bench], None]
) -> None:
    loop = bench.start()
    before = bench.instance.tables
    caplog.clear()
    spoil(bench)
    for _ in range(3):
        loop._look_at_file = True  # events come, the file stays
        bench.turn()
    assert bench.instance.passes == []
    assert bench.instance.tables is before
    assert loop.config.sha256 == sha(TEXT)
    rejected = [m for m in caplog.messages if m.startswith("config=rejected")]
    assert len(rejected) == 1
    assert rejected[0].startswith(f"config=rejected running={sha(TEXT)[:12]} reason=")
    result = "missing" if spoil in (spoil_missing, spoil_kind) else "rejected"
    assert bench.attempts == ["applied", result]
    assert bench.told[-1].last_good is not None
    assert bench.told[-1].last_good.sha256 == sha(TEXT)


def assert_resync_goes_on_and_says_so(bench: Bench, result: str) -> None:
    bench.turn(later_s=31)
    assert bench.instance.passes == [sha(TEXT)]
    assert bench.attempts[-1] == result
    good = bench.told[-1].last_good
    assert good is not None
    assert (good.result, good.sha256, good.at) == ("in_sync", sha(TEXT), bench.clock.now_s)


@pytest.mark.parametrize("spoil", SPOILERS[:-2])
def test_beside_a_rejected_file_the_last_good_one_is_kept_up(
    bench: Bench, spoil: Callable[[Bench], None]
) -> None:
    bench.start()
    spoil(bench)
    bench.turn()
    assert_resync_goes_on_and_says_so(bench, "rejected")


def test_beside_a_missing_file_the_last_good_one_is_kept_up(bench: Bench) -> None:
    bench.start()
    bench.path.unlink()
    bench.turn()
    assert_resync_goes_on_and_says_so(bench, "missing")


def test_a_reload_of_a_missing_file_says_so(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    loop = bench.start()
    bench.path.unlink()
    loop.reload()
    bench.turn()
    assert [m[:15] for m in caplog.messages] == ["config=rejected"]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_the_good_file_comes_back(bench: Bench, spoil: Callable[[Bench], None]) -> None:
    bench.start()
    spoil(bench)
    bench.turn()
    bench.write(TEXT)
    bench.turn()
    assert bench.instance.passes == [sha(TEXT)]
    assert bench.attempts[-1] == "in_sync"


def test_problems_are_logged_with_their_places(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.start()
    bench.write(INVALID)
    bench.turn()
    assert caplog.messages[-1].startswith(f"at={bench.path}:2:7 code=XLB2")
    assert "\n" not in "".join(caplog.messages)


# --- included files ---

MAIN = f"interface: eth0\ninclude: [conf.d/*.yaml]\n{LIMITS}"
WEB = "services:\n  - {name: web, vip: 192.0.2.1, port: 80, ring_size: 251, backends: [10.0.0.1]}\n"
DNS = WEB.replace("web", "dns").replace("192.0.2.1", "192.0.2.2")


@pytest.fixture
def including(bench: Bench) -> Bench:
    """A loop that has read a file and the one that it includes."""
    write_included(bench, "web", WEB)
    bench.start(MAIN)
    bench.loop.reload()
    bench.turn()
    bench.turn()  # now it knows which files there are
    bench.instance.passes.clear()
    bench.told.clear()
    return bench


def write_included(bench: Bench, name: str, text: str) -> None:
    folder = bench.path.parent / "conf.d"
    folder.mkdir(exist_ok=True)
    new = folder / f"{name}.new"
    new.write_text(text)
    new.replace(folder / f"{name}.yaml")


def find_services(bench: Bench) -> set[str]:
    return {info.name for info in bench.instance.tables.service_info.values()}


def test_an_included_file_is_edited_added_and_removed(including: Bench) -> None:
    write_included(including, "dns", DNS)
    including.turn()
    assert find_services(including) == {"web", "dns"}
    write_included(including, "web", WEB.replace("10.0.0.1]", "10.0.0.1, 10.0.0.2]"))
    including.turn()
    assert len(including.instance.tables.backends) == 3
    (including.path.parent / "conf.d" / "web.yaml").unlink()
    including.turn()
    assert find_services(including) == {"dns"}
    assert including.attempts == ["applied"] * 3
    assert len(set(including.instance.passes)) == 3  # each set of files has a digest of its own


def test_the_file_stops_and_starts_to_include(including: Bench) -> None:
    including.write(MAIN.replace("include: [conf.d/*.yaml]", "") + DNS)
    including.turn()
    assert find_services(including) == {"dns"}
    including.turn()
    write_included(including, "web", WEB + "# more\n")
    including.turn()
    assert len(including.instance.passes) == 1  # it is nobody's any more
    including.write(MAIN)
    including.turn()
    assert find_services(including) == {"web"}


def test_a_half_written_included_file_is_waited_for(including: Bench) -> None:
    write_included(including, "dns", DNS[:20])
    including.watch.complete = False
    including.clock.age_s = 0.1
    including.turn()
    assert including.told == []
    write_included(including, "dns", DNS)
    including.clock.age_s = 0.5
    including.turn()
    assert including.attempts == ["applied"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "web.yaml").write_text("services:\n"),
        lambda folder: (folder / "web.yaml").write_text(""),
        lambda folder: (folder / "dns.yaml").write_text(WEB),
        lambda folder: (folder / "dns.yaml").mkdir(),
        lambda folder: (folder / "dns.yaml").symlink_to("nowhere"),
        lambda folder: (folder / "web.yaml").unlink(),  # it was the only service
        lambda folder: folder.rename(folder.with_name("conf.old")),
    ],
)
def test_an_included_file_that_is_no_good_changes_nothing_and_is_told_once(
    including: Bench, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], Any]
) -> None:
    before = including.instance.tables
    spoil(including.path.parent / "conf.d")
    for _ in range(3):
        including.loop._look_at_file = True
        including.turn()
    assert including.attempts == ["rejected"]
    assert including.instance.tables is before
    assert len([m for m in caplog.messages if m.startswith("config=rejected")]) == 1


def test_problems_of_included_files_are_logged_with_their_places(
    including: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    write_included(including, "dns", DNS.replace("port: 80", "port: none"))
    including.turn()
    place = including.path.parent / "conf.d" / "dns.yaml:2:39"
    assert caplog.messages[-1].startswith(f"at={place} code=XLB203")


def test_a_link_that_led_nowhere_is_taken_when_it_leads_somewhere(including: Bench) -> None:
    folder = including.path.parent / "conf.d"
    (folder / "dns.yaml").symlink_to("../dns.text")
    including.turn()
    (including.path.parent / "dns.text").write_text(DNS)
    including.turn()
    assert including.attempts == ["rejected", "applied"]
    assert find_services(including) == {"web", "dns"}


# --- time goes by ---


def test_a_resync_comes_in_its_time(bench: Bench) -> None:
    bench.start()
    bench.turn(later_s=29.9)
    assert bench.instance.passes == []
    assert bench.waits[-1] == pytest.approx(0.1)  # not a whole poll
    bench.turn(later_s=0.1)
    assert bench.instance.passes == [sha(TEXT)]
    assert bench.waits[-1] == 1.0
    assert bench.watch.refreshed == 2


def test_drift_is_healed_by_a_resync(bench: Bench) -> None:
    bench.start()
    good = bench.instance.tables
    bench.instance.tables = replace(good, nat_replies={})
    bench.turn(later_s=30)
    assert bench.instance.tables.nat_replies == good.nat_replies
    assert bench.attempts[-1] == "applied"


def test_without_heal_drift_is_shown_once_and_left_alone(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.start(WATCHFUL + TEXT)
    bench.instance.tables = replace(bench.instance.tables, settings={})
    spoilt = bench.instance.tables
    for _ in range(3):
        bench.turn(later_s=30)
    assert bench.instance.tables is spoilt
    assert bench.instance.passes == []
    assert bench.attempts[-1] == "drifted"
    assert caplog.messages == ["drift=settings heal=false"]


def test_without_heal_a_changed_file_is_applied(bench: Bench) -> None:
    bench.start(WATCHFUL + TEXT)
    bench.write(WATCHFUL + LONGER)
    bench.turn()
    assert bench.attempts[-1] == "applied"
    assert len(bench.instance.tables.backends) == 3


def test_without_heal_a_comment_does_not_make_drift_a_change(bench: Bench) -> None:
    bench.start(WATCHFUL + TEXT)
    bench.instance.tables = replace(bench.instance.tables, settings={})
    bench.write(WATCHFUL + TEXT + "# hello\n")
    bench.turn()
    assert bench.instance.tables.settings == {}
    assert bench.attempts[-1] == "drifted"


def test_drift_that_was_mended_and_comes_again_is_shown_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.start(WATCHFUL + TEXT)
    good = bench.instance.tables
    for tables in (replace(good, settings={}), good, replace(good, settings={})):
        bench.instance.tables = tables
        bench.turn(later_s=30)
    assert caplog.messages == ["drift=settings heal=false"] * 2


# --- failures ---


def test_a_failed_file_is_tried_again_later_and_later(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    loop = bench.start()
    caplog.clear()
    bench.instance.errors = [Unavailable("there is no interface eth1"), None] * 7
    bench.write(LONGER)
    bench.turn()
    assert loop.config.sha256 == sha(TEXT)  # the last good one is in force
    assert bench.attempts[-1] == "failed"
    gaps = []
    for _ in range(6):
        gaps.append(loop._next_pass - bench.clock.now_s)
        bench.turn(later_s=gaps[-1])
    assert gaps == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0]
    assert bench.instance.passes == [sha(LONGER), sha(TEXT)] * 7
    assert bench.instance.closed == 7
    assert len([m for m in caplog.messages if m.startswith("reconcile=failed")]) == 1
    bench.turn(later_s=30)
    assert bench.attempts[-1] == "applied"
    assert loop.config.sha256 == sha(LONGER)
    assert loop._next_pass - bench.clock.now_s == 30.0
    # The next trouble starts from the shortest wait again.
    bench.instance.errors = [Unavailable("again")]
    bench.turn(later_s=30)
    assert loop._next_pass - bench.clock.now_s == 1.0


def test_a_failure_of_another_kind_is_logged_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.start()
    caplog.clear()
    bench.instance.errors = [Unavailable("one"), None, Unavailable("two"), None, Unavailable("two")]
    bench.write(LONGER)
    for _ in range(3):
        bench.turn(later_s=30)
    assert caplog.messages == [
        f'reconcile=failed code=UNAVAILABLE running={sha(TEXT)[:12]} reason="{word}"'
        for word in ("one", "two")
    ]


def test_a_blocked_change_is_told_as_such(bench: Bench) -> None:
    bench.start()
    bench.instance.errors = [Blocked("too much at once")]
    bench.write(LONGER)
    bench.turn()
    assert bench.attempts[-1] == "blocked"
    assert bench.told[-1].last_good is not None
    assert bench.told[-1].last_good.sha256 == sha(TEXT)


def test_a_newer_file_takes_the_place_of_a_failed_one(bench: Bench) -> None:
    bench.start()
    bench.instance.errors = [Unavailable("not yet")]
    bench.write(LONGER)
    bench.turn()
    bench.write(LONGEST)
    bench.turn()
    assert bench.instance.passes == [sha(LONGER), sha(TEXT), sha(LONGEST)]
    assert bench.attempts[-1] == "applied"


def test_after_a_failed_file_an_invalid_one_goes_back_to_the_last_good(bench: Bench) -> None:
    bench.start()
    bench.instance.errors = [Unavailable("not yet")]
    bench.write(LONGER)
    bench.turn()
    bench.write(INVALID)
    bench.turn()
    bench.turn(later_s=30)
    assert bench.instance.passes == [sha(LONGER), sha(TEXT), sha(TEXT)]


def test_a_file_that_is_refused_holds_up_no_upkeep(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Windows end, removed backends leave and drift is healed by the last good file."""
    loop = bench.start()
    untouched = bench.instance.tables
    bench.instance.tables = replace(untouched, backends={})
    bench.instance.errors = [Blocked("too much at once")]
    bench.write(LONGER)
    bench.turn()
    assert bench.instance.passes == [sha(LONGER), sha(TEXT)]
    assert bench.instance.tables.backends.keys() == untouched.backends.keys()
    assert (bench.attempts[-1], loop.config.sha256) == ("blocked", sha(TEXT))
    bench.instance.errors = [Blocked("too much at once"), Unavailable("no")]
    bench.turn(later_s=1)
    assert caplog.messages[-1] == f'upkeep=failed running={sha(TEXT)[:12]} reason="no"'


def test_a_status_that_can_not_be_written_stops_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    bench.start()
    monkeypatch.setattr(account_module, "write_status", refuse)
    bench.write(LONGER)
    bench.turn()
    assert bench.instance.passes == [sha(LONGER)]
    assert caplog.messages[0].startswith("status=unwritten reason=")


@pytest.mark.parametrize("allowed", [False, True])
def test_a_large_change_is_allowed_if_said(bench: Bench, allowed: bool) -> None:
    bench.start(allow_large_change=allowed)
    assert bench.instance.allowed == [allowed]


# --- from start to stop ---


def test_it_runs_until_it_is_stopped(bench: Bench) -> None:
    bench.write(TEXT)
    loop = Loop(bench.instance, str(bench.path), load(str(bench.path)))  # type: ignore[arg-type]
    bench.write(LONGER)  # between being read and being watched
    reconcile = bench.instance.reconcile

    def stop_after_two(config: Config, *, allow_large_change: bool = False) -> Outcome:
        outcome = reconcile(config, allow_large_change=allow_large_change)
        if len(bench.instance.passes) == 2:
            loop.stop()
        return outcome

    bench.instance.reconcile = stop_after_two  # type: ignore[method-assign]
    loop.run()
    assert bench.instance.passes == [sha(TEXT), sha(LONGER)]


def test_a_first_pass_that_fails_is_the_callers(bench: Bench) -> None:
    bench.write(TEXT)
    loop = Loop(bench.instance, str(bench.path), load(str(bench.path)))  # type: ignore[arg-type]
    bench.instance.errors = [Unavailable("no interface")]
    with pytest.raises(Unavailable):
        loop.run()


# --- overrides ---


def override(bench: Bench, number: int, state: BackendState, until: float | None = None) -> None:
    """Do what `xdplb drain` does to the store."""
    made = Override("default", f"10.0.0.{number}:80", state, "alice", "why", 1.0, until)
    bench.store.change(lambda kept: put_override(kept, made), bench.clock.now_s)


def states(bench: Bench) -> dict[str, str]:
    """The state of each backend in the kernel, by the end of its address."""
    return {
        str(row.address).rpartition(".")[2]: row.state.name.lower()
        for row in bench.instance.tables.backends.values()
    }


def test_an_override_makes_a_pass(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "xdplb")
    bench.start()
    bench.turn()
    assert bench.instance.passes == []
    override(bench, 1, BackendState.DRAIN)
    bench.turn()
    assert states(bench) == {"1": "drain", "2": "ready"}
    assert bench.instance.passes == [sha(TEXT)]
    assert (
        'override=on backend=default/10.0.0.1:80 state=drain owner=alice until=- reason="why"'
        in caplog.messages
    )
    bench.turn()
    assert bench.instance.passes == [sha(TEXT)]


def test_an_override_ends_in_time(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "xdplb")
    bench.start()
    override(bench, 1, BackendState.MAINT, until=bench.clock.now_s + 0.25)
    bench.turn()
    assert states(bench)["1"] == "maint"
    assert bench.waits[-1] == pytest.approx(0.25)
    bench.turn(later_s=0.2)
    assert states(bench)["1"] == "maint"
    bench.turn(later_s=0.05)
    assert states(bench)["1"] == "ready"
    assert len(bench.instance.passes) == 2
    assert [m.split()[0] for m in caplog.messages if m.startswith("override=")] == [
        "override=on",
        "override=off",
    ]


def test_overrides_stay_through_a_change_of_the_file(bench: Bench) -> None:
    bench.start()
    override(bench, 1, BackendState.DRAIN)
    bench.write(LONGER)
    bench.turn()
    assert states(bench) == {"1": "drain", "2": "ready", "3": "ready"}


def test_a_refused_file_holds_no_override_up(bench: Bench) -> None:
    loop = bench.start(LONGEST)
    bench.write(TEXT)  # takes two of four away
    bench.turn()
    assert bench.attempts[-1] == "blocked"
    retry = loop._next_pass
    override(bench, 1, BackendState.DRAIN)
    bench.turn()
    assert states(bench) == {"1": "drain", "2": "ready", "3": "ready", "4": "ready"}
    assert bench.attempts[-1] == "blocked"
    assert loop._next_pass == retry
    # Nor does one that comes while the file is tried again.
    override(bench, 2, BackendState.MAINT)
    bench.turn(later_s=retry - bench.clock.now_s)
    assert states(bench) == {"1": "drain", "2": "maint", "3": "ready", "4": "ready"}
    assert loop.config.sha256 == sha(LONGEST)


def test_an_override_that_fails_is_tried_again_later(bench: Bench) -> None:
    loop = bench.start()
    bench.instance.errors = [Unavailable("no interface")]
    override(bench, 1, BackendState.DRAIN)
    bench.turn()
    assert states(bench)["1"] == "ready"
    assert loop._next_pass - bench.clock.now_s == 1.0
    bench.turn(later_s=0.5)
    assert len(bench.instance.passes) == 1
    bench.turn(later_s=0.5)
    assert states(bench)["1"] == "drain"


def test_overrides_that_can_not_be_read_stay_as_they_are(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.start()
    override(bench, 1, BackendState.DRAIN)
    bench.turn()
    caplog.clear()
    bench.store.path.write_text("{")
    for _ in range(3):
        bench.turn(later_s=31)
    assert states(bench)["1"] == "drain"
    (message,) = caplog.messages
    assert message.startswith("overrides=unreadable kept=1 reason=")
    bench.store.path.unlink()
    bench.turn()
    assert states(bench)["1"] == "ready"


def test_a_controller_does_not_start_without_knowing_the_overrides(bench: Bench) -> None:
    bench.store.path.parent.mkdir(parents=True)
    bench.store.path.write_text("{")
    with pytest.raises(XdplbError, match="can't be read"):
        bench.start()


def test_without_heal_an_override_is_put_on_and_taken_off(bench: Bench) -> None:
    bench.start(WATCHFUL + TEXT)
    override(bench, 1, BackendState.DRAIN, until=bench.clock.now_s + 5)
    bench.turn()
    assert states(bench)["1"] == "drain"
    bench.turn(later_s=6)
    assert states(bench)["1"] == "ready"


# --- what a service manager hears ---


class FakeNotifier:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say_ready(self) -> None:
        self.said.append("ready")

    def say_alive(self) -> None:
        self.said.append("alive")

    def say_stopping(self) -> None:
        self.said.append("stopping")

    def say_status(self, words: str) -> None:
        self.said.append(words)

    @contextmanager
    def reloading(self) -> Iterator[None]:
        self.said.append("reloading")
        yield
        self.said.append("ready")


GOOD_STATUS = "generation 1, 1 service, 2 backends: applied"


@pytest.fixture
def notifier(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> FakeNotifier:
    one = FakeNotifier()
    monkeypatch.setattr(loop_module, "Notifier", lambda _environment: one)
    return one


def test_it_is_ready_after_the_first_pass_and_stops_at_the_end(
    bench: Bench, notifier: FakeNotifier
) -> None:
    bench.write(TEXT)
    loop = Loop(bench.instance, str(bench.path), load(str(bench.path)))  # type: ignore[arg-type]
    loop.stop()
    loop.run()
    assert notifier.said == [GOOD_STATUS, "ready", "stopping"]


def test_a_first_pass_that_fails_is_never_ready(bench: Bench, notifier: FakeNotifier) -> None:
    bench.write(TEXT)
    loop = Loop(bench.instance, str(bench.path), load(str(bench.path)))  # type: ignore[arg-type]
    bench.instance.errors = [Unavailable("no interface")]
    with pytest.raises(Unavailable):
        loop.run()
    assert notifier.said == []


def test_every_turn_is_a_sign_of_life(bench: Bench, notifier: FakeNotifier) -> None:
    bench.start()
    notifier.said.clear()
    bench.turn()
    assert notifier.said == ["alive"]


def test_taking_a_file_is_reloading_whatever_comes_of_it(
    bench: Bench, notifier: FakeNotifier
) -> None:
    bench.start()
    for text, status in [
        (LONGER, "generation 2, 1 service, 3 backends: applied"),
        (LONGER, None),
        (
            INVALID,
            f"generation 2, 1 service, 3 backends, REJECTED is a newer file: {bench.path}"
            " is not valid: 1 error",
        ),
    ]:
        notifier.said.clear()
        bench.write(text)
        bench.turn()
        told = [status] if status else []
        assert notifier.said == ["alive", "reloading", *told, "ready"]


# --- words ---


def test_outcomes_have_a_word() -> None:
    class Settled:
        is_in_sync = True
        changes = ()

    class Changed:
        is_in_sync = False
        changes = (1,)

    assert describe_outcome(Outcome(Settled(), 5)) == "in_sync"  # type: ignore[arg-type]
    assert describe_outcome(Outcome(Changed(), 5)) == "applied"  # type: ignore[arg-type]
    assert describe_outcome(Outcome(Changed(), 0)) == "drifted"  # type: ignore[arg-type]
