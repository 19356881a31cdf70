"""What is remembered, and what is not: moved slots, direct flows, shared backends."""

from __future__ import annotations

import random
from ipaddress import IPv4Address

import pytest
from scapy.layers.l2 import Ether

from reconciler import abi
from reconciler.abi import Verdict
from reconciler.lab.namespaces import run_tool
from reconciler.lab.waiting import wait_until
from reconciler.model import BackendState, Protocol

from . import network, services
from .packets import (
    CLIENT_PORT,
    from_backend,
    in_family,
    rewritten,
    to_client,
    to_service,
)

pytestmark = pytest.mark.root

TCP, UDP = Protocol.TCP, Protocol.UDP
START = 0xFFFF_FF00  # sequence numbers that wrap soon
A, B, C = "a-tcp", "b-tcp", "c-tcp"
TRIO = services.name_service(services.TRIO, TCP)
DIRECT_PORT = services.BACKEND_PORT[services.PLAIN]


class Client:
    """Sends packets for a VIP, and says which backend each goes to."""

    def __init__(self, balancer, vip=services.TRIO, *, port=CLIENT_PORT, address=network.CLIENT):
        self.balancer = balancer
        self.vip = vip
        self.port = port
        self.address = address
        self.names = balancer.backend_names

    def send(self, flags="A", seq=START + 1, payload=b"hello"):
        """A segment; `seq` may run over."""
        fields = {"flags": flags, "seq": seq % 2**32, "payload": payload}
        return self._run(TCP, **fields)

    def send_datagram(self):
        return self._run(UDP)

    def syn(self, seq=START):
        return self.send("S", seq, b"")

    def open(self, seq=START):
        """SYN and ACK; both go to one backend."""
        chosen = self.syn(seq)
        assert self.send(seq=seq + 1) == chosen
        return chosen

    def _run(self, protocol, **fields):
        client = {"client": self.address, "client_port": self.port}
        outcome = self.balancer.send(to_service(protocol, self.vip, **client, **fields))
        assert outcome.verdict is Verdict.FORWARD_REDIRECT
        return self.names[outcome.destination, protocol]

    def flow(self, protocol=TCP, name="flows"):
        """What is remembered of this flow."""
        me, vip = map(self.balancer.locate, (self.address, self.vip))
        return self.balancer.find_flow((me, self.port), (vip, services.VIP_PORT), protocol, name)

    def go_on(self):
        """Two segments of a connection that is older; they go to one backend."""
        chosen = self.send()
        assert self.send(seq=START + 6) == chosen
        return chosen


@pytest.fixture
def balancer(balancer, family):
    balancer.family = family
    return balancer


@pytest.fixture
def client(balancer):
    return Client(balancer)


def count(balancer, name="flows"):
    return len(balancer.read_flows(name)[0])


# --- settled ---


def test_the_second_packet_goes_where_the_first_went(balancer, protocol):
    send = Client.send if protocol is TCP else Client.send_datagram
    for port in range(1024, 1124):
        client = Client(balancer, port=port)
        assert send(client) == send(client) == send(client)


def test_all_flags_of_a_flow_go_to_one_backend(client):
    backend = client.syn()
    assert [client.send(flags) for flags in ("A", "PA", "FA", "R", "RA", "S")] == [backend] * 6


def test_flows_spread_over_all_backends(balancer, protocol):
    send = Client.send if protocol is TCP else Client.send_datagram
    found = {send(Client(balancer, port=port)) for port in range(1024, 1124)}
    assert len(found) == len(services.TRIO_BACKENDS)


def test_affinity_client_keeps_every_port_on_one_backend(balancer, protocol):
    send = Client.send if protocol is TCP else Client.send_datagram
    found = {}
    for address in (f"198.51.100.{n}" for n in range(1, 40)):
        found[address] = {
            send(Client(balancer, services.STICKY, address=address, port=port))
            for port in (1, 1024, 65_535)
        }
    assert {len(names) for names in found.values()} == {1}
    assert len(set.union(*found.values())) == len(services.STICKY_BACKENDS)


def test_a_settled_slot_remembers_nothing(balancer, client):
    client.open()
    client.send("FA")
    balancer.send(from_backend(TCP, services.TRIO_BACKENDS["a"], 8092), network.BACK)
    assert (count(balancer), count(balancer, "pending")) == (0, 0)


# --- moved ---


def test_a_flow_older_than_the_move_stays_and_is_remembered(balancer, client):
    balancer.set_slots(TRIO, B, previous=A)
    assert client.send() == A
    assert client.flow() is None
    assert client.flow(name="strays")["backend"] == balancer.backend_id(A)
    assert client.send(seq=START + 6) == A
    assert client.flow(name="strays") is None
    flow = client.flow()
    assert flow["kind"] == abi.FlowKind.BACKEND
    assert flow["backend"] == balancer.backend_id(A)
    assert flow["slot"] in range(*balancer.ring(TRIO).indices(2**20))
    balancer.set_slots(TRIO, B, previous=B)
    assert client.send() == A
    assert client.send("FA") == A


def test_a_syn_goes_to_the_new_backend_and_its_ack_too(balancer, client):
    balancer.set_slots(TRIO, B, previous=A)
    assert client.syn() == B
    assert client.flow() is None
    assert client.send(seq=START + 1) == B
    assert client.flow()["backend"] == balancer.backend_id(B)
    assert client.send(seq=START + 2**20) == B


@pytest.mark.parametrize(
    ("seq", "backend"),
    [(START, A), (START + 1, B), (START + 2**16, B), (START + 2**16 + 1, A), (START - 1, A)],
)
def test_only_a_segment_that_continues_the_syn_belongs_to_it(balancer, client, seq, backend):
    balancer.set_slots(TRIO, B, previous=A)
    client.syn()
    assert client.send(seq=seq) == backend


def test_a_repeated_syn_changes_nothing(balancer, client):
    balancer.set_slots(TRIO, B, previous=A)
    assert [client.syn(), client.syn(), client.send()] == [B, B, B]


def test_a_spoofed_syn_does_not_move_a_flow_that_is_remembered(balancer, client):
    balancer.set_slots(TRIO, B, previous=A)
    assert client.go_on() == A
    assert client.syn(seq=START + 5000) == A
    assert client.send() == A


def test_a_spoofed_syn_does_not_move_a_flow_that_has_been_silent(balancer, client):
    balancer.set_slots(TRIO, B, previous=A)
    client.syn(seq=START + 2**31)
    assert client.send() == A
    client.syn(seq=START + 2**31)
    assert client.go_on() == A
    assert client.syn(seq=START + 2**31) == A


def test_a_spoofed_syn_does_not_move_a_flow_in_its_goodbye(balancer, client):
    balancer.set_slots(TRIO, B, previous=A)
    client.send()
    assert client.send("FA") == A
    client.syn(seq=START + 2**31)
    assert client.send(seq=START + 7) == A


def test_pinned_slots_keep_who_is_remembered_and_lead_others_on(balancer, client):
    balancer.set_slots(TRIO, B, previous=A)
    assert client.send() == A
    balancer.set_slots(TRIO, B, previous=B)
    stranger = Client(balancer, port=CLIENT_PORT + 1)
    assert client.send() == A
    assert stranger.send() == B
    assert stranger.syn() == B
    assert stranger.flow() is None


def test_a_second_move_keeps_the_flows_of_both_owners(balancer, client):
    newer = Client(balancer, port=CLIENT_PORT + 1)
    newest = Client(balancer, port=CLIENT_PORT + 2)
    balancer.set_slots(TRIO, B, previous=A)
    assert client.send() == A
    assert newer.open() == B
    balancer.set_slots(TRIO, C, previous=A)
    assert newest.open() == C
    assert [each.send() for each in (client, newer, newest)] == [A, B, C]


def test_a_flow_of_an_ids_former_holder_is_forgotten(balancer, client):
    balancer.set_slots(TRIO, B, previous=A)
    client.send()
    balancer.set_slots(TRIO, B, previous=B)
    balancer.change_backend(A, born=balancer.base.backends[balancer.backend_id(A)].born + 1)
    assert client.send() == B


def test_a_pending_syn_of_an_ids_former_holder_is_forgotten(balancer, client):
    balancer.set_slots(TRIO, B, previous=A)
    client.syn()
    balancer.change_backend(B, born=balancer.base.backends[balancer.backend_id(B)].born + 1)
    assert client.send() == A


def test_a_flow_of_a_backend_in_maintenance_is_forgotten(balancer, client):
    balancer.set_slots(TRIO, B, previous=A)
    client.send()
    balancer.set_slots(TRIO, B, previous=B)
    balancer.change_backend(A, state=BackendState.MAINT)
    assert client.send() == B


def test_a_draining_backend_keeps_its_flows_and_gets_no_new_ones(balancer, client):
    balancer.set_slots(TRIO, B, previous=A)
    balancer.change_backend(A, state=BackendState.DRAIN)
    assert client.send() == A
    assert client.send() == A
    assert Client(balancer, port=1).syn() == B


def test_the_same_tuple_as_tcp_and_as_udp_are_two_flows(balancer, client):
    balancer.set_slots(TRIO, B, previous=A)
    balancer.set_slots(services.name_service(services.TRIO, UDP), "b-udp", previous="a-udp")
    assert client.open() == B
    assert client.send_datagram() == "a-udp"
    assert client.send() == B
    assert client.flow(TCP)["backend"] == balancer.backend_id(B)
    assert client.flow(UDP, "strays")["backend"] == balancer.backend_id("a-udp")


@pytest.mark.parametrize("last", ["FA", "R", "RA"])
def test_a_port_that_is_used_again_goes_to_the_new_backend(balancer, client, last):
    balancer.set_slots(TRIO, B, previous=A)
    client.send()
    assert client.send(last) == A
    assert client.syn(seq=START + 2**30) == B
    assert client.send(seq=START + 2**30 + 1) == B
    assert client.flow()["backend"] == balancer.backend_id(B)


@pytest.mark.parametrize("last", ["FA", "R", "RA"])
def test_a_goodbye_that_is_the_first_word_is_one(balancer, client, last):
    balancer.set_slots(TRIO, B, previous=A)
    assert client.send(last) == A
    assert client.syn(seq=START + 2**30) == B


def test_a_short_flows_goodbye_is_not_forgotten(balancer, client):
    balancer.set_slots(TRIO, B, previous=A)
    assert client.open() == B
    assert client.send("FA", seq=START + 6) == B
    assert client.send("A", seq=START + 7, payload=b"") == B
    balancer.set_slots(TRIO, C, previous=B)
    assert client.syn(seq=START + 2**30) == C


def test_after_the_goodbye_late_segments_still_find_their_backend(balancer, client):
    balancer.set_slots(TRIO, B, previous=A)
    client.send()
    assert [client.send("FA"), client.send("A"), client.send("R")] == [A, A, A]


# --- floods ---


def clients(balancer, number):
    chance = random.Random(1)
    for _ in range(number):
        address = str(IPv4Address(chance.randrange(0x0B00_0000, 0x7F00_0000)))
        yield Client(balancer, address=address, port=chance.randrange(1, 65_536))


def test_a_flood_of_syns_evicts_no_established_flow(balancer):
    balancer.set_slots(TRIO, B, previous=A)
    established = [Client(balancer, port=port) for port in range(1, 101)]
    assert {each.send() for each in established} == {A}
    capacity = balancer.libbpf.map_info(balancer.fd("pending"))[2]
    with balancer.inside():
        assert {each.syn() for each in clients(balancer, 10 * capacity)} == {B}
        assert {each.send() for each in established} == {A}
    assert count(balancer) == len(established)


def test_a_full_flow_table_still_forwards_new_flows(balancer):
    balancer.set_slots(TRIO, B, previous=A)
    capacity = balancer.libbpf.map_info(balancer.fd("flows"))[2]
    with balancer.inside():
        assert {each.send() for each in clients(balancer, 2 * capacity)} == {A}
        assert Client(balancer).open() == B
    assert count(balancer) <= capacity


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


def test_a_syn_flood_on_a_shared_backend_evicts_no_flow(balancer):
    through(balancer, services.SHARED_TOO, TCP)
    capacity = balancer.libbpf.map_info(balancer.fd("pending"))[2]
    with balancer.inside():
        for port in range(1, 10 * capacity):
            fields = {"client": network.FAR_CLIENT, "client_port": port, "flags": "S"}
            through(balancer, services.SHARED, TCP, **fields)
    assert answer_shared(balancer, TCP) == services.SHARED_TOO


# --- next hops ---


def test_devices_that_take_no_frames_get_them_through_the_stack(balancer, protocol):
    packet = to_service(protocol)
    backend = (services.PLAIN_BACKEND, DIRECT_PORT)
    with balancer.interface(network.BACK, transmits=False, redirects=False):
        outcome = balancer.send(packet)
    assert outcome.verdict is Verdict.FORWARD_STACK
    assert outcome.frame == bytes(in_family(rewritten(packet, dst=backend), balancer.family))


def test_an_interface_that_only_transmits_takes_nothing_from_others(balancer, protocol):
    with balancer.interface(network.BACK, transmits=True, redirects=False):
        outcome = balancer.send(to_service(protocol))
    assert outcome.verdict is Verdict.FORWARD_STACK


def test_an_interface_that_only_redirects_takes_its_own_frames_back(balancer, protocol):
    with balancer.interface(network.FRONT, transmits=False, redirects=True):
        outcome = balancer.send(to_service(protocol, services.ONE_ARM))
    assert outcome.verdict is Verdict.FORWARD_REDIRECT


def test_the_way_does_not_depend_on_who_went_before(balancer, protocol):
    ways = {network.FRONT: Verdict.FORWARD_REDIRECT, network.BACK: Verdict.FORWARD_TRANSMIT}
    packet = to_service(protocol)
    for order in (list(ways), list(ways)[::-1]):
        balancer.forget_ways()
        assert [balancer.send(packet, name).verdict for name in order] == [ways[n] for n in order]


def test_a_changed_neighbour_is_followed(balancer):
    """With no controller about, and though the next hop is remembered."""
    packet = to_service(TCP)
    replace = ["ip", "-n", balancer.namespace, "neigh", "replace"]
    replace += [
        str(balancer.locate(services.PLAIN_BACKEND)),
        "dev",
        network.BACK,
        "nud",
        "permanent",
        "lladdr",
    ]
    before = network.neighbour_mac(services.PLAIN_BACKEND)
    after = "02:00:00:00:ab:cd"

    def destination_mac():
        return balancer.send(packet).frame[:6].hex(":")

    assert destination_mac() == before
    run_tool([*replace, after])
    try:
        wait_until(lambda: destination_mac() == after, "frames go to the new MAC address")
    finally:
        run_tool([*replace, before])
        balancer.forget_ways()
    assert destination_mac() == before


def test_bytes_are_counted_for_the_backend(balancer, protocol):
    number = balancer.backend_id(f"plain-{protocol.name.lower()}")
    before = balancer.dataplane.read_counters("backend_stats")[number].copy()
    there, back = to_service(protocol, payload=b"x" * 100), from_backend(protocol)
    balancer.send(there)
    balancer.send(back, network.BACK)
    after = balancer.dataplane.read_counters("backend_stats")[number]
    risen = {name: int(after[name] - before[name]) for name in after.dtype.names}
    assert risen == {
        "packets": 1,
        "bytes": len(in_family(there, balancer.family)) - len(Ether()),
        "new_flows": 0,
        "reply_packets": 1,
        "reply_bytes": len(in_family(back, balancer.family)) - len(Ether()),
    }
