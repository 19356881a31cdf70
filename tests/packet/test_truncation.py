"""Every packet cut at every length. A frame shorter than its Ethernet header never
comes this far: `bpf_prog_test_run_opts` refuses it, as a driver would."""

from __future__ import annotations

import errno

import pytest
from scapy.layers.inet import IP, TCP, IPOption_RR
from scapy.layers.l2 import Ether

from reconciler.abi import Verdict
from reconciler.dataplane.libbpf import KernelRefused
from reconciler.model import Protocol

from . import network, services
from .packets import from_backend, has_right_checksums, to_backend, to_client, to_service

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


def test_a_reply(balancer, protocol):
    frame = bytes(from_backend(protocol))
    for length in range(ETHERNET, len(frame)):
        outcome = balancer.run(frame[:length], network.BACK)
        # Whose reply it is, the ports say; they end 4 bytes later.
        is_readable = length >= ADDRESSES_END + 4
        assert outcome.verdict is (Verdict.DROP_MALFORMED if is_readable else Verdict.PASS_OTHER), (
            length
        )
        assert outcome.frame == frame[:length]
    assert balancer.run(frame, network.BACK).frame == bytes(to_client(from_backend(protocol)))


def test_a_stranger(balancer, protocol):
    frame = bytes(to_service(protocol, "203.0.113.9"))
    for length in range(ETHERNET, len(frame) + 1):
        outcome = balancer.run(frame[:length])
        assert (outcome.verdict, outcome.frame) == (Verdict.PASS_OTHER, frame[:length])


def cut_whole(packet, length):
    """The packet cut to `length` bytes from the IP header on, and honest about it."""
    short = packet.copy()
    short[IP].len = length
    return bytes(short)[: ETHERNET + length]


@pytest.mark.parametrize(
    ("make", "interface"),
    [(to_service, network.FRONT), (from_backend, network.BACK)],
    ids=["forward", "reply"],
)
def test_a_total_length_that_agrees_with_the_cut(balancer, protocol, make, interface):
    packet = make(protocol)
    header = 20 + (20 if protocol is Protocol.TCP else 8)
    whole = len(packet) - ETHERNET
    # A datagram has a length of its own; a segment may end anywhere behind its header.
    shortest = header if protocol is Protocol.TCP else whole
    for length in range(24, whole + 1):
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
