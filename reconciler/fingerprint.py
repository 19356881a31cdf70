"""A short digest of what new flows get, to compare balancers by.

Two balancers with one fingerprint send every new flow to the same server in the same
way. Ids, the places of rings, interfaces, windows and what came before take no part in
it, for they may differ; nor do backends that get no new flow.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from reconciler.tables import Endpoint, ServiceRow, Tables, unpack_slots

_SIZE_BYTES = 8
# Its number grows when bpf/hash.h chooses other slots.
_PERSON = b"xdplb-rings-1"


@dataclass(frozen=True)
class Fingerprints:
    """Digests of 16 hex characters: of the whole instance, and of each service by its id."""

    whole: str
    services: Mapping[int, str]


def fingerprint_rings(tables: Tables) -> Fingerprints:
    """Return the fingerprints of tables, which need not be whole.

    What counts is, for each VIP with its port and protocol: hash seed, affinity, ring size,
    and the backend that each slot leads to, by name, address, port and forwarding. A service
    that no VIP leads to has no fingerprint.
    """
    every, services = [], defaultdict(list)
    for endpoint, row in sorted(tables.services.items(), key=_rank_vip):
        if row.ring_size:
            digest = _digest_ring(tables, endpoint, row)
            every.append(digest)
            services[row.id].append(digest)
    return Fingerprints(
        _digest(every).hex(), {number: _digest(parts).hex() for number, parts in services.items()}
    )


def _rank_vip(item: tuple[Endpoint, ServiceRow]) -> tuple[int, ...]:
    address, port, protocol = item[0]
    return address.version, int(address), port, protocol


def _digest_ring(tables: Tables, vip: Endpoint, row: ServiceRow) -> bytes:
    ids, _ = unpack_slots(tables.slots[row.ring_offset : row.ring_offset + row.ring_size])
    listed = _list_backends(tables, np.flatnonzero(np.bincount(ids)).tolist())
    # A slot is told by its backend's place among the names, from 1. Place 0 is nobody's, and
    # that of a backend which is not there: either way the data plane drops.
    places = np.zeros(2**16, "<u2")
    places[[number for *_, number in listed]] = np.arange(1, len(listed) + 1)
    facts = (
        str(vip.address),
        vip.port,
        int(vip.protocol),
        [settings.hash_seed for settings in tables.settings.values()],
        int(row.affinity),
        [description for *description, _ in listed],
    )
    return _digest([repr(facts).encode(), places[ids].tobytes()])


def _list_backends(tables: Tables, ids: Iterable[int]) -> list[tuple[str, str, int, int, int]]:
    """(name, address, port, forwarding, id) of those that are there, sorted."""
    there = [number for number in ids if number in tables.backends]
    rows = [(number, tables.backends[number], tables.backend_info.get(number)) for number in there]
    return sorted(
        (info.name if info else "", str(row.address), row.port, int(row.forwarding), number)
        for number, row, info in rows
    )


def _digest(parts: Iterable[bytes]) -> bytes:
    digest = hashlib.blake2b(digest_size=_SIZE_BYTES, person=_PERSON)
    for part in parts:
        digest.update(part)
    return digest.digest()
