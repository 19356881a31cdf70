"""Packets, and what shall become of them, by scapy.

They are written in IPv4; `in_family` makes the same of them in IPv6.

Expected packets are the packets that went in with other addresses, their
checksums computed anew over everything: none of xdplb's arithmetic is in them.
"""

from __future__ import annotations

from typing import Any

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from reconciler.model import Protocol

from . import network, services

LAYERS = {Protocol.TCP: TCP, Protocol.UDP: UDP}
PAYLOAD = b"one two three"  # of odd length
CLIENT_PORT = 40_000
TO_BALANCER = {
    network.FRONT: {
        "src": network.neighbour_mac(network.CLIENT),
        "dst": network.MAC[network.FRONT],
    },
    network.BACK: {"src": network.neighbour_mac("10.0.0.11"), "dst": network.MAC[network.BACK]},
}


def make_l4(protocol: Protocol, sport: int, dport: int, **fields: Any) -> Packet:
    """A transport header; a TCP segment is an ACK unless the fields say otherwise."""
    if protocol is Protocol.TCP:
        fields = {"flags": "A", "seq": 1_000_000, "ack": 2_000_000, **fields}
    return LAYERS[protocol](sport=sport, dport=dport, **fields)


def to_service(
    protocol: Protocol,
    vip: str = services.PLAIN,
    *,
    client: str = network.CLIENT,
    client_port: int = CLIENT_PORT,
    port: int = services.VIP_PORT,
    payload: bytes = PAYLOAD,
    ip: dict[str, Any] | None = None,
    **l4: Any,
) -> Packet:
    """A client's packet for a VIP, or for any address."""
    header = IP(**{"src": client, "dst": vip, "id": 4711, **(ip or {})})
    packet = Ether(**TO_BALANCER[network.FRONT]) / header
    packet /= make_l4(protocol, client_port, port, **l4)
    return packet / Raw(payload) if payload else packet


def from_backend(
    protocol: Protocol,
    backend: str = services.PLAIN_BACKEND,
    port: int = services.BACKEND_PORT[services.PLAIN],
    *,
    client: str = network.CLIENT,
    client_port: int = CLIENT_PORT,
    payload: bytes = PAYLOAD,
    ip: dict[str, Any] | None = None,
    **l4: Any,
) -> Packet:
    """A backend's packet for a client."""
    header = IP(**{"src": backend, "dst": client, "id": 815, **(ip or {})})
    packet = Ether(**TO_BALANCER[network.BACK]) / header
    packet /= make_l4(protocol, port, client_port, **l4)
    return packet / Raw(payload) if payload else packet


def rewritten(
    packet: Packet,
    *,
    src: tuple[str, int] | None = None,
    dst: tuple[str, int] | None = None,
    interface: str | None = None,
    hop: str = "",
) -> Packet:
    """The packet with another source or destination, and right checksums.

    With an `interface` it leaves by that one for the neighbour `hop`; without, the
    stack shall route it.
    """
    out = packet.copy()
    ip, l4 = out[IP], out[TCP] if TCP in out else out[UDP]
    if src:
        ip.src, l4.sport = src
    if dst:
        ip.dst, l4.dport = dst
    if interface:
        ip.ttl -= 1
        out[Ether].src, out[Ether].dst = network.MAC[interface], network.neighbour_mac(hop)
    ip.chksum = None
    if not (UDP in out and l4.chksum == 0):  # RFC 768: the sender made none
        l4.chksum = None
    return out


def to_backend(packet: Packet, backend: str = services.PLAIN_BACKEND) -> Packet:
    """What a backend behind the balancer gets for a client's packet."""
    port = services.BACKEND_PORT[packet[IP].dst]
    return rewritten(packet, dst=(backend, port), interface=network.BACK, hop=backend)


def to_client(packet: Packet, vip: str = services.PLAIN) -> Packet:
    """What a client in front of the balancer gets for a backend's packet."""
    vip_port = (vip, services.VIP_PORT)
    hop = packet[IP].dst if packet[IP].dst == network.CLIENT else network.GATEWAY
    return rewritten(packet, src=vip_port, interface=network.FRONT, hop=hop)


def in_family(packet: Packet, family: int) -> Packet:
    """The packet, if its family is to be IPv4; else the same between the IPv6 twins."""
    if family == 4:
        return packet
    out = packet.copy()
    ip, link = out[IP], out[IP].underlayer
    l4 = ip.payload.copy()
    link.remove_payload()
    link.type = 0x86DD
    if TCP in l4 or UDP in l4:
        l4.chksum = None
    there = {"src": network.twin(ip.src), "dst": network.twin(ip.dst)}
    return out / IPv6(**there, hlim=ip.ttl, tc=ip.tos) / l4


def read_ip(packet: Packet) -> Packet:
    """The outermost IP header and all behind it."""
    ip = packet
    while not isinstance(ip, IP | IPv6):
        ip = ip.payload
    return ip


def lower(packet: Packet) -> Packet:
    """The packet one hop later."""
    out = packet.copy()
    ip = read_ip(out)
    if isinstance(ip, IP):
        ip.ttl, ip.chksum = ip.ttl - 1, None
    else:
        ip.hlim -= 1
    return out


def passed_on(packet: Packet, interface: str = network.BACK, hop: str = "") -> Packet:
    """The packet with other MACs: from an interface, for a neighbour."""
    out = packet.copy()
    out[Ether].src = network.MAC[interface]
    out[Ether].dst = network.neighbour_mac(hop or services.PLAIN_BACKEND)
    return out


def has_right_checksums(frame: bytes) -> bool:
    """Whether scapy, computing every checksum anew, comes to the same bytes."""
    packet = Ether(frame)
    ip, l4 = read_ip(packet), packet.getlayer(TCP) or packet.getlayer(UDP)
    if isinstance(ip, IP):
        ip.chksum = None
    if not (UDP in packet and l4.chksum == 0):
        l4.chksum = None
    return bytes(packet) == frame
