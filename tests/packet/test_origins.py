"""How flows came to their backend: direct flows, shared backends."""

from __future__ import annotations

import dataclasses
import time

import pytest

from reconciler.abi import Verdict

from . import network, services
from .clients import START, TCP, count
from .packets import CLIENT_PORT, from_backend, in_family, to_client, to_service
from .test_icmp import INWARD_INSIDE, at, error

pytestmark = pytest.mark.root

DIRECT_PORT = services.BACKEND_PORT[services.PLAIN]


@pytest.fixture
def balancer(balancer, family):
    balancer.family = family
    return balancer


# --- direct flows ---


def send_direct(balancer, protocol=TCP, **fields):
    packet = to_service(protocol, services.PLAIN_BACKEND, port=DIRECT_PORT, **fields)
    outcome = balancer.send(packet)
    assert outcome.verdict is Verdict.PASS_DIRECT
    assert outcome.frame == bytes(in_family(packet, balancer.family))


def ask_reply(balancer, protocol=TCP, **fields):
    """A reply of the plain backend, and whether it was left alone."""
    packet = from_backend(protocol, **fields)
    outcome = balancer.send(packet, network.BACK)
    if outcome.verdict is Verdict.PASS_DIRECT:
        assert outcome.frame == bytes(in_family(packet, balancer.family))
        return "left alone"
    assert outcome.verdict is Verdict.REPLY_REDIRECT
    assert outcome.frame == bytes(in_family(to_client(packet), balancer.family))
    return "translated"


def test_replies_of_a_direct_flow_are_left_alone(balancer, protocol):
    send_direct(balancer, protocol)
    for _ in range(2):
        assert ask_reply(balancer, protocol) == "left alone"


def test_from_its_syn_to_its_end_a_direct_flow_is_left_alone(balancer):
    send_direct(balancer, flags="S", payload=b"")
    assert ask_reply(balancer, flags="SA", payload=b"") == "left alone"
    send_direct(balancer, payload=b"")
    assert ask_reply(balancer) == "left alone"
    send_direct(balancer, flags="FA")
    assert ask_reply(balancer, flags="FA") == "left alone"
    assert ask_reply(balancer, flags="R") == "left alone"


def test_a_refused_direct_syn_gets_its_rst(balancer):
    send_direct(balancer, flags="S", payload=b"")
    assert ask_reply(balancer, flags="RA", payload=b"") == "left alone"


def test_other_flows_of_that_backend_are_still_translated(balancer, protocol):
    send_direct(balancer, protocol)
    assert ask_reply(balancer, protocol, client_port=CLIENT_PORT + 1) == "translated"
    assert ask_reply(balancer, protocol, client=network.FAR_CLIENT) == "translated"


def test_a_direct_port_that_is_used_again_for_the_vip_is_translated(balancer, protocol):
    syn = {"flags": "S", "payload": b"", "seq": START} if protocol is TCP else {}
    answer = {"flags": "SA", "payload": b""} if protocol is TCP else {}
    data = {"seq": START + 1} if protocol is TCP else {}
    send_direct(balancer, protocol, **syn)
    send_direct(balancer, protocol)
    assert ask_reply(balancer, protocol) == "left alone"
    for fields, reply in ((syn, answer), (data, {})):
        balancer.send(to_service(protocol, **fields))
        assert ask_reply(balancer, protocol, **reply) == "translated"


def test_and_the_other_way_round(balancer, protocol):
    syn = {"flags": "S", "payload": b""} if protocol is TCP else {}
    answer = {"flags": "SA", "payload": b""} if protocol is TCP else {}
    balancer.send(to_service(protocol, **syn))
    assert ask_reply(balancer, protocol, **answer) == "translated"
    for fields, reply in ((syn, answer), ({}, {})):
        send_direct(balancer, protocol, **fields)
        assert ask_reply(balancer, protocol, **reply) == "left alone"


# --- shared backends ---


def through(balancer, vip, protocol, **fields):
    outcome = balancer.send(to_service(protocol, vip, **fields))
    assert outcome.verdict is Verdict.FORWARD_REDIRECT
    there = balancer.locate(services.SHARED_BACKEND), services.BACKEND_PORT[vip]
    assert outcome.destination == there


def answer_shared(balancer, protocol, **fields):
    """The VIP that a reply of the shared backend gets."""
    packet = from_backend(protocol, services.SHARED_BACKEND, 8090, **fields)
    outcome = balancer.send(packet, network.BACK)
    assert outcome.verdict is Verdict.REPLY_REDIRECT
    shared = services.SHARED, services.SHARED_TOO
    vip = next(vip for vip in shared if balancer.locate(vip) == outcome.source[0])
    assert outcome.frame == bytes(in_family(to_client(packet, vip), balancer.family))
    return vip


def test_each_reply_of_a_shared_backend_gets_its_own_vip(balancer, protocol):
    vips = (services.SHARED, services.SHARED_TOO)
    flows = [(vip, port) for port in range(1, 11) for vip in vips]
    ports = {vip: 1000 * n for n, vip in enumerate(vips)}
    for vip, port in flows:
        through(balancer, vip, protocol, client_port=ports[vip] + port)
    for vip, port in flows:
        assert answer_shared(balancer, protocol, client_port=ports[vip] + port) == vip


@pytest.mark.parametrize("vip", [services.SHARED, services.SHARED_TOO])
def test_a_handshake_with_a_shared_backend(balancer, vip):
    through(balancer, vip, TCP, flags="S", payload=b"")
    assert answer_shared(balancer, TCP, flags="SA", payload=b"") == vip
    assert answer_shared(balancer, TCP, flags="SA", payload=b"") == vip
    through(balancer, vip, TCP, payload=b"")
    assert answer_shared(balancer, TCP) == vip
    through(balancer, vip, TCP, flags="FA")
    assert answer_shared(balancer, TCP, flags="FA") == vip


def test_a_port_used_again_for_the_other_vip_of_a_shared_backend(balancer):
    for vip in (services.SHARED, services.SHARED_TOO, services.SHARED):
        through(balancer, vip, TCP, flags="S", payload=b"", seq=START)
        assert answer_shared(balancer, TCP, flags="SA", payload=b"") == vip
        through(balancer, vip, TCP, payload=b"", seq=START + 1)
        assert answer_shared(balancer, TCP) == vip


# --- who is believed ---


def count_all(balancer):
    return {name: count(balancer, name) for name in ("origins", "pending", "strays")}


def test_an_answer_is_the_proof(balancer, protocol):
    through(balancer, services.SHARED_TOO, protocol)
    assert count_all(balancer) == {"origins": 0, "pending": 0, "strays": 1}
    assert answer_shared(balancer, protocol) == services.SHARED_TOO
    assert count(balancer, "origins") == 1
    assert balancer.read_events() == {"ASKED": 2, "STRAY": 1, "REMEMBERED": 1}


@pytest.mark.parametrize("flags", ["R", "RA"])
def test_a_refusal_is_none(balancer, flags):
    """What a backend says to a segment out of nowhere, and to a SYN for a closed port."""
    through(balancer, services.SHARED_TOO, TCP)
    through(balancer, services.SHARED_TOO, TCP, client_port=7, flags="S", payload=b"")
    for port in (CLIENT_PORT, 7):
        fields = {"client_port": port, "flags": flags, "payload": b""}
        assert answer_shared(balancer, TCP, **fields) == services.SHARED_TOO
    assert count_all(balancer) == {"origins": 0, "pending": 1, "strays": 1}


def test_an_answered_syn_is_none(balancer):
    through(balancer, services.SHARED_TOO, TCP, flags="S", payload=b"")
    answer_shared(balancer, TCP, flags="SA", payload=b"")
    assert count_all(balancer) == {"origins": 0, "pending": 1, "strays": 0}


def test_a_quoted_answer_is_none(balancer, protocol, family):
    """An ICMP error of somebody on the way to the backend."""
    through(balancer, services.SHARED_TOO, protocol)
    flow = dataclasses.replace(INWARD_INSIDE, dst=services.SHARED_BACKEND, dport=8090)
    packet = at(network.BACK, error(family, protocol, flow))
    outcome = balancer.run(bytes(packet), network.BACK)
    assert outcome.verdict is Verdict.REPLY_REDIRECT
    assert count_all(balancer) == {"origins": 0, "pending": 0, "strays": 1}


@pytest.fixture
def live(balancer):
    """A balancer that knows a connection through SHARED_TOO."""
    through(balancer, services.SHARED_TOO, TCP, flags="S", payload=b"", seq=START)
    answer_shared(balancer, TCP, flags="SA", payload=b"")
    through(balancer, services.SHARED_TOO, TCP, seq=START + 1)
    assert answer_shared(balancer, TCP) == services.SHARED_TOO
    return balancer


@pytest.mark.parametrize(
    "spoofed",
    [
        [{"seq": START + 9}],
        [{"flags": "S", "seq": START + 2}],
        [{"flags": "S", "seq": 5}, {"seq": 6}],
        [{"flags": "FA", "seq": START + 9}],
    ],
    ids=["segment", "syn", "syn-and-segment", "fin"],
)
def test_strangers_take_no_live_flow_to_another_vip(live, spoofed):
    """The backend has not answered their SYN: it knows the connection."""
    for fields in spoofed:
        through(live, services.SHARED, TCP, **fields)
        assert answer_shared(live, TCP) == services.SHARED_TOO
    through(live, services.SHARED_TOO, TCP, seq=START + 10)
    assert answer_shared(live, TCP) == services.SHARED_TOO


def test_strangers_take_no_live_flow_to_the_backend_itself(live):
    for fields in ({"flags": "S", "seq": 5}, {"seq": 6}):
        live.send(to_service(TCP, services.SHARED_BACKEND, port=8090, **fields))
        assert answer_shared(live, TCP) == services.SHARED_TOO


def test_an_unanswered_syn_through_the_other_vip_is_not_believed_later(live):
    """The segments of the flow itself don't continue it."""
    through(live, services.SHARED, TCP, flags="S", seq=START + 1)
    through(live, services.SHARED_TOO, TCP, seq=START + 2)
    assert answer_shared(live, TCP) == services.SHARED_TOO


# --- an end to direct flows ---


def age_direct_flows(balancer, by_s):
    """Have clients last have spoken to the plain backend so much longer ago."""
    key = balancer.backend_id("plain-tcp").to_bytes(4, "little")
    then = ((time.monotonic_ns() - int(by_s * 1e9)) >> 30) + 1
    value = (then % 2**32).to_bytes(4, "little")
    balancer.libbpf.update(balancer.fd("direct_seen"), key, value, "cannot age")


def test_one_direct_packet_has_replies_ask_for_a_day(balancer):
    send_direct(balancer, client_port=9)
    for hours, asks in ((0, True), (23, True), (25, False)):
        age_direct_flows(balancer, hours * 3600)
        before = balancer.read_events().get("ASKED", 0)
        balancer.send(to_service(TCP))
        assert ask_reply(balancer) == "translated"
        assert (balancer.read_events()["ASKED"] > before) is asks


@pytest.mark.parametrize("speaks", ["client", "backend"])
def test_a_direct_flow_that_goes_on_is_left_alone_for_as_long(balancer, speaks):
    send_direct(balancer)
    assert ask_reply(balancer) == "left alone"
    for _ in range(3):
        age_direct_flows(balancer, 20 * 3600)
        if speaks == "client":
            send_direct(balancer)
        assert ask_reply(balancer) == "left alone"
