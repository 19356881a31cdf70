"""Where endpoints are found: a hash table that lies in two arrays, the twin of `bpf/directory.h`.

A hash map's lookup is a call that the JIT can't see into, and three of them were the
larger part of what a packet cost. Here a packet reads one group, and a row only if the
group has its tag.

    groups   8 places: 8 tags of one byte, 0 for an empty place, and 8 numbers of rows
    rows      an endpoint, and what it is: a service's VIP, a backend that replies, or both

Both arrays are mapped memory. Every step is one aligned store that a packet sees or
doesn't: a row is written before a group leads to it, and is changed by leading to
another one.

An endpoint's hash says its group and its home there. Who is at home is found without a search,
so a new one gets its home if that is empty, else any other place.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Any

import numpy as np

from reconciler import abi, codec
from reconciler.errors import Unavailable
from reconciler.model import Limits
from reconciler.rows import Cells, Rows
from reconciler.tables import Endpoint

Records = np.ndarray[tuple[int], np.dtype[np.void]]

_MASK = (1 << 64) - 1
# 2^64 over the golden ratio (Knuth, The Art of Computer Programming, 3, 6.4), and the
# multipliers of SplitMix64 for IPv6's other words.
GOLDEN = 0x9E3779B97F4A7C15
_WORD_FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_PARTS = {
    "services": ("service", abi.EntryPart.SERVICE),
    "nat_replies": ("reply", abi.EntryPart.REPLY),
}
# VIPs of a service that listens on its interface's own addresses, and their markers.
_VIPS_PER_SERVICE = 8
# A backend's new reply is written before its old one goes.
_REPLIES_PER_BACKEND = 2
# Rows that no new endpoint gets: one that is there can always be changed.
SPARE = 64


def count_entries(limits: Limits) -> int:
    """Return how many endpoints there is room for."""
    vips = _VIPS_PER_SERVICE * limits.services
    return vips + _REPLIES_PER_BACKEND * limits.backends + SPARE


def count_groups(rows: int) -> int:
    """Return how many groups `rows` endpoints need: a power of two, 2 a row at least.

    With half an endpoint a group, one of them has more than 8 with a chance of some 1
    in 10,000 (Poisson), when every row is in use.
    """
    return 1 << max(2 * rows - 1, 1).bit_length()


def hash_endpoint(endpoint: Endpoint) -> int:
    """Return the 64-bit hash of an endpoint: the top bits say the place, bits 33 to 39 the tag.

    A bit of the product depends on the bits below it only, and these 40 on the port and the
    address's last byte: the endpoints of a port have tags that differ.
    """
    data = codec.encode_address(endpoint.address)
    high, low = int.from_bytes(data[:8], "big"), int.from_bytes(data[8:], "big")
    x = (low << 32 | endpoint.port << 8 | endpoint.protocol) & _MASK
    x ^= (high * _WORD_FACTORS[0]) & _MASK
    x ^= ((low >> 32) * _WORD_FACTORS[1]) & _MASK
    return (x * GOLDEN) & _MASK


def _decode_entries(table: str, cells: Cells) -> list[tuple[Endpoint, Any]]:
    """Return the endpoints, each with what it is in one table."""
    field, _ = _PARTS[table]
    entries = cells.reshape(-1).view(abi.ENTRY)
    keys = codec.ENDPOINT.decode_many(entries["endpoint"].tobytes())
    values = codec.VALUES[table].decode_many(entries[field].tobytes())
    return list(zip(keys, values, strict=True))


class Directory:
    """The directory in `groups` (dtype `abi.GROUP`) and `rows` (dtype `abi.ENTRY`).

    Shapes: (a power of two,) and (n,). Both may be mapped memory; what is kept is which
    rows are free and what was read last, so it may be opened anew at any time. The last
    `spare` rows are for changes.
    """

    def __init__(self, groups: Records, rows: Records, spare: int = SPARE) -> None:
        self._groups = groups
        self._rows = rows
        self._spare = spare
        self._shift = 64 - (groups["tags"].size.bit_length() - 1)
        self._read = {table: Rows(partial(_decode_entries, table)) for table in _PARTS}
        # What was read last, by row and by endpoint.
        self._read_before: dict[str, tuple[dict[int, Any], dict[Endpoint, Any]]]
        self._read_before = {table: ({}, {}) for table in _PARTS}
        used = set(self._groups["rows"][self._groups["tags"] != 0].tolist())
        # A row rests before it is used again: a packet may still be reading it.
        self._free = deque(number for number in range(len(rows)) if number not in used)

    def read(self, table: str) -> dict[Endpoint, Any]:
        """Return the rows of `services` or of `nat_replies`."""
        _, part = _PARTS[table]
        numbers = self._groups["rows"][self._groups["tags"] != 0]
        numbers = numbers[(self._rows["parts"][numbers] & part) != 0]
        cells = np.zeros((len(self._rows), abi.ENTRY.itemsize), np.uint8)
        cells[numbers] = self._rows[numbers].view(np.uint8).reshape(-1, abi.ENTRY.itemsize)
        rows = self._read[table].read(cells)
        if rows is not self._read_before[table][0]:
            # In the order of the groups: which row an endpoint has says nothing of it.
            self._read_before[table] = rows, dict(rows[number] for number in numbers.tolist())
        return self._read_before[table][1]

    def put(self, table: str, key: Endpoint, row: Any) -> None:
        """Write what an endpoint is in one table; its part in the other stays.

        Raises:
            Unavailable: there is no room.
        """
        field, part = _PARTS[table]
        entry = self._copy(key)
        entry[field] = np.frombuffer(codec.VALUES[table].encode(row), entry[field].dtype)[0]
        entry["parts"] = entry["parts"] | np.uint32(part)
        self._replace(key, entry)

    def drop(self, table: str, key: Endpoint) -> None:
        """Take an endpoint's part in one table away.

        Raises:
            KeyError: it has none.
        """
        field, part = _PARTS[table]
        entry = self._copy(key)
        if not entry["parts"] & part:
            raise KeyError(key)
        entry[field] = np.zeros((), entry[field].dtype)
        entry["parts"] = entry["parts"] & ~np.uint32(part)
        self._replace(key, entry)

    def _copy(self, key: Endpoint) -> Any:
        """What the endpoint is now, to be changed."""
        place = self._find(key)
        if place is not None:
            return self._rows[self._groups["rows"][place]].copy()
        entry = np.zeros((), abi.ENTRY)
        entry["endpoint"] = np.frombuffer(codec.ENDPOINT.encode(key), abi.ENDPOINT)[0]
        return entry

    def _replace(self, key: Endpoint, entry: Any) -> None:
        group, home, tag = self._locate(key)
        place = self._find(key)
        if not entry["parts"]:
            if place is not None:
                self._groups["tags"][place] = 0
                self._free.append(int(self._groups["rows"][place]))
            return
        number = self._take_row(is_new=place is None)
        self._rows[number] = entry
        if place is not None:
            before = int(self._groups["rows"][place])
            self._groups["rows"][place] = number
            self._free.append(before)
            return
        empty = np.flatnonzero(self._groups["tags"][group] == 0).tolist()
        if not empty:
            self._free.append(number)
            raise Unavailable(
                f"no place for {key.address} port {key.port} in the directory of endpoints",
                remedy="raise limits.services or limits.backends in lb.yaml",
            )
        new_place = home if home in empty else empty[0]
        self._groups["rows"][group, new_place] = number
        self._groups["tags"][group, new_place] = tag

    def _take_row(self, *, is_new: bool) -> int:
        if is_new and len(self._free) <= self._spare:
            raise Unavailable(
                f"all {len(self._rows) - self._spare} endpoints are in use",
                remedy="raise limits.services or limits.backends in lb.yaml",
            )
        return self._free.popleft()

    def _locate(self, key: Endpoint) -> tuple[int, int, int]:
        """Return the group, the home in it, and the tag of an endpoint."""
        hashed = hash_endpoint(key)
        group, home = divmod(hashed >> self._shift, abi.GROUP_PLACES)
        return group, home, hashed >> 32 & 0xFF | 1

    def _find(self, key: Endpoint) -> tuple[int, int] | None:
        """Return the group and the place of an endpoint."""
        group, _, tag = self._locate(key)
        wanted = codec.ENDPOINT.encode(key)
        for place in np.flatnonzero(self._groups["tags"][group] == tag).tolist():
            row = self._rows[self._groups["rows"][group, place]]
            if row["endpoint"].tobytes() == wanted:
                return group, place
        return None
