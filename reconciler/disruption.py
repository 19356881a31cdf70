"""What a change does to connections that are established.

Flows on settled slots are remembered nowhere (but with `flow_tracking: always`), so their
number is not known. Their share is: flows spread evenly over the slots. What is said of
shares is therefore exact in slots and an estimate in connections.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from reconciler.model import BackendState, FlowTracking, Forwarding, Protocol
from reconciler.tables import (
    BackendRow,
    Endpoint,
    SlotWords,
    Tables,
    ring_extents,
    unpack_slots,
)

_Ids: TypeAlias = NDArray[np.uint16]
_Servers: TypeAlias = NDArray[np.int64]
_Indexes: TypeAlias = NDArray[np.intp]

BREAKS_CONNECTIONS = "XLB602"

_NOT_REMEMBERED = "flow_tracking: never"

FlowCounts: TypeAlias = NDArray[np.int64]
"""Remembered flows that have not ended, by backend id."""


@dataclass(frozen=True, slots=True)
class Ending:
    """A backend that gets no new flows, and whose connections have a while to end.

    `within_s` is None where they have as long as they need. `remembered` counts those
    that are remembered, None if nobody has looked.
    """

    backend: str
    within_s: float | None
    remembered: int | None


@dataclass(frozen=True, slots=True)
class Disruption:
    """What becomes of the established flows of one service.

    `broken_share`, from 0 to 1, is how many of them lose their backend at once, for
    `causes`; with UDP, which has no connections to break, it is how many get another.
    """

    service: str
    protocol: Protocol
    broken_share: float
    causes: tuple[str, ...]
    endings: tuple[Ending, ...]


def find_disruptions(
    desired: Tables, observed: Tables, remembered: FlowCounts | None = None
) -> tuple[Disruption, ...]:
    """Return what the step from `observed` to `desired` does to each service it touches.

    Args:
        desired: what will be.
        observed: what is.
        remembered: how many remembered flows each backend has; None if nobody has looked.
    """
    live, vips = ring_extents(observed), _group_vips(observed)
    named = sorted((info.name, number) for number, info in observed.service_info.items())
    found = [
        _Service(
            number,
            vips[number],
            live[number],
            desired=desired,
            observed=observed,
            remembered=remembered,
        ).describe()
        for _, number in named
        if number in live
    ]
    return tuple(one for one in found if one is not None)


def _group_vips(tables: Tables) -> dict[int, list[Endpoint]]:
    """Return the VIPs of each service that has some, by its id, in a stable order."""
    groups: dict[int, list[Endpoint]] = defaultdict(list)
    for endpoint, row in tables.services.items():
        groups[row.id].append(endpoint)
    return {number: sorted(vips, key=str) for number, vips in groups.items()}


class _Service:
    """One service that is there, and what becomes of its VIPs."""

    def __init__(
        self,
        number: int,
        vips: list[Endpoint],
        extent: slice,
        *,
        desired: Tables,
        observed: Tables,
        remembered: FlowCounts | None,
    ) -> None:
        self.desired, self.observed, self.remembered = desired, observed, remembered
        self.number, self.vips = number, vips
        self.kept = [vip for vip in self.vips if vip in desired.services]
        self.before = observed.slots[extent]
        self._servers: dict[tuple[object, ...], int] = {}

    def describe(self) -> Disruption | None:
        """Return what becomes of its flows; None if nothing does."""
        if not self._is_touched():
            return None
        endings = tuple(self._find_endings())
        causes: dict[str, float] = defaultdict(float)
        for cause, share in self._find_causes():
            causes[cause] += share
        if not (causes or endings or self._is_moved()):
            return None
        info = self.observed.service_info[self.number]
        broken = min(sum(causes.values(), 0.0), 1.0)
        return Disruption(info.name, self.vips[0].protocol, broken, tuple(causes), endings)

    def _is_touched(self) -> bool:
        """Whether anything that its flows depend on becomes another."""
        before, after = self.observed, self.desired
        return (
            before.settings != after.settings
            or before.service_info.get(self.number) != after.service_info.get(self.number)
            or any(before.services[vip] != after.services.get(vip) for vip in self.vips)
            or not np.array_equal(self.before, self._find_after())
            or any(
                before.backends.get(number) != after.backends.get(number)
                or before.backend_info.get(number) != after.backend_info.get(number)
                for number in np.flatnonzero(np.bincount(_find_homes(self.before))).tolist()
            )
        )

    def _is_moved(self) -> bool:
        backend, _ = unpack_slots(self.before)
        return not np.array_equal(backend, unpack_slots(self._find_after())[0])

    def _find_after(self) -> SlotWords:
        """The ring that the VIPs lead to afterwards."""
        row = self.desired.services[self.kept[0]]
        return self.desired.slots[row.ring_offset : row.ring_offset + row.ring_size]

    def _find_endings(self) -> Iterator[Ending]:
        if not self.kept:
            return
        infos = self.desired.backend_info
        homes = {*np.unique(_find_homes(self._find_after())).tolist(), *self._find_remembered()}
        for number in sorted((i for i in homes if i in infos), key=lambda i: infos[i].name):
            row, was = self.desired.backends.get(number), self.observed.backends.get(number)
            if row is None or was is None:
                continue
            if row.state is BackendState.DRAIN and was.state is BackendState.READY:
                timeout_ms = self.desired.service_info[row.service].drain_timeout_ms
                within_s = timeout_ms / 1000 if infos[number].leaves_ns else None
                yield Ending(infos[number].name, within_s, self._count_remembered(number))

    def _find_remembered(self) -> Iterator[int]:
        """The service's backends of which flows are remembered.

        Within a window a slot keeps its older owner, so no slot tells of the newer one's.
        """
        service = self.desired.services[self.kept[0]].id
        for number in [] if self.remembered is None else np.flatnonzero(self.remembered).tolist():
            row = self.desired.backends.get(number)
            if row is not None and row.service == service:
                yield number

    def _count_remembered(self, number: int) -> int | None:
        if self.remembered is None:
            return None
        return int(self.remembered[number]) if number < len(self.remembered) else 0

    # --- what breaks ---

    def _find_causes(self) -> Iterator[tuple[str, float]]:
        """Yield reasons why flows lose their backend, each with the share that do."""
        lost = [vip for vip in self.vips if vip not in self.kept]
        if lost:
            shown = ", ".join(f"{vip.address} port {vip.port}" for vip in lost)
            yield f"nothing listens on {shown} any more", len(lost) / len(self.vips)
        if self.kept:
            yield from self._find_broken_slots(self._find_after())

    def _find_broken_slots(self, after: SlotWords) -> Iterator[tuple[str, float]]:
        if self._is_remembered():
            yield from self._find_spoilt()
            return
        if rehash := self._describe_rehash():
            broken = _share_of_strangers(self._find_servers(self.before), self._find_keepers(after))
            if broken:
                yield rehash, broken
            return
        here, there, shares = _cut_hashes(len(self.before), len(after))
        homes = _find_homes(self.before)[here]
        lost = self._find_servers(self.before)[here] != self._find_keepers(after)[there]
        lost &= homes != 0
        otherwise = "another ring_size" if len(after) != len(self.before) else _NOT_REMEMBERED
        for number in np.unique(homes[lost]).tolist():
            reason = self._describe_spoilt(number) or otherwise
            yield reason, float(shares[lost & (homes == number)].sum())

    def _is_remembered(self) -> bool:
        """Whether every flow is remembered, and will be asked for wherever it lands."""
        row = self.desired.services[self.kept[0]]
        tracking = self.desired.service_info[row.id].flow_tracking
        was_tracked = self.observed.services[self.kept[0]].is_tracked
        return was_tracked and tracking is not FlowTracking.NEVER

    def _find_spoilt(self) -> Iterator[tuple[str, float]]:
        """Yield what breaks of a service whose every flow is remembered: by its backends only."""
        homes = _find_homes(self.before)
        for number in np.unique(homes[homes != 0]).tolist():
            if reason := self._describe_spoilt(number):
                yield reason, float(np.mean(homes == number))

    def _find_servers(self, words: SlotWords) -> _Servers:
        """Who serves the flows of each slot now, as a number for its address and port."""
        homes = _find_homes(words)
        table = np.zeros(1 << 16, np.int64)
        for number in np.unique(homes).tolist():
            if row := self.observed.backends.get(number):
                table[number] = self._identify(row)
        return table[homes]

    def _find_keepers(self, words: SlotWords) -> _Servers:
        """Who will serve them afterwards; a server that answers nobody is none."""
        homes = _find_homes(words)
        table = np.zeros(1 << 16, np.int64)
        for number in np.unique(homes).tolist():
            row = self.desired.backends.get(number)
            if row and row.state is not BackendState.MAINT:
                is_down = self.desired.backend_info[number].is_down
                table[number] = 0 if is_down else self._identify(row)
        return table[homes]

    def _identify(self, row: BackendRow) -> int:
        """A number, not 0, for what a flow's packets find: the same for the same server."""
        server = (row.address, row.port, row.forwarding is Forwarding.NAT)
        return self._servers.setdefault(server, len(self._servers) + 1)

    def _describe_spoilt(self, number: int) -> str:
        """Why a backend answers none of its flows after the change; empty if it does."""
        was, info = self.observed.backends.get(number), self.observed.backend_info.get(number)
        row, left = self.desired.backends.get(number), self.desired.backend_info.get(number)
        if was is None or info is None:
            return ""
        if row is None or left is None or left.name != info.name:
            return f"{info.name} goes at once"
        if row.state is BackendState.MAINT or left.is_down:
            return f"{info.name} {'is down' if left.is_down else 'goes into maint'}"
        if row.born != was.born:
            return f"{info.name} goes at once"
        if (row.address, row.port) != (was.address, was.port):
            return f"{info.name} gets another address or port"
        return "another forwarding" if self._identify(row) != self._identify(was) else ""

    def _describe_rehash(self) -> str:
        """What sends every flow to another slot than before; empty if nothing does."""
        seeds = {t.settings[0].hash_seed for t in (self.observed, self.desired) if 0 in t.settings}
        if len(seeds) > 1:
            return "another hash_seed"
        vip = self.kept[0]
        is_same = self.observed.services[vip].affinity is self.desired.services[vip].affinity
        return "" if is_same else "another affinity"


def _find_homes(words: SlotWords) -> _Ids:
    """Who gets the flows of each slot that are not remembered and not new."""
    backend, previous = unpack_slots(words)
    return np.where(previous != 0, previous, backend)


def _cut_hashes(n: int, m: int) -> tuple[_Indexes, _Indexes, NDArray[np.float64]]:
    """Cut the hashes where a ring of n slots or one of m does.

    Returns for each piece its slot on the one, its slot on the other, and its size as a
    share of all hashes.
    """
    if n == m:
        return np.arange(n), np.arange(n), np.full(n, 1 / n)
    cuts = np.union1d(np.arange(n + 1) / n, np.arange(m + 1) / m)
    middles = (cuts[1:] + cuts[:-1]) / 2
    return (middles * n).astype(np.intp), (middles * m).astype(np.intp), np.diff(cuts)


def _share_of_strangers(before: _Servers, after: _Servers) -> float:
    """The share of flows that meet another server, if each lands on any slot."""
    servers, here = np.unique(before, return_counts=True)
    there = np.array([np.count_nonzero(after == server) for server in servers])
    return float(1 - (here / len(before) * there / len(after)).sum())
