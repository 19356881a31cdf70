"""Laws of the ring, on random names, weights and sizes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from fractions import Fraction
from math import gcd
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.maglev import build_ring, least_moved, ring_names, share_slots, slots_moved

SIZE = 65_537

names = st.text(min_size=1, max_size=20).filter(lambda name: name.isprintable())
weights = st.integers(1, 65_535) | st.sampled_from([1, 50, 100, 65_535])
small_rings = st.dictionaries(names, weights, min_size=1, max_size=40)
sizes = st.sampled_from([251, 257, 1_009, 4_093])
# Half of what operators write has no weights in it.
rings = st.dictionaries(names, st.just(100), min_size=2, max_size=100) | st.dictionaries(
    names, st.integers(1, 1000), min_size=2, max_size=100
)


def excess_moved(before: Mapping[str, int], after: Mapping[str, int], size: int) -> int:
    """Slots that a change moves beyond the least that it could."""
    ids = {name: number for number, name in enumerate(sorted({*before, *after}))}
    rings = [
        np.array([ids[name] for name in ring_names(ring)])[build_ring(ring, size)]
        for ring in (before, after)
    ]
    return slots_moved(*rings) - least_moved(share_slots(before, size), share_slots(after, size))


def defined_ring(ring_weights: Mapping[str, int], size: int) -> list[int]:
    """The ring as it is defined, slot by slot in plain integers, and slowly."""
    listed = sorted(ring_weights)
    power = next(power for power in range(3, size) if gcd(power, size - 1) == 1)
    claims: list[list[int]] = []
    for name in listed:
        digest = hashlib.blake2b(name.encode(), digest_size=16, person=b"xdplb-ring").digest()
        start = int.from_bytes(digest[:8], "little") % size
        step = int.from_bytes(digest[8:], "little") % (size - 1) + 1
        times, clock = [0] * size, 0
        for turn in range(size):
            clock += 2**43 // (size - turn)
            times[(start + step * pow(turn, power, size)) % size] = clock // ring_weights[name]
        claims.append(times)

    room = list(share_slots(ring_weights, size).values())
    ring, free = [-1] * size, list(range(size))
    while free:
        open_backends = [backend for backend in range(len(listed)) if room[backend]]
        queues: dict[int, list[tuple[int, int]]] = {backend: [] for backend in open_backends}
        for slot in free:
            time, backend = min((claims[backend][slot], backend) for backend in open_backends)
            queues[backend].append((time, slot))
        free = []
        for backend, queue in queues.items():
            queue.sort()
            for _, slot in queue[: room[backend]]:
                ring[slot] = backend
            free += [slot for _, slot in queue[room[backend] :]]
            room[backend] -= min(room[backend], len(queue))
    return ring


@settings(deadline=None)
@given(small_rings, sizes)
def test_every_slot_is_filled_as_shared(ring_weights: dict[str, int], size: int) -> None:
    ring = build_ring(ring_weights, size)
    shares = share_slots(ring_weights, size)
    assert np.bincount(ring, minlength=len(shares)).tolist() == list(shares.values())
    assert sum(shares.values()) == size
    assert min(shares.values()) >= 1


@settings(deadline=None)
@given(small_rings, sizes)
def test_shares_are_within_a_slot_unless_one_would_have_none(
    ring_weights: dict[str, int], size: int
) -> None:
    shares = share_slots(ring_weights, size)
    exact = {
        name: Fraction(size * weight, sum(ring_weights.values()))
        for name, weight in ring_weights.items()
    }
    given_one = sum(exact[name] < 1 for name in exact)
    for name, slots in shares.items():
        assert exact[name] - slots < 1 + given_one
        assert slots - exact[name] < 1


@settings(deadline=None)
@given(small_rings, sizes, st.randoms(use_true_random=False))
def test_order_is_irrelevant(ring_weights: dict[str, int], size: int, random: Random) -> None:
    items = list(ring_weights.items())
    random.shuffle(items)
    assert np.array_equal(build_ring(dict(items), size), build_ring(ring_weights, size))


@settings(deadline=None, max_examples=30)
@given(st.dictionaries(names, weights, min_size=1, max_size=12), st.sampled_from([251, 307]))
def test_the_ring_is_what_it_is_defined_to_be(ring_weights: dict[str, int], size: int) -> None:
    assert build_ring(ring_weights, size).tolist() == defined_ring(ring_weights, size)


@settings(deadline=None, max_examples=40)
@given(rings, st.data())
def test_removing_a_backend_moves_the_least_and_1_percent(
    before: dict[str, int], data: st.DataObject
) -> None:
    gone = data.draw(st.sampled_from(sorted(before)))
    after = {name: weight for name, weight in before.items() if name != gone}
    assert 0 <= excess_moved(before, after, SIZE) <= 0.01 * SIZE
    # Adding it again is the same change backwards: the ring has no history.
    assert excess_moved(after, before, SIZE) == excess_moved(before, after, SIZE)


@settings(deadline=None, max_examples=40)
@given(rings, st.data())
def test_weighting_a_backend_moves_the_least_and_1_percent(
    before: dict[str, int], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(before)))
    after = {**before, name: data.draw(st.integers(0, 1000))}
    if any(after.values()):
        assert 0 <= excess_moved(before, after, SIZE) <= 0.01 * SIZE


@settings(deadline=None)
@given(small_rings, small_rings, sizes)
def test_no_change_moves_less_than_the_least(
    before: dict[str, int], after: dict[str, int], size: int
) -> None:
    assert excess_moved(before, after, size) >= 0
    assert excess_moved(before, before, size) == 0
