"""What only IPv6 has: extension headers, fragments by header, its lengths, mapped addresses."""

from __future__ import annotations

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (
    HBHOptUnknown,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    Jumbo,
)
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from reconciler.abi import Verdict
from reconciler.model import Protocol

from . import network, services
from .packets import (
    CLIENT_PORT,
    PAYLOAD,
    TO_BALANCER,
    from_backend,
    in_family,
    lower,
    make_l4,
    passed_on,
    to_service,
)

pytestmark = pytest.mark.root

BACKEND = network.twin(services.PLAIN_BACKEND)
BACKEND_PORT = services.BACKEND_PORT[services.PLAIN]


def headers(*layers):
    chain = None
    for layer in layers:
        chain = layer.copy() if chain is None else chain / layer.copy()
    return chain


HOP = IPv6ExtHdrHopByHop()
DESTINATION = IPv6ExtHdrDestOpt()
ROUTING = IPv6ExtHdrRouting(addresses=["2001:db8::1"], segleft=0)
ATOMIC = IPv6ExtHdrFragment(id=7)
LARGE = IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0x1E, optdata=bytes(250))] * 3)

WALKED = {
    "hop-by-hop": (HOP,),
    "destination": (DESTINATION,),
    "routing": (ROUTING,),
    "atomic-fragment": (ATOMIC,),
    "hop-by-hop-and-destination": (HOP, DESTINATION),
    "all": (HOP, DESTINATION, ROUTING, ATOMIC),
    "all-otherwise": (DESTINATION, ATOMIC, DESTINATION, ROUTING),
    "large": (HOP, LARGE),
}


def through(protocol, extensions, *, payload=PAYLOAD, server=None, **fields):
    """A client's packet with extension headers."""
    to, port = server or (network.twin(services.PLAIN), services.VIP_PORT)
    header = IPv6(**{"src": network.twin(network.CLIENT), "dst": to, **fields})
    packet = Ether(**TO_BALANCER[network.FRONT]) / header
    if extensions:
        packet /= headers(*extensions)
    return packet / make_l4(protocol, CLIENT_PORT, port) / Raw(payload)


@pytest.mark.parametrize("name", WALKED)
def test_extension_headers_are_walked(balancer, protocol, name):
    packet = through(protocol, WALKED[name])
    outcome = balancer.run(bytes(packet))
    assert outcome.verdict is Verdict.FORWARD_REDIRECT
    there = through(protocol, WALKED[name], server=(BACKEND, BACKEND_PORT))
    assert outcome.frame.hex(" ") == bytes(lower(passed_on(there))).hex(" ")


@pytest.mark.parametrize("name", WALKED)
def test_in_a_reply_too(balancer, protocol, name):
    def reply(source, port):
        header = IPv6(src=source, dst=network.twin(network.CLIENT), hlim=64)
        packet = Ether(**TO_BALANCER[network.BACK]) / header / headers(*WALKED[name])
        return packet / make_l4(protocol, port, CLIENT_PORT) / Raw(PAYLOAD)

    outcome = balancer.run(bytes(reply(BACKEND, BACKEND_PORT)), network.BACK)
    assert outcome.verdict is Verdict.REPLY_REDIRECT
    there = reply(network.twin(services.PLAIN), services.VIP_PORT)
    expected = lower(passed_on(there, network.FRONT, network.CLIENT))
    assert outcome.frame == bytes(expected)


REFUSED = {
    "five": ((HOP, *[DESTINATION] * 4), Verdict.DROP_IP_OPTIONS),
    "many": ([DESTINATION] * 9, Verdict.DROP_IP_OPTIONS),
    "first-fragment": ([IPv6ExtHdrFragment(m=1)], Verdict.DROP_FRAGMENT),
    "first-fragment-deeper": ((HOP, DESTINATION, IPv6ExtHdrFragment(m=1)), Verdict.DROP_FRAGMENT),
    "later-fragment": ([IPv6ExtHdrFragment(m=1, offset=8)], Verdict.DROP_FRAGMENT),
    "last-fragment": ([IPv6ExtHdrFragment(offset=8191)], Verdict.DROP_FRAGMENT),
    "later-fragment-deeper": ((HOP, IPv6ExtHdrFragment(offset=1)), Verdict.DROP_FRAGMENT),
    "beyond-the-frame": ([IPv6ExtHdrDestOpt(len=255)], Verdict.DROP_MALFORMED),
    "hop-by-hop-beyond": ([IPv6ExtHdrHopByHop(len=200)], Verdict.DROP_MALFORMED),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(balancer, protocol, name):
    extensions, verdict = REFUSED[name]
    frame = bytes(through(protocol, extensions))
    outcome = balancer.run(frame)
    assert (outcome.verdict, outcome.frame) == (verdict, frame)


@pytest.mark.parametrize("name", REFUSED)
def test_the_same_elsewhere_is_left_alone(balancer, protocol, name):
    elsewhere = (network.twin("203.0.113.9"), services.VIP_PORT)
    frame = bytes(through(protocol, REFUSED[name][0], server=elsewhere))
    outcome = balancer.run(frame)
    assert (outcome.verdict, outcome.frame) == (Verdict.PASS_OTHER, frame)


@pytest.mark.parametrize("number", [47, 50, 51, 59, 132, 135, 139, 140, 253])
def test_other_headers_are_nobodys(balancer, number):
    """GRE, ESP, AH, no next header, SCTP, mobility, HIP, Shim6, experiments."""
    for nh, extensions in ((number, ()), (0, (IPv6ExtHdrHopByHop(nh=number),))):
        header = IPv6(src=network.twin(network.CLIENT), dst=network.twin(services.PLAIN), nh=nh)
        packet = Ether(**TO_BALANCER[network.FRONT]) / header
        for extension in extensions:
            packet /= extension
        frame = bytes(packet / Raw(bytes(40)))
        outcome = balancer.run(frame)
        assert (outcome.verdict, outcome.frame) == (Verdict.PASS_OTHER, frame)


@pytest.mark.parametrize("number", [47, 58])
def test_fragments_of_other_protocols_are_nobodys(balancer, number):
    fragment = IPv6ExtHdrFragment(nh=number, offset=8)
    header = IPv6(src=network.twin(network.CLIENT), dst=network.twin(services.PLAIN))
    frame = bytes(Ether(**TO_BALANCER[network.FRONT]) / header / fragment / Raw(bytes(40)))
    outcome = balancer.run(frame)
    assert (outcome.verdict, outcome.frame) == (Verdict.PASS_OTHER, frame)


@pytest.mark.parametrize("end", ["src", "dst"])
def test_mapped_addresses_are_nobodys(balancer, protocol, end):
    ipv4 = {"src": network.CLIENT, "dst": services.PLAIN}[end]
    frame = bytes(through(protocol, (), **{end: f"::ffff:{ipv4}"}))
    outcome = balancer.run(frame)
    assert (outcome.verdict, outcome.frame) == (Verdict.PASS_OTHER, frame)


def test_a_mapped_backend_is_nobodys(balancer, protocol):
    packet = in_family(from_backend(protocol), 6)
    for end, address in (("src", services.PLAIN_BACKEND), ("dst", network.CLIENT)):
        mapped = packet.copy()
        setattr(mapped[IPv6], end, f"::ffff:{address}")
        frame = bytes(mapped)
        outcome = balancer.run(frame, network.BACK)
        assert (outcome.verdict, outcome.frame) == (Verdict.PASS_OTHER, frame)


@pytest.mark.parametrize("source", ["::", "ff02::1", "ff0e::1", network.twin(services.PLAIN)])
def test_bad_sources(balancer, protocol, source):
    frame = bytes(through(protocol, (), src=source))
    outcome = balancer.run(frame)
    assert (outcome.verdict, outcome.frame) == (Verdict.DROP_BAD_SOURCE, frame)


@pytest.mark.parametrize("version", [0, 4, 5, 7, 15])
def test_versions(balancer, protocol, version):
    frame = bytes(through(protocol, (), version=version))
    outcome = balancer.run(frame)
    assert (outcome.verdict, outcome.frame) == (Verdict.DROP_MALFORMED, frame)


@pytest.mark.parametrize("flow_label", [0, 1, 0xFFFFF])
def test_the_flow_label_stays(balancer, protocol, flow_label):
    frame = bytes(through(protocol, (), fl=flow_label, tc=0xB9))
    outcome = balancer.run(frame)
    there = through(protocol, (), fl=flow_label, tc=0xB9, server=(BACKEND, BACKEND_PORT))
    assert outcome.frame == bytes(lower(passed_on(there)))


# --- lengths ---


def lengths(protocol):
    l4 = 20 if protocol is Protocol.TCP else 8
    whole = l4 + len(PAYLOAD)
    return {"0": 0, "no-ports": 3, "cuts-header": l4 - 1, "beyond": whole + 1, "most": 65_535}


@pytest.mark.parametrize("name", lengths(Protocol.TCP))
def test_payload_length(balancer, protocol, name):
    packet = through(protocol, ())
    packet[IPv6].plen = lengths(protocol)[name]
    frame = bytes(packet)
    outcome = balancer.run(frame)
    assert (outcome.verdict, outcome.frame) == (Verdict.DROP_MALFORMED, frame)


@pytest.mark.parametrize("plen", [0, 4, 8, 15])
def test_payload_length_within_the_extension_headers(balancer, protocol, plen):
    packet = through(protocol, (HOP, DESTINATION))
    packet[IPv6].plen = plen
    assert balancer.run(bytes(packet)).verdict is Verdict.DROP_MALFORMED


def test_jumbograms(balancer, protocol):
    """A payload length of 0 and an option that says more (RFC 2675): none are taken."""
    jumbo = IPv6ExtHdrHopByHop(options=[Jumbo(jumboplen=70_000)])
    packet = through(protocol, (jumbo,), payload=b"x" * 1300)
    packet[IPv6].plen = 0
    frame = bytes(packet)
    outcome = balancer.run(frame)
    assert (outcome.verdict, outcome.frame) == (Verdict.DROP_MALFORMED, frame)


@pytest.mark.parametrize("name", ["hop-by-hop", "all", "large"])
def test_cut_anywhere(balancer, protocol, name):
    frame = bytes(through(protocol, WALKED[name]))
    for length in range(len(Ether()), len(frame)):
        outcome = balancer.run(frame[:length])
        is_readable = length >= len(Ether()) + 40
        assert outcome.verdict is (Verdict.DROP_MALFORMED if is_readable else Verdict.PASS_OTHER)
        assert outcome.frame == frame[:length]


@pytest.mark.parametrize("name", ["hop-by-hop", "all"])
def test_a_payload_length_that_agrees_with_the_cut(balancer, protocol, name):
    packet = through(protocol, WALKED[name])
    l4 = packet.getlayer(TCP) or packet[UDP]
    ports = len(packet) - len(l4)
    header = 20 if protocol is Protocol.TCP else len(l4)
    for length in range(ports + 4, len(packet) + 1):
        short = packet.copy()
        short[IPv6].plen = length - len(Ether()) - 40
        verdict = balancer.run(bytes(short)[:length]).verdict
        is_whole = length >= ports + header
        assert verdict is (Verdict.FORWARD_REDIRECT if is_whole else Verdict.DROP_MALFORMED)


def test_no_checksum_is_no_licence(balancer):
    """Over IPv6 a datagram has one (RFC 8200, 8.1); what comes without is not made right."""
    frame = bytes(in_family(to_service(Protocol.UDP), 6))
    outcome = balancer.run(frame[:60] + b"\0\0" + frame[62:])
    assert outcome.verdict is Verdict.FORWARD_REDIRECT
    there = Ether(outcome.frame)
    there[UDP].chksum = None
    assert bytes(there) != outcome.frame
