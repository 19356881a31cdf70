"""Packets of checks that go by a VIP: whole, from the IP header on, and what answers them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import ip_address

from reconciler.model import IPAddress, Protocol

# RFC 9293, section 3.1.
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10

_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_TCP = struct.Struct("!HHIIBBHHH")
_UDP = struct.Struct("!4H")
_DONT_FRAGMENT = 0x4000
_HOPS = 64
_WINDOW = 65_535
_CHECKSUM_AT = {Protocol.TCP: 16, Protocol.UDP: 6}


@dataclass(frozen=True, slots=True)
class Call:
    """The addresses and ports of one question: from this machine to a VIP."""

    source: IPAddress
    source_port: int
    vip: IPAddress
    port: int
    protocol: Protocol


@dataclass(frozen=True, slots=True)
class Reply:
    """A packet that a VIP has sent back. `flags` and numbers are zero but for TCP."""

    call: Call
    flags: int = 0
    sequence: int = 0
    acknowledged: int = 0
    payload: bytes = b""


def make_segment(call: Call, flags: int, sequence: int) -> bytes:
    """Return a TCP segment without data."""
    header = _TCP.pack(
        call.source_port, call.port, sequence, 0, _TCP.size // 4 << 4, flags, _WINDOW, 0, 0
    )
    return _make_packet(call, header)


def make_datagram(call: Call, payload: bytes) -> bytes:
    """Return a UDP datagram."""
    header = _UDP.pack(call.source_port, call.port, _UDP.size + len(payload), 0)
    return _make_packet(call, header + payload)


def _make_packet(call: Call, segment: bytes) -> bytes:
    source, vip = call.source.packed, call.vip.packed
    pseudo = source + vip + struct.pack("!II", len(segment), call.protocol)
    # Zero means "no checksum" to UDP (RFC 768).
    checksum = add_up(pseudo + segment) or 0xFFFF
    at = _CHECKSUM_AT[call.protocol]
    segment = segment[:at] + struct.pack("!H", checksum) + segment[at + 2 :]
    if call.vip.version == 6:
        return _IPV6.pack(6 << 28, len(segment), call.protocol, _HOPS, source, vip) + segment
    size = _IPV4.size + len(segment)
    fields = (0x45, 0, size, 0, _DONT_FRAGMENT, _HOPS, call.protocol)
    header_checksum = add_up(_IPV4.pack(*fields, 0, source, vip))
    return _IPV4.pack(*fields, header_checksum, source, vip) + segment


def add_up(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def read_reply(packet: bytes) -> Reply | None:
    """Return what a packet, from the IP header on, answers; None if it can answer nothing.

    The packet was received by the kernel, but may be cut, or be of any kind.
    """
    try:
        return _read_ipv4(packet) if packet[0] >> 4 == 4 else _read_ipv6(packet)
    except (IndexError, struct.error):
        return None


def _read_ipv4(packet: bytes) -> Reply | None:
    _, _, size, _, fragment, _, protocol, _, source, destination = _IPV4.unpack_from(packet)
    if fragment & ~_DONT_FRAGMENT:
        return None
    segment = packet[(packet[0] & 0xF) * 4 : size]
    return _read_segment(source, destination, protocol, segment)


def _read_ipv6(packet: bytes) -> Reply | None:
    _, size, protocol, _, source, destination = _IPV6.unpack_from(packet)
    segment = packet[_IPV6.size : _IPV6.size + size]
    return _read_segment(source, destination, protocol, segment)


def _read_segment(source: bytes, destination: bytes, number: int, segment: bytes) -> Reply | None:
    here, vip = ip_address(destination), ip_address(source)
    if number == Protocol.TCP:
        port, local, sequence, acknowledged, offset, flags, *_ = _TCP.unpack_from(segment)
        payload = segment[(offset >> 4) * 4 :]
        call = Call(here, local, vip, port, Protocol.TCP)
        return Reply(call, flags, sequence, acknowledged, payload)
    if number == Protocol.UDP:
        port, local, size, _ = _UDP.unpack_from(segment)
        call = Call(here, local, vip, port, Protocol.UDP)
        return Reply(call, payload=segment[_UDP.size : size])
    return None
