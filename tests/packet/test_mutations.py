"""Broken packets, by the thousand: who is not for a VIP goes on as he came, and
nothing malformed is sent on. XDPLB_FRAMES says how many; 20,000 if it is not set."""

from __future__ import annotations

import os
import random
import struct

import pytest
from scapy.layers.inet import ICMP, IP, IPOption_RR
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw
from scapy.utils import checksum

from reconciler.abi import Verdict
from reconciler.model import Protocol

from . import network, services
from .packets import TO_BALANCER, from_backend, to_service

pytestmark = pytest.mark.root

FRAMES = int(os.environ.get("XDPLB_FRAMES", "20000"))
SEED = 2024
# The bytes that matter most, by offset in the frame: EtherType; IP version to TTL,
# protocol, addresses; ports; TCP data offset and flags, UDP length.
INTERESTING = (12, 13, 14, 16, 17, 20, 21, 22, 23, 33, 34, 35, 36, 37, 38, 39, 46, 47)
VALUES = (0, 1, 5, 6, 17, 20, 0x45, 0x46, 0x50, 0x7F, 0x80, 0xFF)


def list_seeds():
    front = Ether(**TO_BALANCER[network.FRONT])
    packets = [
        front / ARP(pdst=services.PLAIN),
        front / IP(dst=services.PLAIN) / ICMP() / Raw(b"ping"),
        front / IPv6(dst="2001:db8::80") / Raw(b"x" * 40),
        front / Dot1Q(vlan=5) / IP(dst=services.PLAIN) / Raw(b"x" * 40),
    ]
    vips = (services.PLAIN, services.TRIO, services.SHARED, services.STICKY, services.EMPTY)
    for protocol in Protocol:
        packets += [to_service(protocol, vip) for vip in vips]
        packets += [
            to_service(protocol, "203.0.113.9"),
            to_service(protocol, payload=b""),
            to_service(protocol, ip={"options": [IPOption_RR()]}),
            to_service(protocol, ip={"flags": "MF"}),
            to_service(protocol, services.PLAIN_BACKEND, port=8080),
            from_backend(protocol),
            from_backend(protocol, services.SHARED_BACKEND, 8090),
            from_backend(protocol, client=network.OWN_FRONT),
        ]
    packets.append(to_service(Protocol.TCP, flags="S", options=[("MSS", 1460)]))
    return [bytes(packet) for packet in packets]


def mutate(chance, frame):
    frame = bytearray(frame)
    for _ in range(chance.choice([0, 1, 1, 1, 2, 3, 8])):
        at = chance.choice([chance.choice(INTERESTING), chance.randrange(len(frame))])
        if at < len(frame):
            value = chance.choice([chance.choice(VALUES), chance.randrange(256)])
            frame[at] = chance.choice([value, frame[at] ^ 1 << chance.randrange(8)])
    match chance.randrange(6):
        case 0:
            del frame[chance.randrange(14, len(frame)) :]
        case 1:
            frame += chance.randbytes(chance.randrange(1, 100))
    return bytes(frame)


# --- an account of its own of what a packet is ---


def read_ipv4(frame):
    """(source, destination, protocol, header bytes), or None where there are no addresses."""
    if len(frame) < 34 or frame[12:14] != b"\x08\x00":
        return None
    dotted = [".".join(map(str, frame[at : at + 4])) for at in (26, 30)]
    return dotted[0], dotted[1], frame[23], 4 * (frame[14] & 15)


def is_well_formed(frame):
    """Whether an IPv4 packet is whole, without options, no fragment, its lengths in accord."""
    version_ihl, total, fragment = frame[14], *struct.unpack_from("!H2xH", frame, 16)
    if version_ihl != 0x45 or total > len(frame) - 14 or fragment & 0x3FFF:
        return False
    room = total - 20
    if frame[23] == Protocol.TCP:
        return room >= 20 and 20 <= 4 * (frame[46] >> 4) <= room
    return room >= 8 and 8 <= int.from_bytes(frame[38:40], "big") <= room


def read_ports(frame, header):
    """Source and destination port of a first fragment; None where they are cut off."""
    at = 14 + header
    if len(frame) < at + 4:
        return None
    return struct.unpack_from("!HH", frame, at)


class Oracle:
    """Whose a packet is, by the configuration alone."""

    def __init__(self, config):
        self.services = {(str(s.vip), s.port, s.protocol) for s in config.services}
        self.vips = {(vip, protocol) for vip, _, protocol in self.services}
        self.backends = {
            (str(b.address), b.port, s.protocol) for s in config.services for b in s.backends
        }

    def is_ours(self, frame):
        """Whether a service may touch, or drop, this packet."""
        found = read_ipv4(frame)
        if found is None:
            return False
        source, destination, protocol, header = found
        is_later = int.from_bytes(frame[20:22], "big") & 0x1FFF
        ports = None
        if frame[14] >> 4 == 4 and header >= 20 and not is_later:
            ports = read_ports(frame, header)
        if ports is None:
            return (destination, protocol) in self.vips
        if (destination, ports[1], protocol) in self.services:
            return True
        return (source, ports[0], protocol) in self.backends


def has_right_checksums(frame):
    total = int.from_bytes(frame[16:18], "big")
    if checksum(frame[14:34]):
        return False
    # A datagram may be shorter than its packet; its checksum covers the datagram.
    is_udp = frame[23] == Protocol.UDP
    if is_udp and frame[40:42] == b"\0\0":
        return True
    size = int.from_bytes(frame[38:40], "big") if is_udp else total - 20
    pseudo = frame[26:34] + bytes([0, frame[23]]) + size.to_bytes(2, "big")
    return checksum(pseudo + frame[34 : 34 + size]) == 0


SENT = {v for v in Verdict if v.name.startswith(("FORWARD", "REPLY"))}
UNTOUCHED = {Verdict.PASS_OTHER, Verdict.PASS_DIRECT}
# A run that does not meet all of these has tested too little.
EXPECTED = UNTOUCHED | {
    Verdict.FORWARD_REDIRECT,
    Verdict.REPLY_REDIRECT,
    Verdict.DROP_MALFORMED,
    Verdict.DROP_FRAGMENT,
    Verdict.DROP_IP_OPTIONS,
    Verdict.DROP_NO_BACKEND,
}


def test_mutated_frames(balancer):
    chance = random.Random(SEED)
    seeds = list_seeds()
    oracle = Oracle(balancer.config)
    seen = set()
    trio = services.name_service(services.TRIO, Protocol.TCP)
    balancer.set_slots(trio, "b-tcp", previous="a-tcp")
    with balancer.inside():
        for number in range(FRAMES):
            frame = mutate(chance, chance.choice(seeds))
            outcome = balancer.run(frame, chance.choice([network.FRONT, network.BACK]))
            seen.add(outcome.verdict)
            check(oracle, frame, outcome, f"frame {number}: {frame.hex(' ')}, {outcome.verdict!r}")
    assert seen >= EXPECTED


def check(oracle, frame, outcome, about):
    if outcome.verdict not in SENT:
        assert outcome.frame == frame, about
    if not oracle.is_ours(frame):
        assert outcome.verdict in UNTOUCHED, about
    if outcome.verdict in SENT:
        assert is_well_formed(frame), about
        assert is_well_formed(outcome.frame), about
        assert len(outcome.frame) == len(frame), about
        assert has_right_checksums(outcome.frame) == has_right_checksums(frame), about
