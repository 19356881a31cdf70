"""Bytes of the maps, spelled out: what `bpf/abi.h` says lies where."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from typing import Any

import pytest

from reconciler import abi, codec
from reconciler.model import Affinity, BackendState, FlowTracking, Forwarding, Protocol, Tunnel
from reconciler.tables import (
    BackendInfo,
    BackendRow,
    Endpoint,
    InterfaceRow,
    Meta,
    ReplyRow,
    ServiceInfo,
    ServiceRow,
    Settings,
)

V4 = IPv4Address("192.0.2.1")
V4_BYTES = "0" * 20 + "ffff" + "c0000201"
V6 = IPv6Address("2001:db8::1")
V6_BYTES = "20010db8" + "0" * 22 + "01"


@pytest.mark.parametrize(("address", "data"), [(V4, V4_BYTES), (V6, V6_BYTES)])
def test_addresses(address: IPv4Address | IPv6Address, data: str) -> None:
    assert codec.encode_address(address).hex() == data
    assert codec.decode_address(bytes.fromhex(data)) == address


@pytest.mark.parametrize("text", ["::", "::1", "::fffe:0:1", "::ffff:0:0:1", "0.0.0.0"])
def test_addresses_that_look_almost_like_the_other_family(text: str) -> None:
    address = ip_address(text)
    assert codec.decode_address(codec.encode_address(address)) == address


# Numbers of the host are little-endian here, ports are in network order everywhere.
ROWS: dict[str, tuple[Any, str]] = {
    "services": (
        ServiceRow(3, 0x100, 251, Forwarding.NAT, Affinity.CLIENT, is_shared=True),
        "00010000" + "fb000000" + "0300" + "01" + "01" + "01000000",
    ),
    "backends": (
        BackendRow(V4, 0x1F90, 3, Forwarding.GUE, BackendState.DRAIN, 7),
        V4_BYTES + "1f90" + "0300" + "04" + "02" + "0000" + "07000000",
    ),
    "nat_replies": (
        ReplyRow(V6, 443, 9, is_shared=True),
        V6_BYTES + "01bb" + "0900" + "0100" + "0000",
    ),
    "interfaces": (
        InterfaceRow(transmits=True, redirects=True, ipv4=IPv4Address("192.0.2.1")),
        "03000000" + "00000000000000000000ffffc0000201" + 16 * "00",
    ),
    "settings": (
        Settings(
            250,
            0x5EED,
            Tunnel(IPv4Network("10.200.0.0/16"), gue_port=6081),
            vip_filter=2 | 1 << 2000,
            directory_places=1024,
            has_replies=True,
        ),
        "04000000" + "fa000000" + "ed5e000000000000"
        "00000000000000000000ffff0ac80000" + 16 * "00" + "ffff0000" + "00000000"
        "17c101000000000036000000" + "01000000" + "02" + 249 * "00" + "01" + 5 * "00",
    ),
    "meta": (
        Meta(2, "ab" * 32, "", "cd" * 32),
        "0200000000000000" + "ab" * 32 + "00" * 32 + "cd" * 32,
    ),
    "service_info": (
        ServiceInfo("web", 300_000, True, 5, FlowTracking.NEVER, 120_000),
        b"web".hex().ljust(128, "0") + "0500000000000000" + "e0930400" + "c0d40100" + "01" + "02"
        "000000000000",
    ),
    "backend_info": (
        BackendInfo("b1", 100, 6),
        b"b1".hex().ljust(128, "0") + "0600000000000000" + "64000000" + "00000000",
    ),
}


@pytest.mark.skipif(abi.INDEX.newbyteorder("<") != abi.INDEX, reason="the bytes are little-endian")
@pytest.mark.parametrize("table", ROWS)
def test_rows(table: str) -> None:
    row, data = ROWS[table]
    assert codec.VALUES[table].encode(row).hex() == data
    assert codec.VALUES[table].decode(bytes.fromhex(data)) == row


def test_keys() -> None:
    key = Endpoint(V4, 0x1F90, Protocol.UDP)
    assert codec.ENDPOINT.encode(key).hex() == V4_BYTES + "1f90" + "11" + "00"
    assert codec.ENDPOINT.decode(codec.ENDPOINT.encode(key)) == key


@pytest.mark.parametrize("flags", range(4))
def test_interface_flags(flags: int) -> None:
    row = InterfaceRow(transmits=bool(flags & 1), redirects=bool(flags & 2))
    assert codec.VALUES["interfaces"].encode(row)[0] == flags


def test_a_name_may_fill_its_field() -> None:
    row = BackendInfo("x" * abi.NAME_SIZE, 1, 0)
    assert codec.VALUES["backend_info"].decode(codec.VALUES["backend_info"].encode(row)) == row


def test_no_rows_are_no_bytes() -> None:
    assert codec.VALUES["backends"].decode_many(b"") == []
