"""Laws of `reconciler.codec`: what is written is what is read."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler import codec
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

# The file refuses IPv4-mapped addresses: they mean the IPv4 address.
addresses = st.ip_addresses(v=4) | st.ip_addresses(v=6).filter(lambda one: not one.ipv4_mapped)
ports = st.integers(0, 2**16 - 1)
u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
groups = st.integers(0, 20).map(lambda bits: 1 << bits)
names = st.from_regex(r"[A-Za-z0-9\[][A-Za-z0-9_.:\[\]-]{0,62}", fullmatch=True)
digests = st.just("") | st.binary(min_size=32, max_size=32).filter(any).map(bytes.hex)

# An interface's own address, and a tunnel's source, is somebody's: never all zero.
own_ipv4 = st.ip_addresses(v=4).filter(lambda one: not one.is_unspecified)
own_ipv6 = st.ip_addresses(v=6).filter(lambda one: not one.ipv4_mapped and int(one) >> 32)
ipv4_networks = st.builds(
    lambda one, length: IPv4Network((one, length), strict=False), own_ipv4, st.integers(8, 32)
).filter(lambda one: int(one.network_address))
ipv6_networks = st.builds(
    lambda one, length: IPv6Network((one, length), strict=False), own_ipv6, st.integers(96, 128)
)
tunnels = st.builds(
    Tunnel, st.none() | ipv4_networks, st.none() | ipv6_networks, ports, st.booleans()
)

endpoints = st.builds(Endpoint, addresses, ports, st.sampled_from(Protocol))
ROWS: dict[str, st.SearchStrategy[Any]] = {
    "services": st.builds(
        ServiceRow,
        u16,
        u32,
        u32,
        st.sampled_from(Forwarding),
        st.sampled_from(Affinity),
        st.booleans(),
    ),
    "backends": st.builds(
        BackendRow,
        addresses,
        ports,
        u16,
        st.sampled_from(Forwarding),
        st.sampled_from(BackendState),
        u32,
    ),
    "nat_replies": st.builds(ReplyRow, addresses, ports, u16, st.booleans()),
    "interfaces": st.builds(
        InterfaceRow, st.booleans(), st.booleans(), st.none() | own_ipv4, st.none() | own_ipv6
    ),
    "settings": st.builds(
        Settings, u32, u64, tunnels, st.booleans(), u64, groups, has_replies=st.booleans()
    ),
    "meta": st.builds(Meta, u64, digests, digests, digests),
    "service_info": st.builds(
        ServiceInfo, names, u32, st.booleans(), u64, st.sampled_from(FlowTracking), u32
    ),
    "backend_info": st.builds(BackendInfo, names, u32, u64, st.integers(0, 100)),
}


def test_every_table_has_a_law() -> None:
    assert set(ROWS) == set(codec.VALUES)


@pytest.mark.parametrize("table", ROWS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_decode_is_the_inverse_of_encode(table: str, data: st.DataObject) -> None:
    row = data.draw(ROWS[table])
    encoded = codec.VALUES[table].encode(row)
    assert len(encoded) == codec.VALUES[table].dtype.itemsize
    assert codec.VALUES[table].decode(encoded) == row
    assert type(codec.VALUES[table].decode(encoded)) is type(row)


@pytest.mark.parametrize("table", ROWS)
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_many_rows_are_the_rows_one_behind_the_other(table: str, data: st.DataObject) -> None:
    rows = data.draw(st.lists(ROWS[table], max_size=4))
    one = codec.VALUES[table]
    assert one.decode_many(b"".join(one.encode(row) for row in rows)) == rows


@given(endpoints, endpoints)
def test_keys_are_equal_exactly_when_their_bytes_are(one: Endpoint, other: Endpoint) -> None:
    assert codec.ENDPOINT.decode(codec.ENDPOINT.encode(one)) == one
    assert (codec.ENDPOINT.encode(one) == codec.ENDPOINT.encode(other)) == (one == other)


@given(addresses)
def test_an_address_is_sixteen_bytes(address: IPv4Address | IPv6Address) -> None:
    assert len(codec.encode_address(address)) == 16
    assert codec.decode_address(codec.encode_address(address)) == address
