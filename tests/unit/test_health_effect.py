"""What health does to a configuration, with a clock that is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.config import parse
from reconciler.health.effect import (
    NO_JUDGEMENT,
    RAMP_STEPS,
    apply_health,
    judge_services,
    measure_weights,
)
from reconciler.health.standing import Standing
from reconciler.maglev import share_slots
from reconciler.model import BackendState, Config, Service

FOUR = "[{name: a, address: 10.0.0.1}, 10.0.0.2, 10.0.0.3, 10.0.0.4]"
DOWN = Standing(is_up=False, since=5.0, streak=0, detail="refused", transitions=1)
UP = Standing(is_up=True, since=5.0, streak=0, detail="", transitions=0)
BACK = replace(UP, since=100.0, transitions=2)


def read(more: str = "", backends: str = FOUR) -> Config:
    parsed = parse(f"interface: e\nport: 80\nbackends: {backends}\n{more}".encode(), "lb.yaml")
    assert parsed.config, parsed.diagnostics
    return parsed.config


def judge(config: Config, now: float = 10.0, **standings: Standing):  # type: ignore[no-untyped-def]
    """Judge a, b, c and d."""
    names = [backend.name for backend in config.services[0].backends]
    by_letter = dict(zip("bcda", names, strict=False))
    known = {("default", by_letter[letter]): each for letter, each in standings.items()}
    return judge_services(config, known, now)


def the_service(config: Config) -> Service:
    return config.services[0]


def test_nobody_is_withheld_from_without_a_reason() -> None:
    config = read()
    assert judge(config) == replace(NO_JUDGEMENT, checked=4)
    assert apply_health(config, judge(config, a=UP)) is config


def test_one_that_is_down_gets_nothing() -> None:
    config = read()
    judgement = judge(config, a=DOWN)
    assert judgement.withheld == {("default", "a"): 100}
    assert judgement.down == {("default", "a")}
    after = the_service(apply_health(config, judgement))
    assert [b.name for b in after.backends if b.is_down] == ["a"]
    assert "a" not in measure_weights(after.backends)
    assert set(measure_weights(after.backends).values()) == {100}


@pytest.mark.parametrize(
    ("percent", "down", "panics"),
    [
        (50, "ab", False),  # half are up
        (50, "abc", True),
        (50, "abcd", True),
        (51, "ab", True),
        (0, "abcd", False),  # as asked: nobody gets anything
        (100, "a", True),
        (25, "abc", False),
    ],
)
def test_panic(percent: int, down: str, panics: bool) -> None:
    config = read(f"safety: {{min_up_percent: {percent}}}\n")
    judgement = judge(config, **dict.fromkeys(down, DOWN))
    assert judgement.panics == ({"default"} if panics else set())
    assert len(judgement.down) == len(down)  # told all the same
    after = the_service(apply_health(config, judgement))
    assert len(measure_weights(after.backends)) == (4 if panics else 4 - len(down))


def test_only_those_that_take_flows_count_for_a_panic() -> None:
    backends = FOUR.replace("10.0.0.2", "{address: 10.0.0.2, state: drain}")
    backends = backends.replace("10.0.0.3", "{address: 10.0.0.3, weight: 0}")
    config = read("safety: {min_up_percent: 50}\n", backends)
    # Of two that take flows one is up.
    assert judge(config, a=DOWN).panics == frozenset()
    assert judge(config, a=DOWN, d=DOWN).panics == {"default"}


def test_a_service_without_checks_is_left_alone() -> None:
    config = read("health: {type: none}\n")
    assert judge(config, a=DOWN) == NO_JUDGEMENT


def test_one_that_comes_up_again_starts_slowly() -> None:
    config = read("slow_start: 60s\n")
    steps = []
    now: float | None = BACK.since
    while now is not None:
        judgement = judge(config, now, a=BACK)
        steps.append((now, 100 - judgement.withheld.get(("default", "a"), 0)))
        assert judgement.next_step is None or judgement.next_step > now
        now = judgement.next_step
    assert steps == [(100 + 6.0 * part, 10 * (part + 1)) for part in range(RAMP_STEPS)]


def test_its_slots_grow_with_it_and_nobody_else_pays_for_rounding() -> None:
    one = "[{name: a, address: 10.0.0.1, weight: 1}, {name: b, address: 10.0.0.2, weight: 1}]"
    config = read("slow_start: 10s\n", one)
    shares = []
    for now in range(100, 110):
        judgement = judge_services(config, {("default", "a"): BACK}, float(now))
        weights = measure_weights(the_service(apply_health(config, judgement)).backends)
        shares.append(share_slots(weights, 65_537)["a"] / 65_537)
    assert shares == pytest.approx(
        [part / (part + 1) for part in (n / 10 for n in range(1, 11))], abs=1e-4
    )


@pytest.mark.parametrize("standing", [UP, replace(BACK, since=0.0), replace(BACK, since=-1e9)])
def test_whoever_was_never_down_or_long_ago_has_its_whole_weight(standing: Standing) -> None:
    assert not judge(read("slow_start: 5s\n"), a=standing).withheld


def test_a_clock_that_was_set_back_starts_anew() -> None:
    assert judge(read("slow_start: 10s\n"), 50.0, a=BACK).withheld == {("default", "a"): 90}


def test_the_largest_weights_have_no_larger_unit() -> None:
    config = read("slow_start: 10s\n", "[{name: a, address: 10.0.0.1, weight: 65535}, 10.0.0.2]")
    judgement = judge_services(config, {("default", "a"): BACK}, 104.0)
    assert measure_weights(the_service(apply_health(config, judgement)).backends) == {
        "a": 32_767,
        "10.0.0.2:80": 100,
    }


def test_a_backend_in_drain_is_not_taking() -> None:
    config = read("", FOUR.replace("10.0.0.2", "{address: 10.0.0.2, state: drain}"))
    backends = the_service(config).backends
    assert [b.name for b in backends if b.state is BackendState.DRAIN] == ["10.0.0.2:80"]
    assert "10.0.0.2:80" not in measure_weights(backends)
