"""The ring of a service: which backend has which slot.

Every backend walks all slots in an order of its own, at a pace set by its weight: a start and a
step hashed from its name, as in Maglev (Eisenbud et al., "Maglev: A Fast and Reliable Software
Network Load Balancer", NSDI 2016, section 3.4). A slot goes to the backend that comes by first. A
backend that comes first to more slots than its share keeps the earliest and leaves the others to
those that have room.

The ring follows from names and weights alone: no history, no order of input, and integers only,
so that every machine and every numpy builds the same one. ADR 0002 has the reasons and figures.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

MIN_RING_SIZE = 251
MAX_RING_SIZE = 1_048_573
MAX_WEIGHT = 65_535

# A claim is (time << 16 | backend), so the least claim is the earliest, and of two at one time
# the backend that is first by name has it. The clock of the largest ring ends at 14.5 << 43 and
# 14.5 * 2**43 * 2**16 < 2**63; the shortest step of that clock is 128 ticks at the largest weight,
# so no backend ever claims two slots at one time.
_CLOCK_BITS = 43
_BACKEND_BITS = 16
_BACKEND_MASK = (1 << _BACKEND_BITS) - 1
_UNCLAIMED = np.iinfo(np.int64).max
_MATRIX_CELLS = 1 << 18  # a few matrices of this many int64 stay in the cache

# To set out on a walk costs as much as this many visits.
_VISITS_PER_WALK = 512

_Ints: TypeAlias = NDArray[np.int64]


def is_ring_size(size: int) -> bool:
    """Whether a ring may have `size` slots: a prime from 251 to 1,048,573.

    A prime, because then every step from 1 to `size` - 1 visits every slot.
    """
    if not MIN_RING_SIZE <= size <= MAX_RING_SIZE:
        return False
    return all(size % divisor for divisor in range(2, math.isqrt(size) + 1))


def ring_names(weights: Mapping[str, int]) -> tuple[str, ...]:
    """The backends that have slots, in the order in which `build_ring` numbers them.

    Args:
        weights: weight by backend name; a weight of 0 keeps a backend off the ring.

    Returns:
        The names with a weight above 0, sorted by code point.
    """
    return tuple(sorted(name for name, weight in weights.items() if weight))


def share_slots(weights: Mapping[str, int], size: int) -> dict[str, int]:
    """How many slots each backend has on a ring of `size` slots, without building it.

    Largest remainder (Hamilton): a count differs by less than one slot from
    `size * weight / sum(weights)`, and equal remainders go to the names that sort first. Whoever
    would have no slot gets one, and the others share the rest by the same rule.

    Args:
        weights: weight by backend name, 0 to 65,535; 0 keeps a backend off the ring.
        size: slots of the ring.

    Returns:
        Slots by name, in the order of `ring_names`; the counts add up to `size`.

    Raises:
        ValueError: `size` is no ring size, a weight is out of range, no weight is above 0, or
            there are more backends than slots or than 65,536.
    """
    names = ring_names(weights)
    _check(weights, len(names), size)
    counts = _apportion(np.array([weights[name] for name in names], dtype=np.int64), size)
    return dict(zip(names, counts.tolist(), strict=True))


def build_ring(weights: Mapping[str, int], size: int) -> NDArray[np.uint16]:
    """Give every slot of a ring to a backend.

    Args:
        weights: weight by backend name, 0 to 65,535; 0 keeps a backend off the ring.
        size: slots of the ring, a prime from 251 to 1,048,573.

    Returns:
        An array of `size` indices into `ring_names(weights)`. Each index occurs exactly as often
        as `share_slots` says.

    Raises:
        ValueError: as `share_slots`. There is no ring without a backend.
    """
    names = ring_names(weights)
    shares = share_slots(weights, size)
    walks = _Walks(names, np.array([weights[name] for name in names], dtype=np.int64), size)

    ring = np.empty(size, dtype=np.uint16)
    free = np.arange(size, dtype=np.int64)
    room = np.array([shares[name] for name in names], dtype=np.int64)
    claims = walks.find_first_claims(np.arange(len(names), dtype=np.int64), free)
    # The room left always equals the free slots, so each round either fills the ring or fills up
    # at least one backend that had room.
    while True:
        winners = (claims & _BACKEND_MASK).astype(np.uint16)
        ring[free] = winners
        excess = _find_excess(winners, claims, room)
        if not excess.size:
            return ring
        room = np.maximum(room - np.bincount(winners, minlength=room.size), 0)
        free = free[excess]
        claims = walks.find_first_claims(np.flatnonzero(room), free)


def least_moved(before: Mapping[str, int], after: Mapping[str, int]) -> int:
    """The least number of slots that can change hands between two shares of one ring.

    Whoever has fewer slots after than before has lost at least the difference; a placement that
    moves no more than that always exists, though no ring without a history can reach it for
    every pair of shares.

    Args:
        before: slots by backend name, as from `share_slots`.
        after: the same, later; a name that is missing on one side has 0 slots there.
    """
    return sum(max(0, slots - after.get(name, 0)) for name, slots in before.items())


def slots_moved(before: NDArray[np.integer], after: NDArray[np.integer]) -> int:
    """The number of slots whose backend differs.

    Args:
        before: backend of each slot, as ids that mean the same backend in both arrays. The
            indices of two `build_ring` calls do not if their `ring_names` differ: map them first,
            as in `ids[ring]`.
        after: the same, later.

    Raises:
        ValueError: the rings differ in size; their slots can't be compared.
    """
    if before.shape != after.shape:
        raise ValueError(f"rings of {before.size} and {after.size} slots can't be compared")
    return int(np.count_nonzero(before != after))


class _Walks:
    """Every backend's walk over the slots: which one it claims at which turn, and when."""

    def __init__(self, names: tuple[str, ...], weights: _Ints, size: int) -> None:
        starts, steps = zip(*(_hash_name(name, size) for name in names), strict=True)
        self._size = size
        self._weights = weights
        self._starts = np.array(starts, dtype=np.int64)
        self._steps = np.array(steps, dtype=np.int64)
        self._inverses = np.array([pow(step, -1, size) for step in steps], dtype=np.int64)
        # The slot of a turn is (start + step * places[turn]) mod size. In Maglev places[turn] is
        # turn, and then two backends whose steps are in a small ratio run side by side: one
        # change in some hundreds moves 1 to 5 % of the slots too many. A power that permutes the
        # residues bends the lines.
        turns = np.arange(size, dtype=np.int64)
        self._places = turns
        for _ in range(_find_exponent(size) - 1):
            self._places = self._places * turns % size
        # When a backend of weight 1 takes its turns. With evenly spaced turns, weight 2 against 1
        # would come first to three slots in four. The mean order statistics of `size` exponential
        # clocks (Renyi 1953: 1/size, + 1/(size-1), + 1/(size-2) ...) make it two in three.
        self._clock = np.cumsum((1 << _CLOCK_BITS) // (size - turns))
        self._clock_at = np.empty_like(self._clock)
        self._clock_at[self._places] = self._clock

    def find_first_claims(self, backends: _Ints, slots: _Ints) -> _Ints:
        """The earliest claim on each of `slots` by one of `backends`, shape of `slots`.

        Either walk makes the same claims: which one is taken changes the time, not the result.
        """
        # When each slot has been visited `laps` times on average, all but one in e**laps is
        # claimed. Later visits cost more than looking up the few slots that are left.
        laps = backends.size.bit_length()
        visits = laps * self._size + _VISITS_PER_WALK * backends.size
        if slots.size * backends.size <= visits:
            return self._look_up_claims(backends, slots)
        claims = self._walk(backends, laps)[slots]
        unclaimed = np.flatnonzero(claims == _UNCLAIMED)
        claims[unclaimed] = self._look_up_claims(backends, slots[unclaimed])
        return claims

    def _walk(self, backends: _Ints, laps: int) -> _Ints:
        """The earliest claim on every slot, shape (size,), when each was visited `laps` times."""
        weights = self._weights[backends]
        deadline = laps * (1 << _CLOCK_BITS) // int(weights.sum())
        turns = np.searchsorted(self._clock, (deadline + 1) * weights)
        claims = np.full(self._size, _UNCLAIMED, dtype=np.int64)
        for backend, count in zip(backends, turns, strict=True):
            slots = self._starts[backend] + self._steps[backend] * self._places[:count]
            slots %= self._size
            times = self._clock[:count] // self._weights[backend]
            # A walk visits no slot twice, so nothing is lost in this assignment.
            claims[slots] = np.minimum(claims[slots], times << _BACKEND_BITS | backend)
        return claims

    def _look_up_claims(self, backends: _Ints, slots: _Ints) -> _Ints:
        """The earliest claim on each of `slots` by one of `backends`, shape of `slots`."""
        column = backends[:, np.newaxis]
        claims = np.empty(slots.size, dtype=np.int64)
        stride = max(1, _MATRIX_CELLS // backends.size)
        for first in range(0, slots.size, stride):
            part = slice(first, first + stride)
            # slot = (start + step * place) mod size, solved for the place.
            places = (slots[part] + self._size - self._starts[column]) * self._inverses[column]
            times = self._clock_at[places % self._size] // self._weights[column]
            claims[part] = (times << _BACKEND_BITS | column).min(axis=0)
        return claims


def _hash_name(name: str, size: int) -> tuple[int, int]:
    """Where a backend's walk starts, in [0, size), and its step, in [1, size)."""
    digest = hashlib.blake2b(name.encode(), digest_size=16, person=b"xdplb-ring").digest()
    start, step = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")
    return start % size, step % (size - 1) + 1


def _find_exponent(size: int) -> int:
    """The least power above 1 that permutes the residues of the prime `size`."""
    return next(power for power in range(3, size) if math.gcd(power, size - 1) == 1)


def _find_excess(winners: NDArray[np.uint16], claims: _Ints, room: _Ints) -> _Ints:
    """Positions in `winners` of what exceeds each backend's room: its latest claims."""
    won = np.bincount(winners, minlength=room.size)
    order, ends = np.argsort(winners, kind="stable"), np.cumsum(won)
    excess = [np.empty(0, dtype=np.int64)]
    for backend in np.flatnonzero(won > room):
        mine = order[ends[backend] - won[backend] : ends[backend]]
        excess.append(mine[np.argpartition(claims[mine], room[backend])[room[backend] :]])
    return np.concatenate(excess)


def _apportion(weights: _Ints, size: int) -> _Ints:
    """Slots of each backend by `share_slots`' rule, at least one each."""
    total = int(weights.sum())
    counts, remainders = np.divmod(weights * size, total)
    counts[np.argsort(-remainders, kind="stable")[: size - int(counts.sum())]] += 1
    without = counts == 0
    if without.any():
        counts[without] = 1
        counts[~without] = _apportion(weights[~without], size - int(without.sum()))
    return counts


def _check(weights: Mapping[str, int], backends: int, size: int) -> None:
    """Raise ValueError unless a ring of `size` slots can be built from `weights`."""
    if not is_ring_size(size):
        raise ValueError(f"{size} slots: not a prime from {MIN_RING_SIZE} to {MAX_RING_SIZE}")
    for name, weight in weights.items():
        if not 0 <= weight <= MAX_WEIGHT:
            raise ValueError(f"{name}: weight {weight} is not between 0 and {MAX_WEIGHT}")
    if not backends:
        raise ValueError("no backend has a weight above 0")
    if backends > min(size, _BACKEND_MASK + 1):
        raise ValueError(f"{backends} backends do not fit on a ring of {size} slots")
