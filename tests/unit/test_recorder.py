"""What the controller tells of its passes."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from reconciler.errors import Blocked, RolledBack, Unavailable, XdplbError
from reconciler.metrics.recorder import BOUNDS_S, RESULTS, Recorder
from reconciler.proposal import RingChange


def make_outcome(writes: int = 1, reasons: tuple[str, ...] = ()) -> Any:
    rings = (RingChange("web", 251, 30, 20), RingChange("dns", 251, 0, 0))
    changes = tuple(SimpleNamespace(reason=reason) for reason in reasons)
    return SimpleNamespace(writes=writes, proposal=SimpleNamespace(rings=rings, changes=changes))


def describe(_outcome: Any) -> str:
    return "applied"


def test_every_usual_result_is_there_before_it_happens() -> None:
    facts = Recorder().list_facts()
    assert facts.passes == dict.fromkeys(RESULTS, 0)
    assert facts.checks == {"passed": 0, "failed": 0, "impossible": 0}
    assert facts.transitions == {"up": 0, "down": 0}
    assert sum(facts.durations.counts) == 0


def test_a_pass_is_counted_with_what_it_moved() -> None:
    recorder, outcome = Recorder(), make_outcome()
    assert recorder.record_pass(lambda: outcome, describe) is outcome
    recorder.record_pass(lambda: outcome, describe)
    facts = recorder.list_facts()
    assert facts.passes["applied"] == 2
    assert facts.slots_moved == {"web": 60, "dns": 0}
    assert sum(facts.durations.counts) == 2


def test_a_pass_that_wrote_nothing_moved_nothing() -> None:
    recorder = Recorder()
    recorder.record_pass(lambda: make_outcome(writes=0, reasons=("drift",)), lambda _: "drifted")
    facts = recorder.list_facts()
    assert (facts.passes["drifted"], facts.slots_moved) == (1, {})


def test_drift_is_that_of_the_last_pass_and_of_all() -> None:
    recorder = Recorder()
    for reasons in (("drift", "config", "drift"), ("drift",), ()):
        recorder.record_pass(lambda reasons=reasons: make_outcome(reasons=reasons), describe)  # type: ignore[misc]
    facts = recorder.list_facts()
    assert (facts.drift, facts.drift_found) == (0, 3)


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (Blocked("no"), "blocked"),
        (RolledBack("no"), "rolled_back"),
        (Unavailable("no"), "unavailable"),
        (XdplbError("no"), "failed"),
        (OSError("no"), "failed"),
    ],
)
def test_a_pass_that_fails_is_counted_and_its_error_goes_on(error: Exception, result: str) -> None:
    recorder = Recorder()

    def fail() -> Any:
        raise error

    with pytest.raises(type(error)):
        recorder.record_pass(fail, describe)
    facts = recorder.list_facts()
    assert {name: n for name, n in facts.passes.items() if n} == {result: 1}
    assert sum(facts.durations.counts) == 1


def test_durations_fall_into_the_bucket_whose_bound_they_reach() -> None:
    recorder = Recorder()
    for duration_s in (0.0, BOUNDS_S[0], BOUNDS_S[0] + 0.001, BOUNDS_S[-1] + 1):
        recorder.count_pass("applied", duration_s)
    durations = recorder.list_facts().durations
    assert (durations.counts[0], durations.counts[1], durations.counts[-1]) == (2, 1, 1)
    assert durations.total_s == pytest.approx(2 * BOUNDS_S[0] + 0.001 + BOUNDS_S[-1] + 1)


def test_facts_stay_as_they_were_asked_for() -> None:
    recorder = Recorder()
    before = recorder.list_facts()
    recorder.count_check("failed")
    recorder.count_transition(is_up=False)
    assert before.checks["failed"] == before.transitions["down"] == 0
    after = recorder.list_facts()
    assert (after.checks["failed"], after.transitions["down"]) == (1, 1)


def test_threads_lose_nothing() -> None:
    recorder = Recorder()

    def count() -> None:
        for _ in range(2_000):
            recorder.count_pass("applied", 0.0)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    facts = recorder.list_facts()
    assert facts.passes["applied"] == facts.durations.counts[0] == 8_000
