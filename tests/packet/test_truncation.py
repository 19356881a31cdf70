"""Every packet cut at every length. A frame shorter than its Ethernet header never
comes this far: `bpf_prog_test_run_opts` refuses it, as a driver would."""

from __future__ import annotations

import errno

import pytest
from scapy.layers.inet import IP, TCP, IPOption_RR
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.layers.l2 import Ether

from reconciler.abi import Verdict
from reconciler.dataplane.libbpf import KernelRefused
from reconciler.model import Protocol

from . import network, services
from .packets import (
    TO_BALANCER,
    from_backend,
    has_right_checksums,
    in_family,
    to_backend,
    to_client,
    to_service,
)

pytestmark = pytest.mark.root

ETHERNET = len(Ether())
ADDRESSES_END = ETHERNET + 20  # before that nobody can tell whose it is
SENT = {Verdict.FORWARD_REDIRECT, Verdict.REPLY_REDIRECT}


def test_less_than_an_ethernet_header_is_refused_by_the_kernel(balancer):
    with balancer.inside(), pytest.raises(KernelRefused) as refused:
        balancer.run_uncounted(bytes(to_service(Protocol.TCP))[: ETHERNET - 1])
    assert refused.value.errno == errno.EINVAL


def list_packets(protocol):
    return {
        "data": to_service(protocol),
        "no-data": to_service(protocol, payload=b""),
        "options": to_service(protocol, ip={"options": [IPOption_RR()]}),
        "fragment": to_service(protocol, ip={"flags": "MF"}),
    }


def list_ipv6(protocol):
    """The same, and what is in between in IPv6."""
    packets = list_packets(protocol)
    plain = {name: in_family(packets[name], 6) for name in ("data", "no-data")}
    ip = plain["data"][IPv6]
    walked = IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / IPv6ExtHdrFragment() / ip.payload
    header = IPv6(src=ip.src, dst=ip.dst)
    link = Ether(**TO_BALANCER[network.FRONT])
    return {**plain, "extensions": link / header / walked}


@pytest.mark.parametrize("name", list_ipv6(Protocol.TCP))
def test_an_ipv6_packet_for_a_vip(balancer, protocol, name):
    frame = bytes(list_ipv6(protocol)[name])
    for length in range(ETHERNET, len(frame)):
        outcome = balancer.run(frame[:length])
        is_readable = length >= ETHERNET + 40
        assert outcome.verdict is (Verdict.DROP_MALFORMED if is_readable else Verdict.PASS_OTHER), (
            length
        )
        assert outcome.frame == frame[:length]
    assert balancer.run(frame).verdict is Verdict.FORWARD_REDIRECT


@pytest.mark.parametrize("mode", [mode for mode in services.Mode if mode])
def test_a_packet_for_a_vip_of_another_mode(balancer, protocol, family, mode):
    vip = services.in_mode(services.PLAIN, mode)
    frame = bytes(in_family(to_service(protocol, vip), family))
    addresses_end = ETHERNET + (20 if family == 4 else 40)
    for length in range(ETHERNET, len(frame)):
        outcome = balancer.run(frame[:length])
        is_readable = length >= addresses_end
        assert outcome.verdict is (Verdict.DROP_MALFORMED if is_readable else Verdict.PASS_OTHER)
        assert outcome.frame == frame[:length]
    assert balancer.run(frame).verdict is Verdict.FORWARD_REDIRECT


@pytest.mark.parametrize("name", list_packets(Protocol.TCP))
def test_a_packet_for_a_vip(balancer, protocol, name):
    packet = list_packets(protocol)[name]
    frame = bytes(packet)
    for length in range(ETHERNET, len(frame)):
        outcome = balancer.run(frame[:length])
        is_readable = length >= ADDRESSES_END
        assert outcome.verdict is (Verdict.DROP_MALFORMED if is_readable else Verdict.PASS_OTHER), (
            length
        )
        assert outcome.frame == frame[:length]
    assert balancer.run(frame).verdict not in (Verdict.DROP_MALFORMED, Verdict.PASS_OTHER)


def test_a_reply(balancer, protocol, family):
    frame = bytes(in_family(from_backend(protocol), family))
    ports_end = ETHERNET + (20 if family == 4 else 40) + 4
    for length in range(ETHERNET, len(frame)):
        outcome = balancer.run(frame[:length], network.BACK)
        is_readable = length >= ports_end  # whose reply it is, the ports say
        assert outcome.verdict is (Verdict.DROP_MALFORMED if is_readable else Verdict.PASS_OTHER), (
            length
        )
        assert outcome.frame == frame[:length]
    expected = in_family(to_client(from_backend(protocol)), family)
    assert balancer.run(frame, network.BACK).frame == bytes(expected)


def test_a_stranger(balancer, protocol, family):
    frame = bytes(in_family(to_service(protocol, "203.0.113.9"), family))
    for length in range(ETHERNET, len(frame) + 1):
        outcome = balancer.run(frame[:length])
        assert (outcome.verdict, outcome.frame) == (Verdict.PASS_OTHER, frame[:length])


def cut_whole(packet, length):
    """The packet cut to `length` bytes from the IP header on, and honest about it."""
    short = packet.copy()
    if IP in short:
        short[IP].len = length
    else:
        short[IPv6].plen = length - 40
    return bytes(short)[: ETHERNET + length]


@pytest.mark.parametrize(
    ("make", "interface"),
    [(to_service, network.FRONT), (from_backend, network.BACK)],
    ids=["forward", "reply"],
)
def test_a_total_length_that_agrees_with_the_cut(balancer, protocol, family, make, interface):
    packet = in_family(make(protocol), family)
    network_header = 20 if family == 4 else 40
    header = network_header + (20 if protocol is Protocol.TCP else 8)
    whole = len(packet) - ETHERNET
    # A datagram has a length of its own; a segment may end anywhere behind its header.
    shortest = header if protocol is Protocol.TCP else whole
    for length in range(network_header + 4, whole + 1):
        outcome = balancer.run(cut_whole(packet, length), interface)
        if length < shortest:
            assert outcome.verdict is Verdict.DROP_MALFORMED, length
        else:
            assert outcome.verdict in SENT, length
            assert len(outcome.frame) == ETHERNET + length


@pytest.mark.parametrize("offset", range(5, 16))
def test_tcp_options_cut_anywhere(balancer, offset):
    options = b"\1" * (4 * offset - 20)
    packet = to_service(Protocol.TCP, dataofs=offset, payload=options)
    for length in range(24, len(packet) - ETHERNET):
        assert balancer.run(cut_whole(packet, length)).verdict is Verdict.DROP_MALFORMED
    outcome = balancer.run(bytes(packet))
    assert has_right_checksums(outcome.frame)
    expected = to_backend(packet)
    expected[TCP].chksum = None
    assert outcome.frame == bytes(expected)


def test_padding_does_not_make_a_short_packet_whole(balancer, protocol):
    packet = to_service(protocol, services.PLAIN, payload=b"")
    for length in range(20, len(packet) - ETHERNET):
        frame = cut_whole(packet, length).ljust(ETHERNET + 64, b"\0")
        verdict = balancer.run(frame).verdict
        # Ports may lie in the padding: then it is nobody's.
        assert verdict is Verdict.DROP_MALFORMED or (
            length < 24 and verdict is Verdict.PASS_OTHER
        ), length
