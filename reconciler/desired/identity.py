"""Who is who: the ids and places of services and backends."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.allocation import assign_ids, find_extent
from reconciler.desired.given import Given, timeout_ns
from reconciler.model import Service
from reconciler.overrides import BackendName
from reconciler.tables import Tables, list_extents, ring_extents

# A removed backend leaves before its time if no flow has shown itself for so long.
QUIET_NS = 60 * 10**9


@dataclass(frozen=True)
class Retired:
    """A backend that left the file and stays a while, for its flows."""

    name: str
    leaves_ns: int


@dataclass(frozen=True)
class Identities:
    """Who has which id and which place; what exists keeps what it has.

    Attributes:
        services: ids by name.
        backends: ids, of those that are retired too.
        retired: by service.
        live: where rings lie now, by id of the service.
        extents: where they shall lie, by name.
    """

    services: Mapping[str, int]
    backends: Mapping[BackendName, int]
    retired: Mapping[str, list[Retired]]
    live: Mapping[int, slice]
    extents: Mapping[str, slice]


def identify(given: Given) -> Identities:
    """Return who has which id and place.

    Raises:
        Unavailable: ids or slots have run out.
    """
    config, observed = given.config, given.observed
    names = [service.name for service in config.services]
    known = {info.name: number for number, info in observed.service_info.items()}
    services = assign_ids(names, known, config.limits.services)
    known_backends = _observed_backend_ids(observed)
    retired = _find_retired(given, known_backends)
    named = [(s.name, b.name) for s in config.services for b in s.backends]
    leaving = [(service, each.name) for service, every in retired.items() for each in every]
    backends = assign_ids([*named, *leaving], known_backends, config.limits.backends)
    live = ring_extents(observed)
    extents = _assign_extents(given, {name: live.get(services[name]) for name in names})
    return Identities(services, backends, retired, live, extents)


def _observed_backend_ids(observed: Tables) -> dict[BackendName, int]:
    """Ids of backends whose rows are whole."""
    ids = {}
    for number, info in observed.backend_info.items():
        row = observed.backends.get(number)
        service = observed.service_info.get(row.service) if row else None
        if service:
            ids[service.name, info.name] = number
    return ids


def _find_retired(given: Given, known: Mapping[BackendName, int]) -> dict[str, list[Retired]]:
    services = {service.name: service for service in given.config.services}
    wanted = {(s.name, b.name) for s in services.values() for b in s.backends}
    retired: dict[str, list[Retired]] = defaultdict(list)
    for (service_name, name), number in known.items():
        service = services.get(service_name)
        if service is None or (service_name, name) in wanted:
            continue
        leaves_ns = given.observed.backend_info[number].leaves_ns
        leaves_ns = leaves_ns or given.now_ns + timeout_ns(service)
        if leaves_ns > given.now_ns and not _is_deserted(given, number, service, leaves_ns):
            retired[service_name].append(Retired(name, leaves_ns))
    return retired


def _is_deserted(given: Given, number: int, service: Service, leaves_ns: int) -> bool:
    """Whether the last flow of a removed backend has ended, as far as one can know."""
    if given.occupancy is None or given.occupancy.flows is None:
        return False
    removed_ns = leaves_ns - timeout_ns(service)
    return given.now_ns >= removed_ns + QUIET_NS and given.occupancy.flows[number] == 0


def _assign_extents(given: Given, live: Mapping[str, slice | None]) -> dict[str, slice]:
    """LastPass keep their place; a new one never overlaps a live one, wanted or not."""
    taken = list_extents(given.observed)
    extents = {}
    for service in given.config.services:
        extent = live[service.name]
        if extent is None or extent.stop - extent.start != service.ring_size:
            extent = find_extent(service.ring_size, taken, given.config.limits.ring_slots)
            taken.append(extent)
        extents[service.name] = extent
    return extents
