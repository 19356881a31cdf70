"""What the flow table remembers, judged: who may go on, and which slots need it.

Entries stay in the table when their flows have ended: nobody tells it. Everything here
takes entries as arrays of `abi.FLOW`, shape (n,), and gives masks or counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reconciler import abi
from reconciler.model import BackendState
from reconciler.tables import Tables, ring_extents, unpack_slots

Flows = np.ndarray[tuple[int], np.dtype[np.void]]
Mask = NDArray[np.bool_]

# A client that has sent its FIN waits for the server's, and acknowledges it (as long as
# nf_conntrack_tcp_timeout_last_ack).
CLOSING_NS = 30 * 10**9
# Of a slot that no ring owns any more: as a TCP keepalive (tcp_keepalive_time, tcp(7)).
_OUTSIDE_NS = 7200 * 10**9
_IDS = 1 << 16


@dataclass(frozen=True)
class Occupancy:
    """Who still needs to be remembered.

    Attributes:
        slots: which slots of the flat array have a remembered flow that lives elsewhere,
            shape (limits.ring_slots,).
        flows: how many remembered flows may go on, by backend id, shape (65536,); None if
            nobody has counted.
    """

    slots: Mask
    flows: NDArray[np.int64] | None = None


def needs_memory(tables: Tables) -> bool:
    """Whether the data plane may ask the flow table.

    It does so of slots that are not settled and of services that are tracked; and whether
    a backend may leave is told by its flows.
    """
    return (
        any(info.window_end_ns for info in tables.service_info.values())
        or any(info.leaves_ns for info in tables.backend_info.values())
        or any(row.is_tracked for row in tables.services.values())
    )


def find_living(flows: Flows, tables: Tables, now_ns: int, *, are_strays: bool = False) -> Mask:
    """Return which flows may go on: their backend is there, and they were heard of lately.

    A stray has not shown that it goes on: it counts for one window more.
    """
    silent_ns = now_ns - flows["last_seen_ns"].astype(np.int64)
    idle_ns, window_ns = _find_limits(flows["slot"], tables)
    if are_strays:
        idle_ns = np.minimum(idle_ns, window_ns)
    limit_ns = np.where(flows["closing"] != 0, np.minimum(idle_ns, CLOSING_NS), idle_ns)
    return _is_at_home(flows, tables) & (silent_ns < limit_ns)


def find_occupancy(flows: Flows, tables: Tables) -> Occupancy:
    """Return what living flows need."""
    flows = flows[flows["slot"] < len(tables.slots)]
    here, _ = unpack_slots(tables.slots[flows["slot"]])
    slots = np.zeros(len(tables.slots), np.bool_)
    slots[flows["slot"][flows["backend"] != here]] = True
    return Occupancy(slots, count_by_backend(flows))


def find_needless(flows: Flows, tables: Tables, now_ns: int) -> Mask:
    """Return which flows need not be remembered: they have ended, or nobody will ask."""
    settled = np.zeros(len(tables.slots), np.bool_)
    tracked = {row.id for row in tables.services.values() if row.is_tracked}
    for number, extent in ring_extents(tables).items():
        if number not in tracked:
            settled[extent] = unpack_slots(tables.slots[extent])[1] == 0
    inside = flows["slot"] < len(settled)
    asked_for = ~settled[np.where(inside, flows["slot"], 0)] | ~inside
    return ~find_living(flows, tables, now_ns) | ~asked_for


def count_by_backend(flows: Flows) -> NDArray[np.int64]:
    """Return how many of the flows live on each backend, by id, shape (65536,)."""
    return np.bincount(flows["backend"], minlength=_IDS)


def count_open(flows: Flows, tables: Tables, now_ns: int, *, are_strays: bool) -> NDArray[np.int64]:
    """Return how many flows live on each backend that neither end closes, shape (65536,)."""
    living = find_living(flows, tables, now_ns, are_strays=are_strays)
    return count_by_backend(flows[living & (flows["closing"] == 0)])


def _is_at_home(flows: Flows, tables: Tables) -> Mask:
    born = np.zeros(_IDS, np.int64) - 1
    for number, row in tables.backends.items():
        if row.state is not BackendState.MAINT:
            born[number] = row.born
    is_placed: Mask = flows["kind"] == abi.FlowKind.BACKEND
    is_same: Mask = born[flows["backend"]] == flows["born"]
    return is_placed & is_same


def _find_limits(
    slots: NDArray[np.uint32], tables: Tables
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how long a flow of each slot may be silent, and how long its window is."""
    rings = sorted(
        (extent.start, extent.stop, number) for number, extent in ring_extents(tables).items()
    )
    infos = [tables.service_info[number] for _, _, number in rings if number in tables.service_info]
    if len(infos) < len(rings) or not rings:
        outside = np.full(len(slots), _OUTSIDE_NS, np.int64)
        return outside, outside
    starts, stops = (np.array([ring[i] for ring in rings], np.int64) for i in (0, 1))
    index = np.maximum(np.searchsorted(starts, slots, side="right") - 1, 0)
    inside = (starts[index] <= slots) & (slots < stops[index])
    limits = []
    for milliseconds in (
        [info.flow_idle_timeout_ms for info in infos],
        [info.drain_timeout_ms for info in infos],
    ):
        nanoseconds = np.array(milliseconds, np.int64) * 1_000_000
        limits.append(np.where(inside, nanoseconds[index], _OUTSIDE_NS))
    return limits[0], limits[1]
