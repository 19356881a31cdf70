"""Which services two tables hold differently: only of these there is something to tell.

A thousand services at rest are compared as rows and slots, not described one by one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from reconciler.tables import Tables, ring_extents


def focus(before: Tables, after: Tables) -> tuple[Tables, Tables]:
    """Return both tables with the rows of those services only that differ.

    Slots, and what is not a service's, are left whole. Where the settings differ, or the
    arrays of slots in size, all services do.
    """
    if before.settings != after.settings or before.slots.shape != after.slots.shape:
        return before, after
    touched = set(_find_touched(before, after))
    return _restrict(before, touched), _restrict(after, touched)


def _find_touched(before: Tables, after: Tables) -> Iterator[int]:
    """Yield the ids of services of which some row or slot differs, some more than once."""
    yield from _find_changed(before.service_info, after.service_info)
    endpoints = _find_changed(before.services, after.services)
    for table in (before.services, after.services):
        yield from (table[endpoint].id for endpoint in endpoints if endpoint in table)
    backends = {
        *_find_changed(before.backends, after.backends),
        *_find_changed(before.backend_info, after.backend_info),
    }
    for rows in (before.backends, after.backends):
        yield from (rows[number].service for number in backends if number in rows)
    yield from _find_moved(before, after)


def _find_changed(before: Mapping[Any, Any], after: Mapping[Any, Any]) -> list[Any]:
    """The keys under which two tables hold different rows."""
    if before == after:
        return []
    gone = [key for key in before if key not in after]
    return [*gone, *(key for key, row in after.items() if before.get(key) != row)]


def _find_moved(before: Tables, after: Tables) -> Iterator[int]:
    """Yield the ids of services on whose rings a slot differs."""
    if before.slots is after.slots:
        return
    moved = np.flatnonzero(before.slots != after.slots)
    for extents in map(ring_extents, (before, after) if moved.size else ()):
        ends = np.array([(e.start, e.stop) for e in extents.values()], np.int64).reshape(-1, 2)
        first, last = np.searchsorted(moved, ends).T
        yield from np.array(list(extents), np.int64)[first < last].tolist()


def _restrict(tables: Tables, services: Collection[int]) -> Tables:
    backends = {i: row for i, row in tables.backends.items() if row.service in services}
    return replace(
        tables,
        service_info={i: row for i, row in tables.service_info.items() if i in services},
        services={key: row for key, row in tables.services.items() if row.id in services},
        backends=backends,
        backend_info={i: row for i, row in tables.backend_info.items() if i in backends},
    )
