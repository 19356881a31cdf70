"""Laws of `reconciler.health.standing`: consecutive results decide, and nothing else does."""

from functools import reduce
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from reconciler.health.standing import Result, Standing, judge
from reconciler.model import Health

outcomes = st.lists(st.booleans(), max_size=60)
healths = st.builds(Health, rise=st.integers(1, 5), fall=st.integers(1, 5))
standings = st.none() | st.builds(
    Standing,
    is_up=st.booleans(),
    since=st.floats(0, 1e9),
    streak=st.just(0),
    detail=st.just(""),
    transitions=st.integers(0, 9),
)


def follow(standing: Standing | None, results: list[bool], health: Health) -> list[Standing]:
    """The standing after each result, one a second."""
    after = []
    for second, is_ok in enumerate(results):
        standing = judge(standing, Result(is_ok, str(is_ok), 0.1), health, 2e9 + second)
        after.append(standing)
    return after


def count_last(results: list[bool]) -> int:
    """How many results at the end are the same."""
    return next(
        (n for n, is_ok in enumerate(reversed(results)) if is_ok != results[-1]), len(results)
    )


@given(standings, outcomes, healths)
def test_it_changes_exactly_when_enough_in_a_row_contradict_it(
    standing: Standing | None, results: list[bool], health: Health
) -> None:
    is_up = standing.is_up if standing else True
    for number, after in enumerate(follow(standing, results, health), start=1):
        needed = health.fall if is_up else health.rise
        contradicts = results[number - 1] != is_up
        if contradicts and count_last(results[:number]) >= needed:
            is_up = not is_up
            assert after.since == 2e9 + number - 1
        assert after.is_up == is_up


@given(standings, outcomes, healths)
def test_every_change_is_counted_and_no_other(
    standing: Standing | None, results: list[bool], health: Health
) -> None:
    ups = [standing.is_up if standing else True]
    ups += [after.is_up for after in follow(standing, results, health)]
    changes = sum(one != other for one, other in pairwise(ups))
    counted = [after.transitions for after in follow(standing, results, health)]
    before = standing.transitions if standing else 0
    assert reduce(lambda _, last: last - before, counted, 0) == changes


@given(standings, outcomes, healths)
def test_the_streak_is_what_still_counts_against_it(
    standing: Standing | None, results: list[bool], health: Health
) -> None:
    for number, after in enumerate(follow(standing, results, health), start=1):
        assert after.streak < (health.fall if after.is_up else health.rise)
        if after.streak:
            assert results[number - 1] != after.is_up
            assert after.streak <= count_last(results[:number])
        assert after.detail == str(results[number - 1])


@given(st.booleans(), healths)
def test_alternation_never_changes_it(starts: bool, health: Health) -> None:
    steady = Health(rise=health.rise + 1, fall=health.fall + 1)
    results = [starts ^ bool(n % 2) for n in range(40)]
    assert all(after.is_up for after in follow(None, results, steady))
