"""A packet in, the bytes out, the verdict: one line of the table each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from scapy.layers.inet import IP, UDP, IPOption_RR
from scapy.layers.inet6 import (
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, GRE, LLC, Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Packet, Raw

from reconciler.abi import Verdict
from reconciler.model import Protocol

from . import network, services
from .packets import (
    TO_BALANCER,
    from_backend,
    in_family,
    make_l4,
    rewritten,
    to_backend,
    to_client,
    to_service,
)

pytestmark = pytest.mark.root

TCP_, UDP_ = Protocol.TCP, Protocol.UDP
FORWARDED, REPLIED = Verdict.FORWARD_REDIRECT, Verdict.REPLY_REDIRECT
OTHER, MALFORMED = Verdict.PASS_OTHER, Verdict.DROP_MALFORMED


@dataclass(frozen=True)
class Case:
    """A packet, and what shall become of it; `out` is None where not a byte may change."""

    name: str
    packet: Packet
    verdict: Verdict
    out: Packet | None = None
    interface: str = network.FRONT


def in_ipv6(case: Case) -> Case:
    packet, out = (each and in_family(each, 6) for each in (case.packet, case.out))
    return replace(case, packet=packet, out=out)


def from_front(packet: Packet) -> Packet:
    return Ether(**TO_BALANCER[network.FRONT]) / packet


def pad(packet: Packet, size: int = 60) -> Packet:
    """As a sender fills a short frame up; the filling is not part of the IP packet."""
    return Ether(bytes(packet).ljust(size, b"\x5a"))


def forwarded(name: str, packet: Packet) -> Case:
    return Case(name, packet, FORWARDED, to_backend(packet))


def replied(name: str, packet: Packet) -> Case:
    return Case(name, packet, REPLIED, to_client(packet), network.BACK)


def refused(name: str, verdict: Verdict, packet: Packet) -> Case:
    return Case(name, packet, verdict)


# --- ours, sent on ---


def list_forwarded(p: Protocol) -> list[Case]:
    return [
        forwarded("data", to_service(p)),
        forwarded("no-data", to_service(p, payload=b"")),
        forwarded("much-data", to_service(p, payload=bytes(range(256)) * 5)),
        forwarded("far-client", to_service(p, client=network.FAR_CLIENT)),
        forwarded("client-port-0", to_service(p, client_port=0)),
        forwarded("client-port-65535", to_service(p, client_port=65_535)),
        *(forwarded(f"tos-{tos:02x}", to_service(p, ip={"tos": tos})) for tos in TOS),
        *(forwarded(f"ttl-{ttl}", to_service(p, ip={"ttl": ttl})) for ttl in (2, 64, 255)),
        Case("padded", pad(to_service(p, payload=b"")), FORWARDED, padded_out(p)),
        Case(
            "same-interface",
            beside := to_service(p, services.ONE_ARM),
            Verdict.FORWARD_TRANSMIT,
            rewritten(
                beside,
                dst=(network.NEIGHBOUR, services.BACKEND_PORT[services.ONE_ARM]),
                interface=network.FRONT,
                hop=network.NEIGHBOUR,
            ),
        ),
        Case(
            "backend-is-here",
            here := to_service(p, services.HERE, ip={"ttl": 1}),
            Verdict.FORWARD_LOCAL,
            rewritten(here, dst=(network.OWN_BACK, services.BACKEND_PORT[services.HERE])),
        ),
        by_stack("neighbour-unknown", p, services.UNRESOLVED, network.UNRESOLVED),
        by_stack("interface-unlisted", p, services.DULL, network.DULL_BACKEND),
    ]


def list_sizes(p: Protocol, family: int) -> list[Case]:
    """Around the MTU. What may be split goes to the stack, which splits it; see
    test_tunnels.py for what may not."""
    more = 0 if family == 4 else 20  # the larger header
    narrow, wide = network.NARROW_MTU - more, 1500 - more
    fits = of_size(p, services.NARROW, narrow)
    there = (network.NARROW, services.BACKEND_PORT[services.NARROW])
    hop = {"interface": network.BACK, "hop": network.NARROW_GATEWAY}
    fitting = [
        Case("just-fits", fits, FORWARDED, rewritten(fits, dst=there, **hop)),
        forwarded("just-fits-interface", of_size(p, services.PLAIN, wide)),
    ]
    if family == 6:
        return fitting
    huge = from_backend(p, payload=b"x" * 1501)
    plain = (services.PLAIN, services.VIP_PORT)
    return [
        *fitting,
        by_stack("too-big", p, services.NARROW, network.NARROW, narrow + 1),
        by_stack("too-big-for-interface", p, services.PLAIN, services.PLAIN_BACKEND, wide + 1),
        Case("reply-too-big", huge, Verdict.REPLY_STACK, rewritten(huge, src=plain), network.BACK),
    ]


# All ECN codepoints, expedited forwarding, everything.
TOS = (0x01, 0x02, 0x03, 0xB8, 0xFF)


def padded_out(p: Protocol) -> Packet:
    packet = to_service(p, payload=b"")
    return pad(to_backend(packet))


def of_size(p: Protocol, vip: str, size: int) -> Packet:
    """A packet of `size` bytes from the IP header on."""
    empty = len(to_service(p, vip, payload=b"")) - len(Ether())
    return to_service(p, vip, payload=b"x" * (size - empty))


def by_stack(name: str, p: Protocol, vip: str, backend: str, size: int = 100) -> Case:
    packet = of_size(p, vip, size)
    out = rewritten(packet, dst=(backend, services.BACKEND_PORT[vip]))
    return Case(name, packet, Verdict.FORWARD_STACK, out)


def list_replied(p: Protocol) -> list[Case]:
    here = from_backend(p, client=network.OWN_FRONT, ip={"ttl": 1})
    beside = from_backend(p, network.NEIGHBOUR, services.BACKEND_PORT[services.ONE_ARM])
    return [
        replied("reply", from_backend(p)),
        replied("reply-no-data", from_backend(p, payload=b"")),
        replied("reply-to-far-client", from_backend(p, client=network.FAR_CLIENT)),
        *(replied(f"reply-tos-{tos:02x}", from_backend(p, ip={"tos": tos})) for tos in TOS),
        Case(
            "reply-same-interface",
            beside,
            Verdict.REPLY_TRANSMIT,
            to_client(beside, services.ONE_ARM),
        ),
        Case(
            "reply-to-the-balancer-by-lo",
            here,
            Verdict.REPLY_LOCAL,
            rewritten(here, src=(services.PLAIN, services.VIP_PORT)),
            network.LOOPBACK,
        ),
        Case("reply-ttl-1", from_backend(p, ip={"ttl": 1}), Verdict.PASS_TTL, None, network.BACK),
        Case("reply-no-route", to_nowhere(p), Verdict.DROP_NO_ROUTE, None, network.BACK),
    ]


def to_nowhere(p: Protocol) -> Packet:
    return from_backend(p, client=network.BLACKHOLE)


SEGMENTS = {
    "syn": {"flags": "S", "options": [("MSS", 1460), ("SAckOK", b""), ("WScale", 7)]},
    "syn-with-data": {"flags": "S", "payload": b"fast open"},
    "ecn-setup-syn": {"flags": "SEC"},
    "ack": {"flags": "A", "payload": b""},
    "ack-with-data": {"flags": "PA"},
    "fin": {"flags": "FA", "payload": b""},
    "rst": {"flags": "R", "payload": b""},
    "urgent": {"flags": "UA", "urgptr": 3},
    "no-flags": {"flags": ""},
    "all-options": {"options": [("Timestamp", (1, 2)), ("NOP", None), ("NOP", None)] * 3},
}


def list_segments() -> list[Case]:
    there = [forwarded(name, to_service(TCP_, **fields)) for name, fields in SEGMENTS.items()]
    back = [
        replied(f"reply-{name}", from_backend(TCP_, **fields)) for name, fields in SEGMENTS.items()
    ]
    return [*there, *back, replied("reply-syn-ack", from_backend(TCP_, flags="SA"))]


def list_datagrams(family: int) -> list[Case]:
    return [
        forwarded("checksum-becomes-0", sums_to_zero(to_service, to_backend, family)),
        replied("reply-checksum-becomes-0", sums_to_zero(from_backend, to_client, family)),
    ]


def list_datagrams_without_checksum() -> list[Case]:
    return [
        forwarded("no-checksum", to_service(UDP_, chksum=0)),
        replied("reply-no-checksum", from_backend(UDP_, chksum=0)),
        forwarded("shorter-than-the-ip-packet", to_service(UDP_, len=12, chksum=0)),
        replied("reply-shorter-than-the-ip-packet", from_backend(UDP_, len=12, chksum=0)),
    ]


def sums_to_zero(make, translate, family) -> Packet:
    """A datagram that has a checksum of 0 once it is translated, which is sent as 0xffff."""

    def find_checksum(packet):
        return Ether(bytes(in_family(translate(packet), family)))[UDP].chksum

    checksum = find_checksum(make(UDP_, payload=b"\0\0"))
    packet = make(UDP_, payload=checksum.to_bytes(2, "big"))
    assert find_checksum(packet) == 0xFFFF
    return packet


# --- not ours, and no byte changes ---


def list_others(p: Protocol) -> list[Case]:
    away = "203.0.113.9"
    cases = {
        "other-port": to_service(p, port=81),
        "port-0": to_service(p, port=0),
        "other-address": to_service(p, away),
        "own-address": to_service(p, network.OWN_FRONT),
        "reply-of-other-port": from_backend(p, port=9999),
        "backends-other-port": to_service(p, services.PLAIN_BACKEND, port=22),
    }
    return [refused(name, OTHER, packet) for name, packet in cases.items()]


def list_ipv4_others(p: Protocol) -> list[Case]:
    away = "203.0.113.9"
    options = {"options": [IPOption_RR()]}
    cases = {
        "fragment-elsewhere": to_service(p, away, ip={"flags": "MF"}),
        "later-fragment-elsewhere": to_service(p, away, ip={"frag": 100}),
        "fragment-to-other-port": to_service(p, port=81, ip={"flags": "MF"}),
        "options-elsewhere": to_service(p, away, ip=options),
        "options-to-other-port": to_service(p, port=81, ip=options),
        "ihl-elsewhere": to_service(p, away, ip={"ihl": 4}),
        "lengths-elsewhere": to_service(p, away, ip={"len": 2000}),
        "multicast": to_service(p, "224.0.0.251"),
        "broadcast": to_service(p, "255.255.255.255"),
    }
    return [refused(name, OTHER, packet) for name, packet in cases.items()]


def list_other_protocols() -> list[Case]:
    ours = IP(src=network.CLIENT, dst=services.PLAIN)
    ports = make_l4(TCP_, 1, services.VIP_PORT)
    here = TO_BALANCER[network.FRONT]
    cases = {
        "gre": from_front(ours / GRE() / IP() / ports),
        "esp": from_front(IP(dst=services.PLAIN, proto=50) / Raw(bytes(ports))),
        "sctp": from_front(ours / SCTP(sport=1, dport=services.VIP_PORT)),
        "ipip": from_front(ours / IP(dst=services.PLAIN) / ports),
        "gre-fragment": from_front(IP(dst=services.PLAIN, proto=47, frag=8) / Raw(b"x" * 40)),
        "udp-where-tcp-is": to_service(UDP_, services.TCP_ONLY),
        "udp-fragment-where-tcp-is": to_service(UDP_, services.TCP_ONLY, ip={"frag": 5}),
        "arp-request": Ether(src=here["src"], dst="ff:ff:ff:ff:ff:ff")
        / ARP(psrc=network.CLIENT, pdst=services.PLAIN),
        "arp-reply": Ether(**here) / ARP(op=2, psrc=network.CLIENT, pdst=services.PLAIN),
        "nd-solicitation": Ether(src=here["src"], dst="33:33:ff:00:00:80")
        / IPv6(src="fe80::2", dst="ff02::1:ff00:80", hlim=255)
        / ICMPv6ND_NS(tgt="2001:db8::80")
        / ICMPv6NDOptSrcLLAddr(lladdr=here["src"]),
        "nd-router-advertisement": Ether(src=here["src"], dst="33:33:00:00:00:01")
        / IPv6(src="fe80::1", dst="ff02::1", hlim=255)
        / ICMPv6ND_RA()
        / ICMPv6NDOptPrefixInfo(prefix="2001:db8::", prefixlen=64),
        "nd-solicitation-for-a-vip": Ether(**here)
        / IPv6(src=network.twin(network.CLIENT), dst=network.twin(services.PLAIN), hlim=255)
        / ICMPv6ND_NS(tgt=network.twin(services.PLAIN)),
        "lldp": Ether(src=here["src"], dst="01:80:c2:00:00:0e", type=0x88CC)
        / Raw(bytes.fromhex("0207040200000001020403666f6f060200780000")),
        "spanning-tree": Ether(src=here["src"], dst="01:80:c2:00:00:00", type=38)
        / LLC(dsap=0x42, ssap=0x42, ctrl=3)
        / Raw(bytes(35)),
        "unknown-ethertype": Ether(**here, type=0x9999) / Raw(bytes(46)),
        "ip-by-name-only": Ether(**here, type=0x0800),
        "ipv4-cut-in-the-addresses": Ether(**here) / Raw(bytes(ours)[:19]),
    }
    return [refused(name, OTHER, packet) for name, packet in cases.items()]


def list_direct(p: Protocol) -> list[Case]:
    there = to_service(p, services.PLAIN_BACKEND, port=services.BACKEND_PORT[services.PLAIN])
    own = from_backend(p, client=network.OWN_BACK)
    front = from_backend(p, client=network.OWN_FRONT, payload=b"")
    return [
        Case("client-to-backend", there, Verdict.PASS_DIRECT),
        Case("backend-to-the-balancer", own, Verdict.PASS_DIRECT, None, network.BACK),
        Case("backend-to-its-front", front, Verdict.PASS_DIRECT, None, network.BACK),
    ]


# --- ours, and refused ---


def list_refused(p: Protocol) -> list[Case]:
    return [
        refused("ttl-0", Verdict.PASS_TTL, to_service(p, ip={"ttl": 0})),
        refused("ttl-1", Verdict.PASS_TTL, to_service(p, ip={"ttl": 1})),
        refused(
            "ttl-1-by-stack", Verdict.PASS_TTL, to_service(p, services.UNRESOLVED, ip={"ttl": 1})
        ),
        refused("source-is-the-vip", Verdict.DROP_BAD_SOURCE, to_service(p, client=services.PLAIN)),
        refused(
            "source-is-another-vip", Verdict.DROP_BAD_SOURCE, to_service(p, client=services.ONE_ARM)
        ),
        refused("no-backend", Verdict.DROP_NO_BACKEND, to_service(p, services.EMPTY)),
        refused("blackhole", Verdict.DROP_NO_ROUTE, to_service(p, services.BLACKHOLE)),
        refused("prohibited", Verdict.DROP_NO_ROUTE, to_service(p, services.PROHIBITED)),
        refused("unreachable", Verdict.DROP_NO_ROUTE, to_service(p, services.UNREACHABLE)),
    ]


def list_ipv4(p: Protocol) -> list[Case]:
    """What only IPv4's header can say."""
    fragment, options = Verdict.DROP_FRAGMENT, Verdict.DROP_IP_OPTIONS
    recorded = {"options": [IPOption_RR()]}
    reply_fragment, reply_options = (from_backend(p, ip=ip) for ip in ({"flags": "MF"}, recorded))
    whole = len(to_service(p)) - len(Ether())
    bad_sources = {
        "zero": "0.0.0.0",
        "this-network": "0.1.2.3",
        "multicast": "224.0.0.1",
        "multicast-last": "239.255.255.255",
        "class-e": "240.0.0.1",
        "broadcast": "255.255.255.255",
    }
    return [
        forwarded("dont-fragment", to_service(p, ip={"flags": "DF"})),
        forwarded("evil-bit", to_service(p, ip={"flags": "evil"})),
        Case("reply-fragment", reply_fragment, fragment, None, network.BACK),
        Case("reply-options", reply_options, options, None, network.BACK),
        refused("first-fragment", fragment, to_service(p, ip={"flags": "MF"})),
        refused("later-fragment", fragment, to_service(p, ip={"flags": "MF", "frag": 8})),
        refused("last-fragment", fragment, to_service(p, ip={"frag": 8191})),
        refused("options", options, to_service(p, ip=recorded)),
        refused("options-most", options, to_service(p, ip={"options": b"\1" * 40})),
        *(
            refused(f"ihl-{ihl}", MALFORMED, to_service(p, ip={"ihl": ihl}, payload=b"x" * 60))
            for ihl in range(5)
        ),
        *(
            refused(f"version-{n}", MALFORMED, to_service(p, ip={"version": n}))
            for n in (0, 5, 6, 15)
        ),
        refused("ihl-beyond-the-frame", MALFORMED, to_service(p, ip={"ihl": 15}, payload=b"")),
        refused("total-length-0", MALFORMED, to_service(p, ip={"len": 0})),
        refused("total-length-below-header", MALFORMED, to_service(p, ip={"len": 19})),
        refused("total-length-no-ports", MALFORMED, to_service(p, ip={"len": 22})),
        refused("total-length-cuts-header", MALFORMED, to_service(p, ip={"len": 27})),
        refused("total-length-beyond", MALFORMED, to_service(p, ip={"len": whole + 1})),
        refused("total-length-most", MALFORMED, to_service(p, ip={"len": 65_535})),
        *(
            refused(f"source-{name}", Verdict.DROP_BAD_SOURCE, to_service(p, client=source))
            for name, source in bad_sources.items()
        ),
    ]


def list_bad_segments() -> list[Case]:
    offsets = {n: to_service(TCP_, dataofs=n) for n in range(5)}
    beyond = to_service(TCP_, dataofs=6, payload=b"")
    padded = pad(to_service(TCP_, dataofs=6, payload=b""))
    return [
        *(refused(f"data-offset-{n}", MALFORMED, packet) for n, packet in offsets.items()),
        refused("data-offset-beyond", MALFORMED, beyond),
        refused("data-offset-into-padding", MALFORMED, padded),
        refused("data-offset-most", MALFORMED, to_service(TCP_, dataofs=15)),
        forwarded("data-offset-is-all", to_service(TCP_, dataofs=8, payload=b"\1" * 12)),
    ]


def list_bad_datagrams() -> list[Case]:
    whole = 8 + len(Raw(b"one two three"))
    lengths = {
        "0": 0,
        "below-header": 7,
        "beyond": whole + 1,
        "most": 65_535,
    }
    return [
        refused(f"udp-length-{name}", MALFORMED, to_service(UDP_, len=length))
        for name, length in lengths.items()
    ]


# --- the table ---


def list_of(p: Protocol, family: int) -> list[Case]:
    """What there is in both families, in this one."""
    cases = [
        case
        for make in (list_forwarded, list_replied, list_others, list_direct, list_refused)
        for case in make(p)
    ]
    cases += list_sizes(p, family)
    if p is TCP_:
        cases += list_segments() + list_bad_segments()
    else:
        cases += list_datagrams(family) + list_bad_datagrams()
    return cases if family == 4 else [in_ipv6(case) for case in cases]


def name_cases(prefix: str, cases: list[Case]) -> list[pytest.param]:
    return [pytest.param(case, id=f"{prefix}-{case.name}") for case in cases]


CASES = [
    *(
        case
        for family in network.FAMILIES
        for p in Protocol
        for case in name_cases(f"ipv{family}-{p.name.lower()}", list_of(p, family))
    ),
    *(
        case
        for p in Protocol
        for case in name_cases(f"ipv4-{p.name.lower()}", list_ipv4_others(p) + list_ipv4(p))
    ),
    *name_cases("ipv4-udp", list_datagrams_without_checksum()),
    *name_cases("other", list_other_protocols()),
]


@pytest.mark.parametrize("case", CASES)
def test_packet(balancer, case):
    frame = bytes(case.packet)
    outcome = balancer.run(frame, case.interface)
    assert outcome.verdict is case.verdict
    assert outcome.frame.hex(" ") == bytes(case.out or case.packet).hex(" ")
