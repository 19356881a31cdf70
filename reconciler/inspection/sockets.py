"""What programs of this machine listen on, from proc(5)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from reconciler.model import IPAddress, Protocol
from reconciler.tables import Endpoint

# TCP_LISTEN and, of a UDP socket that is connected to nobody, TCP_CLOSE
# (include/net/tcp_states.h).
_LISTENING = {Protocol.TCP: "0A", Protocol.UDP: "07"}


def find_sockets() -> frozenset[Endpoint]:
    """Return the addresses, ports and protocols that somebody listens on."""
    return frozenset(
        endpoint
        for protocol in Protocol
        for name in (protocol.name.lower(), f"{protocol.name.lower()}6")
        for endpoint in _read_table(Path("/proc/net") / name, protocol)
    )


def _read_table(path: Path, protocol: Protocol) -> Iterator[Endpoint]:
    try:
        lines = path.read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return  # a kernel without IPv6
    for line in lines:
        _, local, _, state, *_ = line.split()
        if state == _LISTENING[protocol]:
            address, _, port = local.partition(":")
            yield Endpoint(parse_address(address), int(port, 16), protocol)


def parse_address(digits: str) -> IPAddress:
    """Return an address as /proc/net prints it: 32-bit words in the machine's byte order."""
    words = [int(digits[i : i + 8], 16) for i in range(0, len(digits), 8)]
    packed = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
    if len(packed) == 4:
        return IPv4Address(packed)
    address = IPv6Address(packed)
    return address.ipv4_mapped or address
