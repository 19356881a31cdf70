"""The limits that an instance's maps were made with: the way back of `list_capacities`."""

from __future__ import annotations

import os

from reconciler.dataplane.kernel import SLOTS_PER_PAIR, KernelDataplane
from reconciler.model import Limits


def read_limits(dataplane: KernelDataplane) -> Limits:
    """Return the capacities of the pinned maps, as lb.yaml gives them.

    An odd `ring_slots` comes back even: slots lie in the map in pairs.

    Raises:
        KernelRefused: a map is not there.
    """
    return Limits(
        services=_count_entries(dataplane, "service_info") - 1,  # id 0 is nobody's
        backends=_count_entries(dataplane, "backend_info") - 1,
        ring_slots=_count_entries(dataplane, "slots") * SLOTS_PER_PAIR,
        flows=_count_entries(dataplane, "flows"),
    )


def _count_entries(dataplane: KernelDataplane, name: str) -> int:
    fd = dataplane.libbpf.get(dataplane.pins.map(name))
    try:
        return dataplane.libbpf.map_info(fd)[2]
    finally:
        os.close(fd)
