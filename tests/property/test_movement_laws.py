"""Laws of `reconciler.movement`: whom a slot may forget, and when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from reconciler.flowhash import reduce_hashes
from reconciler.movement import move_slots, resample_slots
from reconciler.tables import SlotWords, pack_slots, unpack_slots

# Few backends, so that every relation between slot, target and the living turns up.
ids = st.integers(0, 4)
primes = st.sampled_from([251, 257, 509, 1_009])


@dataclass(frozen=True)
class Move:
    """The arguments of one `move_slots`."""

    words: SlotWords
    target: NDArray[np.uint16]
    living: NDArray[np.uint16]
    remembers: bool
    is_window_over: bool
    occupied: NDArray[np.bool_] | None

    def make(self, words: SlotWords | None = None) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
        moved = move_slots(
            self.words if words is None else words,
            self.target,
            living=self.living,
            remembers=self.remembers,
            is_window_over=self.is_window_over,
            occupied=self.occupied,
        )
        return unpack_slots(moved)


@st.composite
def moves(draw: st.DrawFn) -> Move:
    size = draw(st.integers(1, 8))

    def slots(of: st.SearchStrategy[int]) -> list[int]:
        return draw(st.lists(of, min_size=size, max_size=size))

    backend, previous = (np.array(slots(ids), np.uint16) for _ in range(2))
    living = sorted(draw(st.sets(st.integers(1, 4))))
    target = np.array(slots(st.sampled_from([0, *living])), np.uint16)
    occupied = draw(st.none() | st.just(slots(st.booleans())))
    return Move(
        pack_slots(backend, previous),
        target,
        np.array(living, np.uint16),
        remembers=draw(st.booleans()),
        is_window_over=draw(st.booleans()),
        occupied=None if occupied is None else np.array(occupied),
    )


@given(moves())
def test_a_slot_leads_where_it_is_told(move: Move) -> None:
    assert np.array_equal(move.make()[0], move.target)


@given(moves())
def test_a_slot_remembers_only_the_living(move: Move) -> None:
    _, previous = move.make()
    assert np.all(np.isin(previous, [0, *move.living]))


@given(moves())
def test_a_service_without_memory_has_settled_slots(move: Move) -> None:
    if not move.remembers:
        assert not move.make()[1].any()


@given(moves())
def test_a_settled_slot_that_stays_stays_settled(move: Move) -> None:
    backend, previous = unpack_slots(move.words)
    stays = (previous == 0) & (backend == move.target)
    assert not move.make()[1][stays].any()


@given(moves())
def test_who_loses_a_settled_slot_is_remembered_while_it_lives(move: Move) -> None:
    backend, previous = unpack_slots(move.words)
    loses = (previous == 0) & (backend != move.target) & np.isin(backend, move.living)
    if move.remembers:
        assert np.array_equal(move.make()[1][loses], backend[loses])


@given(moves())
def test_inside_the_window_the_oldest_owner_is_remembered_while_it_lives(move: Move) -> None:
    backend, previous = unpack_slots(move.words)
    is_open = (previous != 0) & (previous != backend) & np.isin(previous, move.living)
    if move.remembers and not move.is_window_over:
        assert np.array_equal(move.make()[1][is_open], previous[is_open])


@given(moves())
def test_an_occupied_slot_never_settles(move: Move) -> None:
    backend, previous = unpack_slots(move.words)
    if move.remembers:
        is_kept = (previous == backend) & (previous != 0) & (move.target != 0)
        if move.occupied is not None:
            is_kept &= move.occupied
        assert np.all(move.make()[1][is_kept] != 0)


@given(moves())
@example(
    Move(
        pack_slots(np.uint16([1]), np.uint16([1])),
        np.uint16([1]),
        np.uint16([1]),
        remembers=True,
        is_window_over=True,
        occupied=np.array([False]),
    )
)
def test_a_pinned_slot_settles_once_the_window_is_over_and_nobody_lives_elsewhere(
    move: Move,
) -> None:
    backend, previous = unpack_slots(move.words)
    if move.is_window_over and move.occupied is not None:
        is_done = (previous == backend) & (backend == move.target) & ~move.occupied
        assert not move.make()[1][is_done].any()


@given(moves())
def test_the_same_move_twice_inside_the_window_is_one(move: Move) -> None:
    if not move.is_window_over:
        once = move.make()
        assert np.array_equal(move.make(pack_slots(*once)), once)


@given(primes, primes, st.integers(0, 2**32 - 1))
def test_a_resampled_slot_keeps_the_owner_of_its_middle(old: int, new: int, seed: int) -> None:
    words = np.random.default_rng(seed).integers(1, 2**32, old, dtype=np.uint32)
    resampled = resample_slots(words, new)
    middles = (2 * np.arange(new, dtype=np.uint64) + np.uint64(1)) << np.uint64(31)
    hashes = middles // np.uint64(new) << np.uint64(32)
    assert np.array_equal(resampled, words[reduce_hashes(hashes, old)])
    assert np.array_equal(resample_slots(words, old), words)
