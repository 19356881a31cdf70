"""What is remembered, and what is not: moved slots, direct flows, shared backends."""

from __future__ import annotations

import pytest
from scapy.layers.l2 import Ether

from reconciler import abi
from reconciler.abi import Verdict
from reconciler.lab.namespaces import run_tool
from reconciler.lab.waiting import wait_until
from reconciler.model import BackendState

from . import network, services
from .clients import START, TCP, UDP, Client, count
from .packets import (
    CLIENT_PORT,
    from_backend,
    in_family,
    rewritten,
    to_service,
)

pytestmark = pytest.mark.root

A, B, C = "a-tcp", "b-tcp", "c-tcp"
TRIO = services.name_service(services.TRIO, TCP)
DIRECT_PORT = services.BACKEND_PORT[services.PLAIN]


@pytest.fixture
def balancer(balancer, family):
    balancer.family = family
    return balancer


@pytest.fixture
def client(balancer):
    return Client(balancer)


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


def test_a_stray_counts_for_one_window(balancer, client):
    balancer.set_slots(TRIO, B, previous=A)
    assert client.send() == A
    balancer.set_slots(TRIO, C, previous=None)
    assert client.open(seq=START + 2**30) == C  # unseen: the slot is settled
    balancer.set_slots(TRIO, B, previous=C)
    balancer.change_service_info(TRIO, drain_timeout_ms=0, window_end_ns=2**63)
    assert client.send(seq=START + 2**30 + 6) == C


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
