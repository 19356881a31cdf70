"""The tables of the data plane as one frozen value.

`Tables` is the type of what should be (desired) and of what the kernel holds
(observed), so equality means converged. Rows name things as people do; how they
lie in the maps is `reconciler.codec`'s affair.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Address, IPv6Address
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reconciler.model import (
    DOWN_PERCENT,
    Affinity,
    BackendState,
    FlowTracking,
    Forwarding,
    IPAddress,
    Protocol,
    Tunnel,
    XdpMode,
)

SlotWords: TypeAlias = NDArray[np.uint32]
"""Slots as the data plane loads them: one word each, see `pack_slots`."""


class Endpoint(NamedTuple):
    """A VIP of a service, or a backend. Port 0 marks a VIP that has some service."""

    address: IPAddress
    port: int
    protocol: Protocol


class ServiceRow(NamedTuple):
    """Where a VIP leads: slots[ring_offset, ring_offset + ring_size).

    `is_shared`: its backends' replies can't tell whose they are, so the data plane
    remembers how flows came. `is_tracked`: it remembers where every flow lives.
    """

    id: int
    ring_offset: int
    ring_size: int
    forwarding: Forwarding
    affinity: Affinity
    is_shared: bool
    is_tracked: bool = False


class BackendRow(NamedTuple):
    """Where a backend is. `born` is the generation that made it."""

    address: IPAddress
    port: int
    service: int
    forwarding: Forwarding
    state: BackendState
    born: int


class ReplyRow(NamedTuple):
    """Whose source a nat backend's packet gets on its way back to the client."""

    vip: IPAddress
    vip_port: int
    backend: int
    is_shared: bool


class InterfaceRow(NamedTuple):
    """What an interface can do with a frame from XDP, and its addresses as tunnels' sources."""

    transmits: bool
    redirects: bool
    ipv4: IPv4Address | None = None
    ipv6: IPv6Address | None = None


class ServiceInfo(NamedTuple):
    """What people call a service, and until when its moved slots remember.

    `window_end_ns` is on CLOCK_MONOTONIC, 0 when nothing has moved.
    """

    name: str
    drain_timeout_ms: int
    own_addresses: bool
    window_end_ns: int
    flow_tracking: FlowTracking = FlowTracking.ON_CHANGE
    flow_idle_timeout_ms: int = 0


class BackendInfo(NamedTuple):
    """What people call a backend.

    `leaves_ns` (CLOCK_MONOTONIC) is 0 while the backend is in the file; one that
    was removed stays until then for the flows it has. `withheld_percent` is how much of
    the weight its health withholds, see `reconciler.model.Backend`.
    """

    name: str
    weight: int
    leaves_ns: int
    withheld_percent: int = 0

    @property
    def is_down(self) -> bool:
        """Whether it gets nothing, and its flows are released."""
        return self.withheld_percent == DOWN_PERCENT


class Settings(NamedTuple):
    """What every packet's journey depends on.

    `vip_filter` has bit n set if the last 11 bits of some VIP are n; `directory_places`,
    a power of two, is how many places there are to find them in.
    """

    ticks_per_second: int
    hash_seed: int
    tunnel: Tunnel = Tunnel()
    answers_echo: bool = True
    vip_filter: int = 0
    directory_places: int = 8
    has_replies: bool = False


class Meta(NamedTuple):
    """What was applied: generation, and hex digests of the file, its meaning, the program."""

    generation: int
    config_sha256: str
    meaning_sha256: str
    program_sha256: str


class Attachment(NamedTuple):
    """Our program on an interface; mode AUTO is a wish, never observed."""

    ifindex: int
    mode: XdpMode
    program_sha256: str


def _no_slots() -> SlotWords:
    return np.zeros(0, np.uint32)


@dataclass(frozen=True, eq=False)
class Tables:
    """Every table the controller owns.

    `slots` is the flat array of all rings, shape (limits.ring_slots,); it is not
    written to once it stands here. The rest are plain mappings; `settings` and
    `meta` have at most the one key 0.
    """

    settings: Mapping[int, Settings] = field(default_factory=dict)
    interfaces: Mapping[int, InterfaceRow] = field(default_factory=dict)
    service_info: Mapping[int, ServiceInfo] = field(default_factory=dict)
    backend_info: Mapping[int, BackendInfo] = field(default_factory=dict)
    backends: Mapping[int, BackendRow] = field(default_factory=dict)
    nat_replies: Mapping[Endpoint, ReplyRow] = field(default_factory=dict)
    services: Mapping[Endpoint, ServiceRow] = field(default_factory=dict)
    attachments: Mapping[str, Attachment] = field(default_factory=dict)
    meta: Mapping[int, Meta] = field(default_factory=dict)
    slots: SlotWords = field(default_factory=_no_slots)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tables):
            return NotImplemented
        return all(self.rows(name) == other.rows(name) for name in ROW_TABLES) and np.array_equal(
            self.slots, other.slots
        )

    __hash__ = None  # type: ignore[assignment]

    def rows(self, table: str) -> Mapping[Any, Any]:
        """Return a table other than the slots by its name."""
        rows: Mapping[Any, Any] = getattr(self, table)
        return rows

    @property
    def generation(self) -> int:
        """The number of the applied state; 0 before the first."""
        return self.meta[0].generation if 0 in self.meta else 0

    @property
    def config_sha256(self) -> str:
        """The hex digest of the file that was applied last; empty before the first."""
        return self.meta[0].config_sha256 if 0 in self.meta else ""

    @property
    def meaning_sha256(self) -> str:
        """The hex digest of what was applied last; empty before the first."""
        return self.meta[0].meaning_sha256 if 0 in self.meta else ""


ROW_TABLES: tuple[str, ...] = tuple(f.name for f in fields(Tables) if f.name != "slots")


def make_empty_tables(ring_slots: int) -> Tables:
    """Return the tables of an instance that has nothing yet.

    The slots are as many as its map will hold: an even number, since they lie in pairs.
    """
    return Tables(slots=np.zeros(ring_slots + ring_slots % 2, np.uint32))


def pack_slots(backend: NDArray[np.uint16], previous: NDArray[np.uint16]) -> SlotWords:
    """Return the words of slots {backend, previous}; both of shape (n,)."""
    pairs = np.empty((len(backend), 2), np.uint16)
    pairs[:, 0] = backend
    pairs[:, 1] = previous
    return pairs.view(np.uint32).reshape(-1)


def unpack_slots(words: SlotWords) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Return (backend, previous), each of shape (n,), of n slot words."""
    pairs = np.ascontiguousarray(words).view(np.uint16).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def list_extents(tables: Tables) -> list[slice]:
    """Return the slots of every ring that some VIP leads to, each once.

    A writer that was killed in the middle may leave a service on two of them.
    """
    extents = {(row.ring_offset, row.ring_size) for row in tables.services.values()}
    return [slice(offset, offset + size) for offset, size in sorted(extents) if size]


def group_backends(tables: Tables) -> dict[int, list[int]]:
    """Return the ids of each service's backends, by the service's id."""
    groups: dict[int, list[int]] = defaultdict(list)
    for number, row in tables.backends.items():
        groups[row.service].append(number)
    return groups


def ring_extents(tables: Tables) -> dict[int, slice]:
    """Return the slots each service id owns."""
    return {
        row.id: slice(row.ring_offset, row.ring_offset + row.ring_size)
        for row in tables.services.values()
        if row.ring_size
    }
