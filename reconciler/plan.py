"""A plan: the ordered operations that turn observed tables into desired ones.

A plan is a value. `step` defines what each operation means; the kernel is tested
against it, and the in-memory data plane is nothing but it.

The order is the safety (every prefix of a plan is a correct balancer, so a crash
needs no undo): referents are written before what refers to them (backends, then
slots, then the services that lead there), and dropped after it. `meta` comes last
and so says what is complete.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reconciler.tables import SlotWords, Tables, list_extents, pack_slots, unpack_slots


@dataclass(frozen=True)
class Put:
    """Write a row, new or changed."""

    table: str
    key: Any
    row: Any


@dataclass(frozen=True)
class Drop:
    """Delete a row."""

    table: str
    key: Any


@dataclass(frozen=True, eq=False)
class Store:
    """Store slot words: `words[i]` at `slots[indexes[i]]`, each word atomically."""

    indexes: NDArray[np.intp]
    words: SlotWords

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Store)
            and np.array_equal(self.indexes, other.indexes)
            and np.array_equal(self.words, other.words)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Store({len(self.indexes)} slots)"


Operation: TypeAlias = Put | Drop | Store
Plan: TypeAlias = tuple[Operation, ...]

# What is referred to comes before what refers to it. A live slot is retargeted
# before the reply of its old backend goes, and after the new backend's has come.
_PUT_BEFORE_SLOTS = (
    *("settings", "interfaces", "service_info", "backend_info"),
    *("nat_replies", "backends"),  # whoever can get packets can answer them
)
_PUT_AFTER_SLOTS = ("services", "attachments")
_DROP_BEFORE_SLOTS = ("attachments", "services")
_DROP_AFTER_SLOTS = ("nat_replies", "backends", "backend_info", "service_info", "interfaces")


def diff(desired: Tables, observed: Tables) -> Plan:
    """Return the operations that make `observed` equal to `desired`, in a safe order.

    Raises:
        ValueError: the two have slot arrays of different sizes.
    """
    return tuple(_diff(desired, observed))


def _diff(desired: Tables, observed: Tables) -> Iterator[Operation]:
    observed, pins = _pin_slots(desired, observed)
    yield from pins
    for table in _PUT_BEFORE_SLOTS:
        yield from _puts(table, desired, observed)
    changed = _changed_slots(desired, observed)
    # What a live ring gives up is cleared when nobody leads there any more; what no live
    # ring owns (a killed writer left it) must be right before somebody does.
    is_freed = (desired.slots[changed] == 0) & _find_live_slots(observed)[changed]
    live, freed = changed[~is_freed], changed[is_freed]
    yield from _store(desired, live)
    for table in _PUT_AFTER_SLOTS:
        yield from _puts(table, desired, observed)
    for table in _DROP_BEFORE_SLOTS:
        yield from _drops(table, desired, observed)
    yield from _store(desired, freed)
    for table in _DROP_AFTER_SLOTS:
        yield from _drops(table, desired, observed)
    for table in ("settings", "meta"):
        yield from _drops(table, desired, observed)
    yield from _puts("meta", desired, observed)


def _pin_slots(desired: Tables, observed: Tables) -> tuple[Tables, Plan]:
    """Pin slots whose window is over before `service_info` may open another.

    The data plane takes them for pinned already. A new window would let them remember
    once more, and flows that came meanwhile would be taken for older ones.
    """
    if desired.slots.shape != observed.slots.shape:
        return observed, ()
    changed = _changed_slots(desired, observed)
    backend, previous = unpack_slots(observed.slots[changed])
    _, wanted = unpack_slots(desired.slots[changed])
    was_moved = (previous != 0) & (previous != backend) & (backend != 0)
    pinned = was_moved & (wanted == backend)
    if not np.any(pinned):
        return observed, ()
    store = Store(changed[pinned], pack_slots(backend[pinned], backend[pinned]))
    return step(observed, store), (store,)


def _find_live_slots(tables: Tables) -> NDArray[np.bool_]:
    """Which slots belong to a ring that some VIP leads to."""
    live = np.zeros(tables.slots.size, np.bool_)
    for extent in list_extents(tables):
        live[extent] = True
    return live


def _puts(table: str, desired: Tables, observed: Tables) -> Iterator[Operation]:
    before = observed.rows(table)
    if desired.rows(table) == before:  # as ever, and told without asking key by key
        return
    put = {key: row for key, row in desired.rows(table).items() if before.get(key) != row}
    for key, row in _sorted_rows(put):
        yield Put(table, key, row)


def _drops(table: str, desired: Tables, observed: Tables) -> Iterator[Operation]:
    after = desired.rows(table)
    if after == observed.rows(table):
        return
    dropped = {key: row for key, row in observed.rows(table).items() if key not in after}
    for key, _ in _sorted_rows(dropped):
        yield Drop(table, key)


def _sorted_rows(rows: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    # Endpoints of two families have no order of their own; their text has.
    return sorted(rows.items(), key=lambda item: _sort_key(item[0]))


def _sort_key(key: Any) -> tuple[int, str]:
    return (key, "") if isinstance(key, int) else (0, str(key))


def _changed_slots(desired: Tables, observed: Tables) -> NDArray[np.intp]:
    if desired.slots.shape != observed.slots.shape:
        raise ValueError(
            f"slot arrays differ in size: {desired.slots.shape} and {observed.slots.shape}"
        )
    if desired.slots is observed.slots:
        return np.empty(0, np.intp)
    return np.flatnonzero(desired.slots != observed.slots)


def _store(desired: Tables, indexes: NDArray[np.intp]) -> Iterator[Operation]:
    if indexes.size:
        yield Store(indexes, desired.slots[indexes])


def step(tables: Tables, operation: Operation) -> Tables:
    """Return the tables after one operation. This is what an operation means."""
    if isinstance(operation, Store):
        slots = tables.slots.copy()
        slots[operation.indexes] = operation.words
        return replace(tables, slots=slots)
    rows = dict(tables.rows(operation.table))
    if isinstance(operation, Put):
        rows[operation.key] = operation.row
    else:
        del rows[operation.key]
    changes: dict[str, Any] = {operation.table: rows}
    return replace(tables, **changes)
