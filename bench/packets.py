"""The packets that contenders get, and how many flows they are of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from bench.balancer import GATEWAY_MAC, MAC, PORT
from reconciler.model import IPAddress

# struct course (programs/course.h).
_COURSE = np.dtype(
    [
        ("headers", "u1", (96,)),
        ("frame_size", "u4"),
        ("flow_mask", "u4"),
        ("port_bits", "u4"),
        ("address_shift", "u4"),
        ("port_shift", "u4"),
        ("unused", "u4"),
        ("count", "u8"),
        ("client", "u4"),
        ("ports", "u4"),
        ("ip_check", "u2"),
        ("tcp_check", "u2"),
    ]
)
COURSE_SIZE = _COURSE.itemsize
CLIENTS = {4: "10.0.0.0", 6: "2001:db8:1::"}  # and those that follow; 2^24 of them
CLIENT_PORT = 1024
_PAYLOAD = bytes(64 - 14 - 20)  # a little more than the smallest frame
_HEADERS = {4: 54, 6: 74}


@dataclass(frozen=True)
class Flows:
    """How packets differ: 2^bits flows, of which 2^port_bits share a client's address."""

    name: str
    bits: int
    port_bits: int
    tcp_flags: str = "A"


ONE = Flows("1 flow", 0, 0)
MANY = Flows("64 k flows", 16, 4)
MOST = Flows("1 M flows", 20, 4)
SYNS = Flows("SYNs, all new", 32, 8, "S")
CLIENTS_ONLY = Flows("1 M clients", 20, 0)
ALL_FLOWS = (ONE, MANY, MOST, SYNS, CLIENTS_ONLY)


def make_packet(
    family: int, source: IPAddress | str, destination: IPAddress | str, sport: int, dport: int
) -> Packet:
    """A TCP segment that comes from the gateway."""
    ip = IP if family == 4 else IPv6
    ends = {"src": str(source), "dst": str(destination)}
    link = Ether(src=GATEWAY_MAC, dst=MAC)
    return link / ip(**ends) / TCP(sport=sport, dport=dport, flags="A") / Raw(_PAYLOAD)


def to_address(family: int, address: IPAddress | str) -> Packet:
    """The first client's packet for an address."""
    return make_packet(family, CLIENTS[family], address, CLIENT_PORT, PORT)


def encode_course(
    packet: Packet, flows: Flows, *, family: int = 4, is_reply: bool = False
) -> tuple[bytes, bytes]:
    """Return a first packet's bytes, and what programs/course.h makes the others of."""
    first = packet.copy()
    first[TCP].flags = flows.tcp_flags
    frame = bytes(first)
    course = np.zeros((), _COURSE)
    course["frame_size"] = len(frame)
    course["flow_mask"] = 2**flows.bits - 1
    course["port_bits"] = flows.port_bits
    course["address_shift"] = 32 if is_reply else 0
    course["port_shift"] = 16 if is_reply else 0
    size = _HEADERS[family]
    course["headers"][:size] = np.frombuffer(frame[:size], np.uint8)
    tcp = size - 20
    course["ip_check"] = np.frombuffer(frame[24:26], "u2")[0]
    course["tcp_check"] = np.frombuffer(frame[tcp + 16 : tcp + 18], "u2")[0]
    return frame, course.tobytes()


def read_count(course: bytes) -> int:
    """How many packets a course has had so far."""
    return int(np.frombuffer(course, _COURSE)["count"][0])
