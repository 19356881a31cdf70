"""Tables as people see them: services, backends, interfaces, by address.

An address is a path such as `service.web.backend.web-2`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reconciler.overrides import BackendName
from reconciler.tables import (
    BackendInfo,
    Settings,
    Tables,
    group_backends,
    ring_extents,
    unpack_slots,
)

Attributes: TypeAlias = dict[str, Any]
Resources: TypeAlias = dict[str, Attributes]


def backend_address(service: str, backend: str) -> str:
    """Return the address of a backend."""
    return f"service.{service}.backend.{backend}"


def find_service(address: str) -> str:
    """Return whose backend an address is; empty if it is not a backend's."""
    parts = address.split(".", 3)
    return parts[1] if len(parts) == 4 and parts[2] == "backend" else ""


def list_resources(tables: Tables) -> Resources:
    """Return what the tables hold, by address, in a stable order.

    Backends that left the file and stay only for their flows are not listed.
    """
    resources: Resources = {}
    for name, attachment in sorted(tables.attachments.items()):
        resources[f"interface.{name}"] = {
            "mode": attachment.mode.value,
            "program": attachment.program_sha256[:12],
        }
    if 0 in tables.settings:
        resources["settings"] = _describe_settings(tables.settings[0])
    for service in _services(tables):
        resources[f"service.{service['name']}"] = service
    for address, backend in _backends(tables):
        resources[address] = backend
    return resources


def _describe_settings(settings: Settings) -> Attributes:
    tunnel = settings.tunnel
    sources = [str(source) for source in (tunnel.source_ipv4, tunnel.source_ipv6) if source]
    return {
        "hash_seed": settings.hash_seed,
        "tunnel_source": sources,
        "gue_port": tunnel.gue_port,
        "gue_checksum": tunnel.gue_checksum,
        "icmp_echo": "answer" if settings.answers_echo else "pass",
    }


def _services(tables: Tables) -> list[Attributes]:
    vips = defaultdict(list)
    rows = {}
    for endpoint, row in tables.services.items():
        if row.id:
            vips[row.id].append(endpoint)
            rows[row.id] = row
    found = []
    for number, info in sorted(tables.service_info.items(), key=lambda item: item[1].name):
        if number in rows:
            endpoint = vips[number][0]
            found.append(
                {
                    "name": info.name,
                    "vips": sorted(str(e.address) for e in vips[number]),
                    "port": endpoint.port,
                    "protocol": endpoint.protocol.name.lower(),
                    "forwarding": rows[number].forwarding.name.lower(),
                    "affinity": rows[number].affinity.name.lower(),
                    "ring_size": rows[number].ring_size,
                    "drain_timeout_ms": info.drain_timeout_ms,
                    "flow_tracking": info.flow_tracking.name.lower(),
                    "flow_idle_timeout_ms": info.flow_idle_timeout_ms,
                    "shared": rows[number].is_shared,
                }
            )
    return found


def _backends(tables: Tables) -> list[tuple[str, Attributes]]:
    found = []
    for number, row in tables.backends.items():
        info = tables.backend_info.get(number)
        service = tables.service_info.get(row.service)
        if info is None or service is None or info.leaves_ns:
            continue
        attributes = {
            "address": str(row.address),
            "port": row.port,
            "weight": info.weight,
            "state": row.state.name.lower(),
            "health": _describe_health(info),
        }
        found.append((backend_address(service.name, info.name), attributes))
    return sorted(found)


def _describe_health(info: BackendInfo) -> str:
    if info.is_down:
        return "down"
    given = 100 - info.withheld_percent
    return "up" if given == 100 else f"up at {given} %"


def count_slots(tables: Tables) -> dict[str, dict[str, int]]:
    """Return, by service name, how many slots lead to each of its backends, by name."""
    counts = {}
    groups = group_backends(tables)
    for number, extent in ring_extents(tables).items():
        info = tables.service_info.get(number)
        if info is not None:
            per_id = np.bincount(unpack_slots(tables.slots[extent])[0])
            counts[info.name] = _name_counts(tables, groups.get(number, []), per_id)
    return counts


def _name_counts(
    tables: Tables, numbers: Iterable[int], per_id: NDArray[np.intp]
) -> dict[str, int]:
    named = sorted((tables.backend_info[i].name, i) for i in numbers if i in tables.backend_info)
    return {name: int(per_id[i]) if i < len(per_id) else 0 for name, i in named}


def find_ids(tables: Tables) -> dict[BackendName, int]:
    """Return the id of every backend in the tables, those on their way out included."""
    ids = {}
    for number, row in tables.backends.items():
        service, info = tables.service_info.get(row.service), tables.backend_info.get(number)
        if service and info:
            ids[service.name, info.name] = number
    return ids


def list_staying(tables: Tables) -> set[BackendName]:
    """Return the backends that the file has."""
    return {
        name
        for name, number in find_ids(tables).items()
        if not tables.backend_info[number].leaves_ns
    }


def changed_attributes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the keys in which two resources differ."""
    return [key for key in {**before, **after} if before.get(key) != after.get(key)]
