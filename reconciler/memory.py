"""What the flow table remembers, judged: who may go on, and which slots need it.

Entries stay in the table when their flows have ended: nobody tells it. Everything here
takes entries as arrays of `abi.FLOW`, shape (n,), and gives masks or counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reconciler import abi
from reconciler.model import BackendState
from reconciler.movement import measure_window_ns
from reconciler.tables import Tables, ring_extents, unpack_slots

Flows = np.ndarray[tuple[int], np.dtype[np.void]]
Mask = NDArray[np.bool_]

# A client that has sent its FIN waits for what the server still has to say (as long as
# nf_conntrack_tcp_timeout_fin_wait).
CLOSING_NS = 120 * 10**9
# Of a slot that no ring owns any more: as a TCP keepalive (tcp_keepalive_time, tcp(7)).
_OUTSIDE_NS = 7200 * 10**9
_IDS = 1 << 16
_MS = 10**6


class Part(NamedTuple):
    """Some entries of `flows`, or of `strays`."""

    flows: Flows
    are_strays: bool = False


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


def needs_occupancy(tables: Tables) -> bool:
    """Whether something waits for flows to end: a pinned slot, or a backend that leaves."""
    if any(info.leaves_ns for info in tables.backend_info.values()):
        return True
    if not needs_memory(tables):
        return False
    unpacked = (unpack_slots(tables.slots[extent]) for extent in ring_extents(tables).values())
    return any(np.any((previous != 0) & (previous == backend)) for backend, previous in unpacked)


class Judge:
    """Says of flows who may go on and who will be asked for, by the tables, at one time."""

    def __init__(self, tables: Tables, now_ns: int) -> None:
        self._tables = tables
        self._now_ns = now_ns
        self._born = _list_births(tables)
        self._settled = _find_settled(tables)
        self._limits = _Limits(tables)

    def find_living(self, flows: Flows, *, are_strays: bool = False) -> Mask:
        """Return which flows may go on: their backend is there, and they were heard of lately.

        A stray has not shown that it goes on: it counts for one window more.
        """
        silent_ns = self._now_ns - flows["last_seen_ns"].astype(np.int64)
        idle_ns, window_ns = self._limits.find(flows["slot"])
        if are_strays:
            idle_ns = np.minimum(idle_ns, window_ns)
        limit_ns = np.where(flows["closing"] != 0, np.minimum(idle_ns, CLOSING_NS), idle_ns)
        is_same: Mask = self._born[flows["backend"]] == flows["born"]
        return _are_placed(flows) & is_same & (silent_ns < limit_ns)

    def find_unasked(self, flows: Flows) -> Mask:
        """Return which flows nobody asks for: those of settled slots, if they are not tracked.

        One that is left there would be taken, when its slot moves again, for whoever has
        the same address and port by then.
        """
        inside = flows["slot"] < len(self._settled)
        is_settled: Mask = inside & self._settled[np.where(inside, flows["slot"], 0)]
        return _are_placed(flows) & is_settled

    def find_needless(self, flows: Flows) -> Mask:
        """Return which of `flows` need not be remembered: who has ended, or is not asked for."""
        return ~self.find_living(flows) | self.find_unasked(flows)

    def find_occupancy(self, parts: Iterable[Part]) -> Occupancy:
        """Return what living flows need."""
        slots = np.zeros(len(self._tables.slots), np.bool_)
        counts = np.zeros(_IDS, np.int64)
        for flows, are_strays in parts:
            living = flows[self.find_living(flows, are_strays=are_strays)]
            living = living[living["slot"] < len(slots)]
            here, _ = unpack_slots(self._tables.slots[living["slot"]])
            slots[living["slot"][living["backend"] != here]] = True
            counts += _count_by_backend(living)
        return Occupancy(slots, counts)

    def count_open(self, parts: Iterable[Part]) -> NDArray[np.int64]:
        """Return how many flows live on each backend that the client has not closed, by id.

        Shape (65536,).
        """
        counts = np.zeros(_IDS, np.int64)
        for flows, are_strays in parts:
            living = self.find_living(flows, are_strays=are_strays)
            counts += _count_by_backend(flows[living & (flows["closing"] == 0)])
        return counts


def _are_placed(flows: Flows) -> Mask:
    """Which say where a flow lives: `pending` and `strays` hold also how flows came."""
    is_placed: Mask = flows["kind"] == abi.FlowKind.BACKEND
    return is_placed


def _count_by_backend(flows: Flows) -> NDArray[np.int64]:
    return np.bincount(flows["backend"], minlength=_IDS)


def _list_births(tables: Tables) -> NDArray[np.int64]:
    """`born` by backend id, -1 where a flow has no home."""
    born = np.zeros(_IDS, np.int64) - 1
    for number, row in tables.backends.items():
        if row.state is not BackendState.MAINT:
            born[number] = row.born
    return born


def _find_settled(tables: Tables) -> Mask:
    """Which slots of rings are settled, and of a service that is not tracked."""
    settled = np.zeros(max(len(tables.slots), 1), np.bool_)
    tracked = {row.id for row in tables.services.values() if row.is_tracked}
    for number, extent in ring_extents(tables).items():
        if number not in tracked:
            settled[extent] = unpack_slots(tables.slots[extent])[1] == 0
    return settled


class _Limits:
    """For how long a flow of a slot may be silent, and how long its window is."""

    def __init__(self, tables: Tables) -> None:
        infos = tables.service_info
        protocols = {row.id: endpoint.protocol for endpoint, row in tables.services.items()}
        rings = sorted(
            (extent.start, extent.stop, number)
            for number, extent in ring_extents(tables).items()
            if number in infos
        )
        numbers = [number for _, _, number in rings]
        self._starts, self._stops, self._idle_ns, self._window_ns = (
            np.array(column, np.int64)
            for column in (
                [start for start, _, _ in rings],
                [stop for _, stop, _ in rings],
                [infos[n].flow_idle_timeout_ms * _MS for n in numbers],
                [measure_window_ns(protocols[n], infos[n].drain_timeout_ms * _MS) for n in numbers],
            )
        )

    def find(self, slots: NDArray[np.uint32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return both by slot, each of shape (n,)."""
        if not self._starts.size:
            outside = np.full(len(slots), _OUTSIDE_NS, np.int64)
            return outside, outside
        index = np.maximum(np.searchsorted(self._starts, slots, side="right") - 1, 0)
        inside = slots < self._stops[index]
        inside &= slots >= self._starts[index]
        idle_ns, window_ns = (
            np.where(inside, each[index], _OUTSIDE_NS) for each in (self._idle_ns, self._window_ns)
        )
        return idle_ns, window_ns
