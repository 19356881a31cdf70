"""The life of a slot, branch by branch."""

from __future__ import annotations

import numpy as np
import pytest

from reconciler.movement import move_slots, resample_slots
from reconciler.tables import pack_slots, unpack_slots

Slot = tuple[int, int]
ALL = (1, 2, 3)


def move(
    slot: Slot,
    target: int,
    *,
    living: tuple[int, ...] = ALL,
    remembers: bool = True,
    over: bool = False,
    occupied: bool | None = None,
) -> Slot:
    words = pack_slots(np.array(slot[:1], np.uint16), np.array(slot[1:], np.uint16))
    moved = move_slots(
        words,
        np.array([target], np.uint16),
        living=np.array(living, np.uint16),
        remembers=remembers,
        is_window_over=over,
        occupied=None if occupied is None else np.array([occupied]),
    )
    backend, previous = unpack_slots(moved)
    return int(backend[0]), int(previous[0])


@pytest.mark.parametrize(
    ("slot", "target", "living", "after"),
    [
        # settled
        ((1, 0), 1, ALL, (1, 0)),
        ((1, 0), 2, ALL, (2, 1)),
        ((1, 0), 2, (2, 3), (2, 0)),  # nobody is left to be remembered
        # moved
        ((2, 1), 2, ALL, (2, 1)),
        ((2, 1), 3, ALL, (3, 1)),  # flows of 2 are in the table since their SYN, those of 1 not
        ((2, 1), 1, ALL, (1, 1)),  # who is not in the table lives at home
        ((2, 1), 2, (2, 3), (2, 2)),  # 1 has gone; flows may be remembered elsewhere
        ((2, 1), 3, (2, 3), (3, 3)),
        ((2, 1), 3, (1, 3), (3, 1)),
        # pinned
        ((2, 2), 2, ALL, (2, 2)),
        ((2, 2), 3, ALL, (3, 2)),
        ((2, 2), 3, (1, 3), (3, 3)),
        # leads nowhere
        ((0, 0), 0, ALL, (0, 0)),
        ((0, 0), 2, ALL, (2, 0)),
        ((1, 0), 0, ALL, (0, 1)),  # the last backend drains
        ((0, 1), 0, ALL, (0, 1)),
        ((0, 1), 2, ALL, (2, 1)),
        ((0, 1), 0, (2, 3), (0, 0)),
    ],
)
def test_inside_the_window(slot: Slot, target: int, living: tuple[int, ...], after: Slot) -> None:
    assert move(slot, target, living=living) == after
    # Nobody asks the flow table while the window is open.
    assert move(slot, target, living=living, occupied=True) == after
    assert move(slot, target, living=living, occupied=False) == after


@pytest.mark.parametrize(
    ("slot", "target", "occupied", "after"),
    [
        ((1, 0), 1, None, (1, 0)),
        ((1, 0), 2, None, (2, 1)),
        ((2, 1), 2, None, (2, 2)),
        ((2, 1), 2, True, (2, 2)),
        ((2, 1), 2, False, (2, 2)),  # pinned first: a flow may have come since the look
        ((2, 2), 2, None, (2, 2)),
        ((2, 2), 2, True, (2, 2)),
        ((2, 2), 2, False, (2, 0)),
        ((2, 1), 3, None, (3, 2)),  # moves in the very pass that ends the window
        ((2, 1), 1, None, (1, 2)),
        ((2, 2), 3, True, (3, 2)),
        ((2, 2), 3, False, (3, 2)),
        ((0, 0), 0, False, (0, 0)),
    ],
)
def test_when_the_window_is_over(
    slot: Slot, target: int, occupied: bool | None, after: Slot
) -> None:
    assert move(slot, target, over=True, occupied=occupied) == after


@pytest.mark.parametrize(
    ("target", "occupied", "after"), [(0, None, (0, 1)), (0, False, (0, 1)), (2, None, (2, 1))]
)
def test_a_slot_that_leads_nowhere_waits(target: int, occupied: bool | None, after: Slot) -> None:
    assert move((0, 1), target, over=True, occupied=occupied) == after


@pytest.mark.parametrize("over", [False, True])
@pytest.mark.parametrize("slot", [(1, 0), (2, 1), (2, 2), (0, 1)])
@pytest.mark.parametrize("target", [0, 1, 2])
def test_what_need_not_remember_settles_at_once(slot: Slot, target: int, over: bool) -> None:
    assert move(slot, target, remembers=False, over=over, occupied=True) == (target, 0)


def test_slots_do_not_look_at_each_other() -> None:
    words = pack_slots(np.array([1, 2, 3], np.uint16), np.array([0, 1, 3], np.uint16))
    moved = move_slots(
        words,
        np.array([2, 2, 3], np.uint16),
        living=np.array(ALL, np.uint16),
        remembers=True,
        is_window_over=False,
        occupied=None,
    )
    assert [half.tolist() for half in unpack_slots(moved)] == [[2, 2, 3], [1, 1, 3]]


def test_the_ring_that_was_is_left_alone() -> None:
    words = pack_slots(np.array([1], np.uint16), np.array([0], np.uint16))
    before = words.copy()
    words.flags.writeable = False
    move_slots(
        words,
        np.array([2], np.uint16),
        living=np.array(ALL, np.uint16),
        remembers=True,
        is_window_over=True,
        occupied=None,
    )
    assert np.array_equal(words, before)


@pytest.mark.parametrize(
    ("size", "resampled"),
    [(3, [10, 20, 30]), (6, [10, 10, 20, 20, 30, 30]), (2, [10, 30]), (1, [20]), (4, None)],
)
def test_a_resampled_ring_keeps_the_order(size: int, resampled: list[int] | None) -> None:
    words = np.array([10, 20, 30], np.uint32)
    assert resample_slots(words, size).tolist() == (resampled or [10, 20, 20, 30])
