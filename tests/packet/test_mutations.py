"""Broken packets, by the thousand: who is not for a VIP goes on as he came, and
nothing malformed is sent on. XDPLB_FRAMES says how many; 200,000 if it is not set."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, replace
from ipaddress import ip_address

import pytest
from scapy.layers.inet import IPOption_RR
from scapy.layers.inet6 import IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.utils import checksum

from reconciler.abi import Verdict
from reconciler.model import Protocol

from . import network, services
from .packets import TO_BALANCER, from_backend, in_family, to_service
from .services import Mode
from .test_icmp import INWARD_INSIDE, OUTWARD, ask, at, error, of_mode
from .test_ipv6 import through
from .test_tunnels import for_mode
from .test_vlan import tagged

pytestmark = pytest.mark.root

FRAMES = int(os.environ.get("XDPLB_FRAMES", "200000"))
SEED = 2024
VALUES = (0, 1, 4, 5, 6, 17, 20, 43, 44, 58, 60, 0x45, 0x46, 0x50, 0x60, 0x7F, 0x80, 0x81, 0xFF)
ICMP, ICMPV6 = 1, 58


# --- the packets that are broken ---


def list_nat(protocol, family):
    vips = (services.PLAIN, services.TRIO, services.SHARED, services.STICKY, services.EMPTY)
    packets = [to_service(protocol, vip) for vip in vips]
    packets += [
        to_service(protocol, "203.0.113.9"),
        to_service(protocol, payload=b""),
        to_service(protocol, services.PLAIN_BACKEND, port=8080),
        from_backend(protocol),
        from_backend(protocol, services.SHARED_BACKEND, 8090),
        from_backend(protocol, client=network.OWN_FRONT),
    ]
    return [in_family(packet, family) for packet in packets]


def list_modes(protocol, family):
    beside = [for_mode(mode, protocol, family, services.ONE_ARM) for mode in Mode]
    large = [
        for_mode(mode, protocol, family, services.NARROW, payload=bytes(network.NARROW_MTU - 70))
        for mode in services.TUNNELS
    ]
    tags = (Dot1Q(vlan=5), Dot1AD(vlan=5) / Dot1Q(vlan=6))
    return [
        *(for_mode(mode, protocol, family) for mode in Mode),
        *beside,
        *(tagged(packet, tag) for packet, tag in zip(beside, tags * len(beside), strict=False)),
        *large,
    ]


def list_errors(protocol, family):
    return [
        *(
            at(network.FRONT, error(family, protocol, of_mode(OUTWARD, mode), size=size))
            for mode in Mode
            for size in (8, None)
        ),
        at(network.BACK, error(family, protocol, INWARD_INSIDE, sender=services.PLAIN_BACKEND)),
        at(network.BACK, error(family, protocol, INWARD_INSIDE, size=8)),
        tagged(at(network.FRONT, error(family, protocol, OUTWARD)), Dot1Q(vlan=5)),
    ]


def list_ipv4(protocol):
    strange = ({"options": [IPOption_RR()]}, {"flags": "MF"}, {"frag": 8})
    return [to_service(protocol, ip=ip) for ip in strange]


def list_ipv6(protocol):
    hop, destination, fragment = IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt(), IPv6ExtHdrFragment()
    walked = ((hop,), (hop, destination, fragment), (hop, *[destination] * 4))
    later = IPv6ExtHdrFragment(offset=8)
    return [through(protocol, extensions) for extensions in (*walked, (later,))]


def list_seeds():
    packets = [Ether(**TO_BALANCER[network.FRONT]) / ARP(pdst=services.PLAIN)]
    for family in network.FAMILIES:
        packets += [ask(family), ask(family, "203.0.113.9"), tagged(ask(family), Dot1Q(vlan=5))]
        for protocol in Protocol:
            packets += list_nat(protocol, family) + list_modes(protocol, family)
            packets += list_errors(protocol, family)
    for protocol in Protocol:
        packets += list_ipv4(protocol) + list_ipv6(protocol)
    packets.append(to_service(Protocol.TCP, flags="S", options=[("MSS", 1460)]))
    return [bytes(packet) for packet in packets]


def mutate(chance, frame):
    frame = bytearray(frame)
    for _ in range(chance.choice([0, 1, 1, 1, 2, 3, 8])):
        # The headers matter most.
        place = chance.randrange(min(len(frame), chance.choice([24, 64, 120, 2000])))
        value = chance.choice([chance.choice(VALUES), chance.randrange(256)])
        frame[place] = chance.choice([value, frame[place] ^ 1 << chance.randrange(8)])
    match chance.randrange(6):
        case 0:
            del frame[chance.randrange(14, len(frame)) :]
        case 1:
            frame += chance.randbytes(chance.randrange(1, 100))
    return bytes(frame)


# --- an account of its own of what a packet is ---


@dataclass(frozen=True)
class Reading:
    """An IP packet in a frame; `l4` is where its transport header is, None if nowhere."""

    frame: bytes
    start: int
    is_ipv6: bool
    protocol: int
    l4: int | None
    is_plain: bool  # whole, no options, no fragment; all but the transport's own lengths

    @property
    def end(self):
        """Where the packet ends by its own account."""
        size = int.from_bytes(self.frame[self.start + 2 : self.start + 4], "big")
        if self.is_ipv6:
            size = 40 + int.from_bytes(self.frame[self.start + 4 : self.start + 6], "big")
        return self.start + size

    @property
    def addresses(self):
        """Source and destination, packed."""
        first, size = (self.start + 8, 16) if self.is_ipv6 else (self.start + 12, 4)
        return self.frame[first : first + size], self.frame[first + size : first + 2 * size]

    @property
    def ports(self):
        """Source and destination; None where they are cut off."""
        if self.l4 is None or len(self.frame) < self.l4 + 4:
            return None
        return tuple(
            int.from_bytes(self.frame[self.l4 + n : self.l4 + n + 2], "big") for n in (0, 2)
        )


def read(frame):
    """The IP packet in a frame; None where there are no addresses to read."""
    start = 14
    kind = frame[12:14]
    for _ in range(2):
        if kind in (b"\x81\x00", b"\x88\xa8"):
            kind = frame[start + 2 : start + 4]
            start += 4
    if kind == b"\x08\x00" and len(frame) >= start + 20:
        return read_ipv4(frame, start)
    if kind == b"\x86\xdd" and len(frame) >= start + 40:
        return read_ipv6(frame, start)
    return None


def read_ipv4(frame, start):
    version, header = frame[start] >> 4, 4 * (frame[start] & 15)
    fragment = int.from_bytes(frame[start + 6 : start + 8], "big")
    is_later = fragment & 0x1FFF
    is_sane = version == 4 and header >= 20
    l4 = start + header if is_sane and not is_later else None
    reading = Reading(frame, start, False, frame[start + 9], l4, header == 20)
    is_plain = is_sane and header == 20 and not fragment & 0x3FFF
    return replace(reading, is_plain=is_plain and fits(reading))


def read_ipv6(frame, start):
    mapped = bytes(10) + b"\xff\xff"
    if mapped in (frame[start + 8 : start + 20], frame[start + 24 : start + 36]):
        return None
    protocol, at_, is_fragment, is_later = frame[start + 6], start + 40, False, False
    is_sane = frame[start] >> 4 == 6
    for _ in range(4):
        if not is_sane or is_later or protocol not in (0, 43, 44, 60):
            break
        if len(frame) < at_ + 8:
            is_sane = False
        elif protocol == 44:
            is_later = int.from_bytes(frame[at_ + 2 : at_ + 4], "big") & 0xFFF8
            is_fragment |= frame[at_ + 3] & 1
            protocol, at_ = frame[at_], at_ + 8
        else:
            protocol, at_ = frame[at_], at_ + 8 + 8 * frame[at_ + 1]
    is_reached = is_sane and not is_later and protocol not in (0, 43, 44, 60)
    reading = Reading(frame, start, True, protocol, at_ if is_reached else None, is_reached)
    return replace(reading, is_plain=is_reached and not is_fragment and fits(reading))


def fits(reading):
    return reading.l4 is not None and reading.l4 <= reading.end <= len(reading.frame)


def is_well_formed(reading):
    """Whether the packet is plain, and its transport header whole and its lengths in accord."""
    if not reading.is_plain:
        return False
    room = reading.end - reading.l4
    header = reading.frame[reading.l4 :]
    match reading.protocol:
        case Protocol.TCP:
            return room >= 20 and 20 <= 4 * (header[12] >> 4) <= room
        case Protocol.UDP:
            return room >= 8 and 8 <= int.from_bytes(header[4:6], "big") <= room
    return room >= 8


def has_right_checksums(reading):
    frame, start, l4 = reading.frame, reading.start, reading.l4
    if not reading.is_ipv6 and checksum(frame[start:l4]):
        return False
    end = reading.end
    if reading.protocol == Protocol.UDP:
        if frame[l4 + 6 : l4 + 8] == b"\0\0":
            return True
        # A datagram may be shorter than its packet; its checksum covers the datagram.
        end = l4 + int.from_bytes(frame[l4 + 4 : l4 + 6], "big")
    pseudo = b""
    if reading.protocol != ICMP:
        pseudo = b"".join(reading.addresses) + bytes([0, reading.protocol])
        pseudo += (end - l4).to_bytes(2, "big")
    return checksum(pseudo + frame[l4:end]) == 0


class Oracle:
    """Whose a packet is, by the configuration alone."""

    def __init__(self, config):
        self.services = {(s.vip.packed, s.port, s.protocol) for s in config.services}
        self.vips = {(vip, protocol) for vip, _, protocol in self.services}
        self.addresses = {vip for vip, _ in self.vips}
        self.backends = {
            (b.address.packed, b.port, s.protocol) for s in config.services for b in s.backends
        }

    def is_ours(self, reading):
        """Whether a service may touch, or drop, this packet."""
        if reading is None:
            return False
        source, destination = reading.addresses
        protocol, ports = reading.protocol, reading.ports
        if protocol == (ICMPV6 if reading.is_ipv6 else ICMP):
            return destination in self.addresses or self.quotes_backend(reading)
        if reading.is_ipv6 and protocol in (0, 43, 44, 60):
            return destination in self.addresses
        if ports is None:
            return (destination, protocol) in self.vips
        if (destination, ports[1], protocol) in self.services:
            return True
        return (source, ports[0], protocol) in self.backends

    def quotes_backend(self, reading):
        """Whether an error is about a packet for a backend."""
        if reading.l4 is None:
            return False
        quote = reading.frame[reading.l4 + 8 :]
        if len(quote) < (48 if reading.is_ipv6 else 28):
            return False
        address = quote[24:40] if reading.is_ipv6 else quote[16:20]
        ports = 40 if reading.is_ipv6 else 20
        protocol = quote[6] if reading.is_ipv6 else quote[9]
        return (address, int.from_bytes(quote[ports + 2 : ports + 4], "big"), protocol) in (
            self.backends
        )


# --- what may become of one ---

SENT = {v for v in Verdict if v.name.startswith(("FORWARD", "REPLY", "ECHO", "TOO_BIG"))}
UNTOUCHED = {Verdict.PASS_OTHER, Verdict.PASS_DIRECT}
# A run that does not meet all of these has tested too little.
EXPECTED = UNTOUCHED | {
    Verdict.FORWARD_TRANSMIT,
    Verdict.FORWARD_REDIRECT,
    Verdict.FORWARD_STACK,
    Verdict.REPLY_REDIRECT,
    Verdict.ECHO_TRANSMIT,
    Verdict.TOO_BIG_TRANSMIT,
    Verdict.PASS_TTL,
    Verdict.DROP_MALFORMED,
    Verdict.DROP_FRAGMENT,
    Verdict.DROP_IP_OPTIONS,
    Verdict.DROP_NO_BACKEND,
    Verdict.DROP_NO_NEXTHOP,
}


def test_mutated_frames(balancer):
    chance = random.Random(SEED)
    seeds = list_seeds()
    oracle = Oracle(balancer.config)
    seen = set()
    for family in network.FAMILIES:
        balancer.family = family
        trio = services.name_service(services.TRIO, Protocol.TCP)
        balancer.set_slots(trio, "b-tcp", previous="a-tcp")
    with balancer.inside():
        for number in range(FRAMES):
            frame = mutate(chance, chance.choice(seeds))
            outcome = balancer.run(frame, chance.choice([network.FRONT, network.BACK]))
            seen.add(outcome.verdict)
            try:
                check(oracle, frame, outcome)
            except AssertionError:
                print(f"frame {number}: {frame.hex(' ')}\n{outcome.verdict!r}")
                print(f"became {outcome.frame.hex(' ')}")
                raise
    assert seen >= EXPECTED


def check(oracle, frame, outcome):
    before = read(frame)
    if outcome.verdict not in SENT:
        assert outcome.frame == frame
    if not oracle.is_ours(before):
        assert outcome.verdict in UNTOUCHED
    if outcome.verdict not in SENT:
        return
    assert is_well_formed(before)
    after = read(outcome.frame)
    assert is_well_formed(after)
    if outcome.verdict.name.startswith("TOO_BIG"):
        assert has_right_checksums(after)
        assert len(outcome.frame) == 14 + (40 + 8 + 48 if before.is_ipv6 else 20 + 8 + 28)
    elif len(outcome.frame) == len(frame):
        assert has_right_checksums(after) == has_right_checksums(before)
        assert after.end == before.end
    else:
        check_tunnel(before, after)


def check_tunnel(before, after):
    """The inner packet is the same but for its TTL; a wrong one may stay wrong."""
    overhead = len(after.frame) - len(before.frame)
    assert overhead in (20, 28, 40, 48)
    assert after.end - before.end == overhead
    assert after.frame[14 : before.start - 2] == before.frame[14 : before.start - 2]
    inner = read(before.frame[: before.start] + after.frame[before.start + overhead :])
    assert is_well_formed(inner)
    assert has_right_checksums(inner) == has_right_checksums(before)
    ttl, changes = (7, 1) if before.is_ipv6 else (8, 4)
    ttl += before.start
    assert inner.frame[ttl] == before.frame[ttl] - 1
    assert inner.frame[before.start : ttl] == before.frame[before.start : ttl]
    assert inner.frame[ttl + changes :] == before.frame[ttl + changes :]
    if not after.is_ipv6:
        assert checksum(after.frame[after.start : after.start + 20]) == 0
    if after.protocol == Protocol.UDP and has_right_checksums(before):
        assert has_right_checksums(after)
    assert ip_address(after.addresses[0]) != ip_address(after.addresses[1])
