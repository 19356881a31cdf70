"""Tables as values: equality, slots as words, who owns which slots."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import numpy as np
import pytest

from reconciler.model import Affinity, Forwarding, Protocol
from reconciler.tables import (
    ROW_TABLES,
    Endpoint,
    Meta,
    ServiceRow,
    Settings,
    Tables,
    make_empty_tables,
    pack_slots,
    ring_extents,
    unpack_slots,
)

VIP = Endpoint(IPv4Address("192.0.2.1"), 80, Protocol.TCP)
ROW = ServiceRow(1, 10, 251, Forwarding.NAT, Affinity.FLOW, is_shared=False)
MARKER = ServiceRow(0, 0, 0, Forwarding.NAT, Affinity.FLOW, is_shared=False)


def test_every_row_table_is_listed_once() -> None:
    assert len(ROW_TABLES) == len(set(ROW_TABLES)) == 9
    assert all(make_empty_tables(0).rows(name) == {} for name in ROW_TABLES)


def test_equality_is_of_every_table() -> None:
    tables = make_empty_tables(4)
    assert tables == make_empty_tables(4)
    for name in ROW_TABLES:
        assert tables != replace(tables, **{name: {0: Settings(250, 1)}})
    assert tables != make_empty_tables(5)
    assert tables != replace(tables, slots=np.array([0, 0, 0, 1], np.uint32))
    assert tables != "tables"


def test_tables_have_no_hash() -> None:
    with pytest.raises(TypeError):
        hash(make_empty_tables(1))


@pytest.mark.parametrize(
    ("meta", "generation", "sha256"), [({}, 0, ""), ({0: Meta(7, "ab", "cd", "ef")}, 7, "ab")]
)
def test_what_was_applied(meta: dict[int, Meta], generation: int, sha256: str) -> None:
    tables = Tables(meta=meta)
    assert (tables.generation, tables.config_sha256) == (generation, sha256)


def test_a_word_holds_backend_and_previous_as_the_data_plane_loads_them() -> None:
    words = pack_slots(np.array([1, 0xFFFF], np.uint16), np.array([2, 0], np.uint16))
    assert words.tobytes() == np.array([1, 2, 0xFFFF, 0], np.uint16).tobytes()
    assert [half.tolist() for half in unpack_slots(words)] == [[1, 0xFFFF], [2, 0]]
    assert [half.tolist() for half in unpack_slots(words[::2])] == [[1], [2]]


def test_an_extent_is_of_a_service_not_of_a_vip() -> None:
    other = VIP._replace(address=IPv4Address("192.0.2.2"))
    services = {VIP: ROW, other: ROW, VIP._replace(port=0): MARKER}
    assert ring_extents(Tables(services=services)) == {1: slice(10, 261)}
