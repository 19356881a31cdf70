"""How large the maps are: from the limits of lb.yaml, and back."""

from __future__ import annotations

from collections.abc import Callable

from reconciler.directory import count_entries, count_groups
from reconciler.model import Limits

_FLOWS_PER_ORIGIN = 4
_FLOWS_PER_NEWCOMER = 16
# An LRU table keeps lists for each CPU, and is no good when it is small.
_FEWEST_IN_LRU = 1024
_SLOTS_PER_PAIR = 2


def list_capacities(limits: Limits) -> dict[str, int]:
    """Return the entries of each map whose size lb.yaml decides. Id 0 is nobody's."""
    per_backend = ("backends", "backend_info", "direct_seen", "backend_nexthops", "backend_stats")
    newcomers = max(limits.flows // _FLOWS_PER_NEWCOMER, _FEWEST_IN_LRU)
    return {
        "directory": count_groups(count_entries(limits)),
        "endpoints": count_entries(limits),
        "service_info": limits.services + 1,
        "slots": -(-limits.ring_slots // _SLOTS_PER_PAIR),
        "flows": limits.flows,
        "origins": max(limits.flows // _FLOWS_PER_ORIGIN, _FEWEST_IN_LRU),
        **dict.fromkeys(("pending", "strays"), newcomers),
        **dict.fromkeys(per_backend, limits.backends + 1),
    }


def read_limits(read_capacity: Callable[[str], int]) -> Limits:
    """Return the limits that an instance's maps were made with.

    An odd `ring_slots` comes back even: slots lie in the map in pairs. `read_capacity` says
    for how many entries a map has room.
    """
    return Limits(
        services=read_capacity("service_info") - 1,
        backends=read_capacity("backend_info") - 1,
        ring_slots=read_capacity("slots") * _SLOTS_PER_PAIR,
        flows=read_capacity("flows"),
    )
