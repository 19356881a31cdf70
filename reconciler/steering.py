"""Which backend a client gets, computed from tables as the data plane does it."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.flowhash import choose_slot
from reconciler.model import Affinity, IPAddress
from reconciler.tables import ServiceRow, Tables, unpack_slots


@dataclass(frozen=True)
class Choice:
    """What a new flow of a client gets.

    `affinity` is what of the client it goes by. `slot` counts from the start of the
    service's ring. `backend` is None where the service has none; `previous` is who keeps
    the older flows of a moved slot.
    """

    service: str
    affinity: Affinity
    slot: int
    ring_size: int
    backend: str | None
    address: IPAddress | None
    port: int | None
    previous: str | None


def find_choices(tables: Tables, client: IPAddress, port: int) -> tuple[Choice, ...]:
    """Return the choice of every service that this client's family can reach, by name."""
    rows = {
        row.id: row
        for endpoint, row in tables.services.items()
        if row.id and endpoint.address.version == client.version
    }
    choices = [_choose(tables, row, client, port) for row in rows.values()]
    return tuple(sorted(choices, key=lambda choice: choice.service))


def _choose(tables: Tables, row: ServiceRow, client: IPAddress, port: int) -> Choice:
    seed = tables.settings[0].hash_seed
    slot = choose_slot(client, port, row.affinity, seed, row.ring_size)
    index = row.ring_offset + slot
    backend, previous = (int(ids[0]) for ids in unpack_slots(tables.slots[index : index + 1]))
    found = tables.backends.get(backend)
    return Choice(
        tables.service_info[row.id].name,
        row.affinity,
        slot,
        row.ring_size,
        _name(tables, backend),
        found.address if found else None,
        found.port if found else None,
        _name(tables, previous) if previous != backend else None,
    )


def _name(tables: Tables, backend: int) -> str | None:
    info = tables.backend_info.get(backend)
    return info.name if info else None
