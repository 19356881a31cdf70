"""Ids that stay and rest, and extents that never overlap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.allocation import assign_ids, find_extent
from reconciler.errors import ExitCode, Unavailable


@pytest.mark.parametrize(
    ("names", "taken", "ids"),
    [
        ("", {}, {}),
        ("ab", {}, {"a": 1, "b": 2}),
        ("ba", {"a": 1, "b": 2}, {"a": 1, "b": 2}),
        ("abc", {"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}),
        ("b", {"a": 1, "b": 2}, {"b": 2}),
        ("bc", {"a": 1, "b": 2}, {"b": 2, "c": 3}),  # 1 is being given up: it rests
        ("ac", {"a": 1, "b": 2}, {"a": 1, "c": 3}),  # so is 2
        ("bc", {"b": 2}, {"b": 2, "c": 3}),  # 1 rests until the end is reached
        ("bc", {"b": 4}, {"b": 4, "c": 1}),
        ("bcd", {"b": 3}, {"b": 3, "c": 4, "d": 1}),
    ],
)
def test_ids(names: str, taken: dict[str, int], ids: dict[str, int]) -> None:
    assert assign_ids(names, taken, 4) == ids


@pytest.mark.parametrize(
    ("names", "taken"), [("abc", {}), ("c", {"a": 1, "b": 2}), ("bc", {"a": 1, "b": 2})]
)
def test_no_id_is_left(names: str, taken: dict[str, int]) -> None:
    with pytest.raises(Unavailable, match="all 2 ids are in use; raise the limit") as caught:
        assign_ids(names, taken, 2)
    assert caught.value.exit_code is ExitCode.UNAVAILABLE


@given(
    st.lists(st.integers(0, 20), unique=True),
    st.dictionaries(st.integers(0, 20), st.integers(1, 12)).filter(
        lambda taken: len(set(taken.values())) == len(taken)
    ),
)
def test_ids_are_unique_in_range_and_nobody_elses(names: list[int], taken: dict[int, int]) -> None:
    try:
        ids = assign_ids(names, taken, 16)
    except Unavailable:
        assert len({*names, *taken}) > 16
        return
    assert sorted(ids) == sorted(names)
    assert len(set(ids.values())) == len(ids)
    assert all(1 <= number <= 16 for number in ids.values())
    for name, number in ids.items():
        assert number == taken[name] if name in taken else number not in taken.values()


@pytest.mark.parametrize(
    ("size", "taken", "start"),
    [
        (5, [], 0),
        (20, [], 0),
        (5, [(0, 5)], 5),
        (5, [(5, 10)], 0),
        (5, [(4, 9)], 9),
        (5, [(10, 15), (0, 5)], 5),  # in no order
        (5, [(0, 5), (9, 15)], 15),
        (5, [(0, 10), (2, 5), (0, 10)], 10),  # overlapping and twice
    ],
)
def test_the_first_run_that_fits(size: int, taken: list[tuple[int, int]], start: int) -> None:
    extents = [slice(*one) for one in taken]
    assert find_extent(size, extents, 20) == slice(start, start + size)


@pytest.mark.parametrize(
    ("size", "taken"), [(21, []), (5, [(0, 16)]), (6, [(5, 10), (15, 16)]), (1, [(0, 20)])]
)
def test_no_run_fits(size: int, taken: list[tuple[int, int]]) -> None:
    with pytest.raises(Unavailable, match=f"no room for a ring of {size} slots among 20"):
        find_extent(size, [slice(*one) for one in taken], 20)
