"""One service's slots: where they lead, and which of them remember."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from reconciler import maglev
from reconciler.desired.given import Given, timeout_ns
from reconciler.desired.identity import Identities
from reconciler.health.effect import measure_weights
from reconciler.model import FlowTracking, Protocol, Service
from reconciler.movement import measure_window_ns, move_slots, pin_settled, resample_slots
from reconciler.tables import SlotWords, unpack_slots

# A window that ends before the new one is written would be opened again: flows that came
# in between would be taken for older ones. So a change so shortly before counts as after.
_LAST_MOMENT_NS = 10**9

BuildRing: TypeAlias = Callable[[Mapping[str, int], int], NDArray[np.uint16]]
"""`maglev.build_ring`, or one that remembers what it built."""


def move_ring(
    service: Service,
    given: Given,
    identities: Identities,
    living: list[int],
    build_ring: BuildRing,
) -> tuple[SlotWords, int]:
    """Return the service's slots and the end of its window, in CLOCK_MONOTONIC ns, 0 for none.

    `living` are the ids of the service's backends that may keep flows.
    """
    info = given.observed.service_info.get(identities.services[service.name])
    window_end_ns = info.window_end_ns if info else 0
    words, occupied = _observed_words(service, given, identities)
    target = _fill_ring(service, identities, build_ring)
    was, _ = unpack_slots(words)
    is_change = bool(np.any(target != was))
    last_moment_ns = min(_LAST_MOMENT_NS, _window_ns(service) // 10) if is_change else 0
    moved = move_slots(
        words,
        target,
        living=np.array(living, np.uint16),
        remembers=_learns_flows(service),
        is_window_over=0 < window_end_ns <= given.now_ns + last_moment_ns,
        occupied=occupied,
    )
    _, previous = unpack_slots(moved)
    if not np.any(previous):
        return moved, 0
    if np.any((target != was) & (previous != 0)) or not window_end_ns:
        return moved, given.now_ns + _window_ns(service)
    return moved, window_end_ns


def _observed_words(
    service: Service, given: Given, identities: Identities
) -> tuple[SlotWords, NDArray[np.bool_] | None]:
    """The slots as they are, as many as there shall be, and which of them are occupied."""
    live = identities.live.get(identities.services[service.name])
    if live is None:
        return np.zeros(service.ring_size, np.uint32), None
    words = given.observed.slots[live]
    if _was_tracked(service, given, identities):
        words = pin_settled(words)
    if live == identities.extents[service.name]:
        return words, given.occupancy.slots[live] if given.occupancy else None
    return resample_slots(words, service.ring_size), None


def _was_tracked(service: Service, given: Given, identities: Identities) -> bool:
    """Whether every flow was remembered until now, also in settled slots."""
    info = given.observed.service_info.get(identities.services[service.name])
    was_always = info is not None and info.flow_tracking is FlowTracking.ALWAYS
    return was_always and service.flow_tracking is FlowTracking.ON_CHANGE


def _fill_ring(
    service: Service, identities: Identities, build_ring: BuildRing
) -> NDArray[np.uint16]:
    weights = measure_weights(service.backends)
    if not weights:
        return np.zeros(service.ring_size, np.uint16)
    names = maglev.ring_names(weights)
    ids = np.array([identities.backends[service.name, name] for name in names], np.uint16)
    return ids[build_ring(weights, service.ring_size)]


def _learns_flows(service: Service) -> bool:
    """Whether moved slots learn which flows are older.

    Where every datagram's flow is remembered, an unknown one is new.
    """
    if service.flow_tracking is FlowTracking.NEVER:
        return False
    return service.protocol is Protocol.TCP or service.flow_tracking is FlowTracking.ON_CHANGE


def _window_ns(service: Service) -> int:
    return measure_window_ns(service.protocol, timeout_ns(service))
