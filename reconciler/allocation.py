"""Ids and slots for what is new; what exists keeps what it has."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

from reconciler.errors import Unavailable

Name = TypeVar("Name", bound=Hashable)


def assign_ids(names: Iterable[Name], taken: Mapping[Name, int], limit: int) -> dict[Name, int]:
    """Return an id in [1, limit] for each name.

    Names in `taken` keep theirs. New ones get the ids after the highest in use,
    then the gaps from the bottom, so an id rests as long as possible before it
    names somebody else.

    Raises:
        Unavailable: more names than ids.
    """
    ids = {name: taken[name] for name in names if name in taken}
    used = set(taken.values())
    top = max(used, default=0)
    free = (i for i in [*range(top + 1, limit + 1), *range(1, top + 1)] if i not in used)
    for name in names:
        if name not in ids:
            number = next(free, None)
            if number is None:
                raise Unavailable(
                    f"all {limit} ids are in use",
                    remedy="raise the limit in lb.yaml, or wait until removed backends have left",
                )
            ids[name] = number
    return ids


def find_extent(size: int, taken: Iterable[slice], limit: int) -> slice:
    """Return the first free run of `size` slots in [0, limit).

    Raises:
        Unavailable: there is none.
    """
    start = 0
    for extent in sorted(taken, key=lambda e: e.start):
        if extent.start - start >= size:
            break
        start = max(start, extent.stop)
    if start + size > limit:
        raise Unavailable(
            f"no room for a ring of {size} slots among {limit}",
            remedy="raise limits.ring_slots in lb.yaml",
        )
    return slice(start, start + size)
