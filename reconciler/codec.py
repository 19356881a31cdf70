"""Rows to bytes and back, by the dtypes of `reconciler.abi`. Law: decode(encode(x)) = x."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconciler import abi
from reconciler.model import (
    Affinity,
    BackendState,
    FlowTracking,
    Forwarding,
    IPAddress,
    Protocol,
    Tunnel,
)
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

_V4_PREFIX = bytes(10) + b"\xff\xff"


def encode_address(address: IPAddress) -> bytes:
    """Return 16 bytes; IPv4 as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2)."""
    if isinstance(address, IPv4Address):
        return _V4_PREFIX + address.packed
    return address.packed


def decode_address(data: bytes) -> IPAddress:
    """The inverse of `encode_address`."""
    return IPv4Address(data[12:]) if data[:12] == _V4_PREFIX else IPv6Address(data)


@dataclass(frozen=True)
class Codec:
    """How rows of one type lie in a map: `dtype`, and each way as a tuple of its fields."""

    dtype: np.dtype[np.void]
    to_fields: Callable[[Any], tuple[Any, ...]]
    from_fields: Callable[[tuple[Any, ...]], Any]

    def encode(self, row: Any) -> bytes:
        """Return the row's bytes, `dtype.itemsize` of them."""
        return np.array(self.to_fields(row), self.dtype).tobytes()

    def decode_many(self, data: bytes) -> list[Any]:
        """Return the rows that lie one behind the other in `data`."""
        return [self.from_fields(fields) for fields in np.frombuffer(data, self.dtype).tolist()]

    def decode_cells(self, cells: NDArray[np.uint8]) -> list[Any]:
        """Return the rows of an array of bytes, shape (rows, dtype.itemsize)."""
        return self.decode_many(cells.tobytes())

    def decode(self, data: bytes) -> Any:
        """Return the row that `data` holds."""
        return self.decode_many(data)[0]


def _endpoint_fields(row: Endpoint) -> tuple[Any, ...]:
    return encode_address(row.address), row.port, row.protocol, 0


def _endpoint(fields: tuple[Any, ...]) -> Endpoint:
    return Endpoint(decode_address(fields[0]), fields[1], Protocol(fields[2]))


def _service_fields(row: ServiceRow) -> tuple[Any, ...]:
    shared = abi.ServiceFlag.SHARED if row.is_shared else 0
    tracked = abi.ServiceFlag.TRACKED if row.is_tracked else 0
    flags = shared | tracked
    return row.ring_offset, row.ring_size, row.id, row.forwarding, row.affinity, flags


def _service(fields: tuple[Any, ...]) -> ServiceRow:
    offset, size, service, forwarding, affinity, flags = fields
    return ServiceRow(
        service,
        offset,
        size,
        Forwarding(forwarding),
        Affinity(affinity),
        bool(flags & abi.ServiceFlag.SHARED),
        bool(flags & abi.ServiceFlag.TRACKED),
    )


def _backend_fields(row: BackendRow) -> tuple[Any, ...]:
    address = encode_address(row.address)
    return address, row.port, row.service, row.forwarding, row.state, 0, row.born


def _backend(fields: tuple[Any, ...]) -> BackendRow:
    address, port, service, forwarding, state, _, born = fields
    return BackendRow(
        decode_address(address), port, service, Forwarding(forwarding), BackendState(state), born
    )


def _reply_fields(row: ReplyRow) -> tuple[Any, ...]:
    flags = abi.ReplyFlag.SHARED if row.is_shared else 0
    return encode_address(row.vip), row.vip_port, row.backend, flags, 0


def _reply(fields: tuple[Any, ...]) -> ReplyRow:
    vip, port, backend, flags, _ = fields
    return ReplyRow(decode_address(vip), port, backend, bool(flags & abi.ReplyFlag.SHARED))


def _interface_fields(row: InterfaceRow) -> tuple[Any, ...]:
    transmits = abi.InterfaceFlag.TRANSMITS if row.transmits else 0
    redirects = abi.InterfaceFlag.REDIRECTS if row.redirects else 0
    return transmits | redirects, _encode_optional(row.ipv4), _encode_optional(row.ipv6)


def _interface(fields: tuple[Any, ...]) -> InterfaceRow:
    flags = abi.InterfaceFlag(fields[0])
    ipv4, ipv6 = (decode_address(data) if any(data) else None for data in fields[1:])
    assert not isinstance(ipv4, IPv6Address)
    assert not isinstance(ipv6, IPv4Address)
    return InterfaceRow(
        abi.InterfaceFlag.TRANSMITS in flags, abi.InterfaceFlag.REDIRECTS in flags, ipv4, ipv6
    )


def _encode_optional(address: IPAddress | None) -> bytes:
    return encode_address(address) if address else bytes(16)


def _split_filter(bits: int) -> list[int]:
    return [bits >> 64 * number & 2**64 - 1 for number in range(abi.VIP_FILTER_WORDS)]


def _join_filter(words: Iterable[int]) -> int:
    return sum(int(word) << 64 * number for number, word in enumerate(words))


def _settings_fields(row: Settings) -> tuple[Any, ...]:
    sources: list[IPv4Network | IPv6Network | None] = [
        row.tunnel.source_ipv4,
        row.tunnel.source_ipv6,
    ]
    return (
        abi.ABI_VERSION,
        row.ticks_per_second,
        row.hash_seed,
        *(_encode_optional(source.network_address if source else None) for source in sources),
        *(int(source.hostmask) if source else 0 for source in sources),
        row.tunnel.gue_port,
        row.tunnel.gue_checksum,
        not row.answers_echo,
        64 - (row.directory_places.bit_length() - 1),
        row.has_replies,
        _split_filter(row.vip_filter),
    )


def _settings(fields: tuple[Any, ...]) -> Settings:
    (
        _,
        ticks,
        seed,
        ipv4,
        ipv6,
        hosts_ipv4,
        hosts_ipv6,
        gue_port,
        gue_checksum,
        passes_echo,
        shift,
        has_replies,
        vips,
    ) = fields
    tunnel = Tunnel(
        IPv4Network((decode_address(ipv4), 32 - hosts_ipv4.bit_length())) if any(ipv4) else None,
        IPv6Network((decode_address(ipv6), 128 - hosts_ipv6.bit_length())) if any(ipv6) else None,
        gue_port,
        bool(gue_checksum),
    )
    return Settings(
        ticks,
        seed,
        tunnel,
        not passes_echo,
        _join_filter(vips),
        1 << (64 - shift),
        bool(has_replies),
    )


def _meta_fields(row: Meta) -> tuple[Any, ...]:
    return (
        row.generation,
        bytes.fromhex(row.config_sha256).ljust(32, b"\0"),
        bytes.fromhex(row.meaning_sha256).ljust(32, b"\0"),
        bytes.fromhex(row.program_sha256).ljust(32, b"\0"),
    )


def _decode_digest(data: bytes) -> str:
    return data.hex() if any(data) else ""


def _service_info_fields(row: ServiceInfo) -> tuple[Any, ...]:
    return (
        row.name.encode(),
        row.window_end_ns,
        row.drain_timeout_ms,
        row.flow_idle_timeout_ms,
        row.own_addresses,
        row.flow_tracking,
        b"",
    )


def _service_info(fields: tuple[Any, ...]) -> ServiceInfo:
    name, window_end_ns, drain_timeout_ms, idle_ms, own, tracking, _ = fields
    return ServiceInfo(
        name.decode(), drain_timeout_ms, bool(own), window_end_ns, FlowTracking(tracking), idle_ms
    )


def _backend_info_fields(row: BackendInfo) -> tuple[Any, ...]:
    return row.name.encode(), row.leaves_ns, row.weight, row.withheld_percent


def _backend_info(fields: tuple[Any, ...]) -> BackendInfo:
    name, leaves_ns, weight, withheld_percent = fields
    return BackendInfo(name.decode(), weight, leaves_ns, withheld_percent)


ENDPOINT = Codec(abi.ENDPOINT, _endpoint_fields, _endpoint)

VALUES: Mapping[str, Codec] = {
    "services": Codec(abi.SERVICE, _service_fields, _service),
    "backends": Codec(abi.BACKEND, _backend_fields, _backend),
    "nat_replies": Codec(abi.REPLY, _reply_fields, _reply),
    "interfaces": Codec(abi.INTERFACE, _interface_fields, _interface),
    "settings": Codec(abi.SETTINGS, _settings_fields, _settings),
    "meta": Codec(
        abi.META,
        _meta_fields,
        lambda f: Meta(f[0], *(_decode_digest(digest) for digest in f[1:])),
    ),
    "service_info": Codec(abi.SERVICE_INFO, _service_info_fields, _service_info),
    "backend_info": Codec(abi.BACKEND_INFO, _backend_info_fields, _backend_info),
}
"""The codec of each table's values. Keys are `ENDPOINT`s in `services` and
`nat_replies`, and 32-bit indexes elsewhere."""
