"""Tagged frames: they leave where they came in, with their tags, or not by XDP."""

from __future__ import annotations

import pytest
from scapy.layers.inet import TCP
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Raw

from reconciler.abi import Verdict
from reconciler.model import Protocol

from . import network, services
from .packets import (
    TO_BALANCER,
    from_backend,
    in_family,
    passed_on,
    read_ip,
    rewritten,
    to_client,
    to_service,
)
from .services import TUNNELS, Mode
from .test_icmp import answer, ask
from .test_tunnels import expect, for_mode

pytestmark = pytest.mark.root

TAGS = {
    "802.1q": Dot1Q(vlan=5, prio=3),
    "802.1ad": Dot1AD(vlan=5),
    "two": Dot1AD(vlan=5) / Dot1Q(vlan=6, prio=7),
    "two-of-802.1q": Dot1Q(vlan=5) / Dot1Q(vlan=4095),
}


@pytest.fixture(params=TAGS)
def tags(request):
    return TAGS[request.param]


def tagged(packet, tags):
    """The packet with tags behind its MACs."""
    link = packet[Ether].copy()
    link.remove_payload()
    del link.type
    return link / tags.copy() / packet[Ether].payload.copy()


BESIDE = (network.NEIGHBOUR, services.BACKEND_PORT[services.ONE_ARM])


def test_nat(balancer, protocol, family, tags):
    packet = to_service(protocol, services.ONE_ARM)
    there = rewritten(packet, dst=BESIDE, interface=network.FRONT, hop=network.NEIGHBOUR)
    before, after = (tagged(in_family(each, family), tags) for each in (packet, there))
    outcome = balancer.run(bytes(before))
    assert outcome.verdict is Verdict.FORWARD_TRANSMIT
    assert outcome.frame.hex(" ") == bytes(after).hex(" ")


def test_a_reply(balancer, protocol, family, tags):
    packet = from_backend(protocol, *BESIDE)
    there = to_client(packet, services.ONE_ARM)
    before, after = (tagged(in_family(each, family), tags) for each in (packet, there))
    outcome = balancer.run(bytes(before))
    assert outcome.verdict is Verdict.REPLY_TRANSMIT
    assert outcome.frame == bytes(after)


def test_nat_by_the_stack_where_another_tag_is_due(balancer, protocol, family, tags):
    backend = (services.PLAIN_BACKEND, services.BACKEND_PORT[services.PLAIN])
    vip = (services.PLAIN, services.VIP_PORT)
    for packet, there, interface, verdict in (
        (to_service(protocol), {"dst": backend}, network.FRONT, Verdict.FORWARD_STACK),
        (from_backend(protocol), {"src": vip}, network.BACK, Verdict.REPLY_STACK),
    ):
        after = rewritten(packet, **there)
        before, after = (tagged(in_family(each, family), tags) for each in (packet, after))
        outcome = balancer.run(bytes(before), interface)
        assert outcome.verdict is verdict
        assert outcome.frame == bytes(after)


@pytest.mark.parametrize("mode", [Mode.L2DSR, *TUNNELS], ids=lambda mode: mode.name.lower())
def test_other_modes(balancer, protocol, family, tags, mode):
    packet = tagged(for_mode(mode, protocol, family, services.ONE_ARM), tags)
    outcome = balancer.run(bytes(packet))
    assert outcome.verdict is Verdict.FORWARD_TRANSMIT
    if mode is Mode.L2DSR:
        assert outcome.frame == bytes(passed_on(packet, network.FRONT, network.NEIGHBOUR))
    else:
        beside = {"backend": network.NEIGHBOUR, "interface": network.FRONT}
        expect(outcome, packet, mode, **beside)
    elsewhere = bytes(tagged(for_mode(mode, protocol, family), tags))
    outcome = balancer.run(elsewhere)
    assert (outcome.verdict, outcome.frame) == (Verdict.DROP_NO_NEXTHOP, elsewhere)


def test_echo(balancer, family, tags):
    packet = ask(family)
    outcome = balancer.run(bytes(tagged(packet, tags)))
    assert outcome.verdict is Verdict.ECHO_TRANSMIT
    assert outcome.frame == bytes(tagged(answer(packet), tags))


def test_strangers(balancer, protocol, family, tags):
    frame = bytes(tagged(in_family(to_service(protocol, "203.0.113.9"), family), tags))
    outcome = balancer.run(frame)
    assert (outcome.verdict, outcome.frame) == (Verdict.PASS_OTHER, frame)


@pytest.mark.parametrize("tag", [Dot1Q, Dot1AD])
def test_a_third_tag_hides_the_packet(balancer, family, tag):
    packet = in_family(to_service(Protocol.TCP, services.ONE_ARM), family)
    frame = bytes(tagged(packet, tag(vlan=1) / Dot1Q(vlan=2) / Dot1Q(vlan=3)))
    outcome = balancer.run(frame)
    assert (outcome.verdict, outcome.frame) == (Verdict.PASS_OTHER, frame)


def test_other_things_behind_a_tag(balancer, tags):
    link = Ether(**TO_BALANCER[network.FRONT])
    frame = bytes(link / tags.copy() / Raw(bytes(60)))
    outcome = balancer.run(frame)
    assert (outcome.verdict, outcome.frame) == (Verdict.PASS_OTHER, frame)


def test_cut_anywhere(balancer, family, tags):
    packet = tagged(in_family(to_service(Protocol.TCP, services.ONE_ARM), family), tags)
    frame = bytes(packet)
    network_header = 20 if family == 4 else 40
    addresses_end = len(frame) - len(read_ip(packet)) + network_header
    for length in range(len(Ether()), len(frame)):
        outcome = balancer.run(frame[:length])
        is_readable = length >= addresses_end
        assert outcome.verdict is (Verdict.DROP_MALFORMED if is_readable else Verdict.PASS_OTHER)
        assert outcome.frame == frame[:length]
    assert TCP in packet
