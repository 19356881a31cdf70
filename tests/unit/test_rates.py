"""How fast counters grow, between two surveys."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler import abi
from reconciler.rates import Rate, compute_rates
from reconciler.survey import Survey, compose_survey
from reconciler.tables import Tables

from ..surveys import NOW_NS, compile_text, make_findings

SECONDS = 2


def find_id(tables: Tables, name: str) -> int:
    return next(i for i, info in tables.backend_info.items() if info.name == name)


def count(later_s: float = SECONDS, verdicts: int = 0, **backends: tuple[int, ...]) -> Survey:
    """A survey some seconds later, in which the named backends have these counters."""
    tables = compile_text()
    findings = make_findings(tables=tables)
    for name, counters in backends.items():
        findings.backend_stats[find_id(tables, name)] = counters
    counted = findings.verdicts * 0 + verdicts
    now_ns = NOW_NS + int(later_s * 1e9)
    return compose_survey(replace(findings, now_ns=now_ns, verdicts=counted.astype("u8")))


def test_nothing_to_compare_with_has_no_rates() -> None:
    assert compute_rates(None, count()) is None
    assert compute_rates(count(), count()) is None
    assert compute_rates(count(later_s=3), count(later_s=2)) is None


def test_rates_of_backends_and_services() -> None:
    before = count(0, a=(10, 1_000, 5, 3, 300), b=(0, 0, 0, 0, 0), c=(0, 0, 0, 0, 0))
    after = count(a=(30, 3_000, 11, 5, 500), b=(40, 4_000, 2, 0, 0), c=(0, 0, 0, 0, 0))
    rates = compute_rates(before, after)
    assert rates is not None
    assert rates.seconds == SECONDS
    assert rates.backends["web", "a"] == Rate(10, 8_000, 3, 1, 800)
    assert rates.backends["web", "b"] == Rate(20, 16_000, 1, 0, 0)
    assert rates.services["web"] == Rate(30, 24_000, 4, 1, 800)
    assert rates.find_share("web", "a") == 0.75
    assert rates.find_share("web", "c") == 0.0


def test_without_new_flows_there_is_no_share_of_them() -> None:
    rates = compute_rates(count(0), count())
    assert rates is not None
    assert rates.find_share("web", "a") is None
    assert set(rates.backends.values()) == {Rate()}


def test_a_counter_that_began_anew_counts_from_nothing() -> None:
    rates = compute_rates(count(0, a=(100, 9, 9, 9, 9)), count(a=(8, 10, 0, 0, 0)))
    assert rates is not None
    assert rates.backends["web", "a"] == Rate(4, 40, 0, 0, 0)


def test_a_backend_that_came_has_counted_since() -> None:
    after = count(a=(8, 0, 2, 0, 0), b=(0, 0, 0, 0, 0), c=(0, 0, 0, 0, 0))
    before = replace(
        after,
        now_ns=NOW_NS,
        services=tuple(
            one._replace(backends=tuple(b for b in one.backends if b.name != "a"))
            for one in after.services
        ),
    )
    rates = compute_rates(before, after)
    assert rates is not None
    assert rates.backends["web", "a"] == Rate(4, 0, 1, 0, 0)
    back = compute_rates(replace(after, now_ns=NOW_NS), replace(before, now_ns=after.now_ns))
    assert back is not None
    assert ("web", "a") not in back.backends


def test_a_service_without_backends_rests() -> None:
    after = count()
    bare = replace(after, services=tuple(one._replace(backends=()) for one in after.services))
    rates = compute_rates(replace(bare, now_ns=NOW_NS), bare)
    assert rates is not None
    assert rates.services["web"] == Rate()


@pytest.mark.parametrize(("before", "after", "rate"), [(4, 10, 3), (10, 4, 2), (5, 5, 0)])
def test_verdicts(before: int, after: int, rate: float) -> None:
    rates: Any = compute_rates(count(0, verdicts=before), count(verdicts=after))
    assert rates.verdicts == {verdict.name.lower(): rate for verdict in abi.Verdict}
