"""Who is remembered: what a flow has to do for it, and what becomes of it until then."""

from __future__ import annotations

import pytest

from reconciler.abi import Verdict

from . import services
from .clients import START, TCP, UDP, Client, count
from .packets import CLIENT_PORT, to_service

pytestmark = pytest.mark.root

A, B, C = "a-tcp", "b-tcp", "c-tcp"
TRIO = services.name_service(services.TRIO, TCP)
TRIO_UDP = services.name_service(services.TRIO, UDP)
REACH = 2**20  # SEGMENT_REACH of bpf/flow.h
HALF = 2**31


@pytest.fixture
def balancer(balancer, family):
    balancer.family = family
    return balancer


@pytest.fixture
def client(balancer):
    return Client(balancer)


@pytest.fixture
def moved(balancer):
    """A balancer whose trio has moved from A to B."""
    balancer.set_slots(TRIO, B, previous=A)
    balancer.set_slots(TRIO_UDP, "b-udp", previous="a-udp")
    return balancer


def count_all(balancer):
    return {name: count(balancer, name) for name in ("flows", "pending", "strays")}


# --- strays ---


@pytest.mark.parametrize("start", [0, 5, HALF, 2**32 - 5])
@pytest.mark.parametrize("step", [-REACH, -1, 0, 1, REACH - 1])
def test_a_stray_that_goes_on_nearby_is_remembered(moved, client, start, step):
    assert client.send(seq=start) == A
    assert client.send(seq=start + step) == A
    assert client.flow()["backend"] == moved.backend_id(A)
    assert client.flow(name="strays") is None
    assert moved.read_events() == {"ASKED": 2, "STRAY": 1, "REMEMBERED": 1}


@pytest.mark.parametrize("start", [0, 5, HALF, 2**32 - 5])
@pytest.mark.parametrize("step", [-HALF, -REACH - 1, REACH, HALF - 1])
def test_a_stray_that_jumps_waits_on(moved, client, start, step):
    client.send(seq=start)
    assert client.send(seq=start + step) == A
    assert client.flow() is None
    assert moved.read_events() == {"ASKED": 2, "STRAY": 1}
    assert client.send(seq=start + step + 1) == A  # near the last one
    assert client.flow()["backend"] == moved.backend_id(A)


def test_a_syn_of_a_stray_begins_anew(moved, client):
    client.send()
    assert client.syn(seq=START + HALF) == B
    assert client.send(seq=START + HALF + 1) == B
    assert client.flow()["backend"] == moved.backend_id(B)
    assert client.send(seq=START) == B


def test_a_stray_goes_where_it_was_sent_when_its_slot_is_pinned(moved, client):
    client.send()
    moved.set_slots(TRIO, B, previous=B)
    assert client.send(seq=START + HALF) == A
    assert client.flow() is None
    assert client.send(seq=START + HALF + 1) == A
    assert client.flow()["backend"] == moved.backend_id(A)
    moved.set_slots(TRIO, C, previous=B)
    assert client.send() == A


def test_resets_remember_nobody(moved, client):
    """A host that is answered a SYN it never sent says RST, and its number fits."""
    stranger = Client(moved, port=CLIENT_PORT + 1)
    assert client.syn() == B
    assert client.send("R", seq=START + 1, payload=b"") == B
    assert [stranger.send("R"), stranger.send("R")] == [A, A]
    assert count_all(moved) == {"flows": 0, "pending": 1, "strays": 1}
    assert moved.read_events() == {"ASKED": 4, "PENDING": 1, "STRAY": 1}


# --- goodbyes ---


@pytest.mark.parametrize("last", ["FA", "R", "RA"])
def test_a_goodbye_closes_what_it_is_near_to(moved, client, last):
    client.go_on()
    assert client.send(last, seq=START + 6 + HALF) == A  # anybody's
    assert not client.flow()["closing"]
    assert client.syn(seq=START + HALF) == A
    assert client.send(last, seq=START + 12) == A
    assert client.flow()["closing"]
    assert client.syn(seq=START + HALF) == B


def test_a_goodbye_follows_the_flow_however_far_it_goes(moved, client):
    client.go_on()
    for seq in range(START, START + 2**24, REACH - 1):
        client.send(seq=seq)
    assert client.send("FA", seq=START + 2**24) == A
    assert client.flow()["closing"]


def test_a_goodbye_that_came_first_stays_one(moved, client):
    """The FIN, and the ACK of the other side's."""
    client.send("FA")
    assert client.send("A", seq=START + 2, payload=b"") == A
    assert client.flow()["closing"]


def test_a_stranger_ends_no_stray(moved, client):
    client.send()
    client.send("FA", seq=START + HALF)
    assert client.flow(name="strays")["closing"]
    client.send()  # the flow itself
    assert not client.flow(name="strays")["closing"]
    client.send(seq=START + 6)
    assert not client.flow()["closing"]


# --- the window ---


def test_the_window_ends_by_itself(moved, client):
    newer, silent = (Client(moved, port=CLIENT_PORT + n) for n in (1, 2))
    assert client.send() == A
    assert newer.go_on() == A
    moved.set_window(TRIO, left_s=-1)
    before = count_all(moved)
    assert [silent.send(), silent.send(seq=START + 6), silent.syn()] == [B] * 3
    assert count_all(moved) == before
    assert [client.send(seq=START + HALF), newer.send()] == [A, A]
    assert client.send(seq=START + HALF + 1) == A
    assert client.flow()["backend"] == moved.backend_id(A)


def test_the_window_of_datagrams_too(moved, client):
    moved.set_window(TRIO_UDP, left_s=-1)
    assert [client.send_datagram(), client.send_datagram()] == ["b-udp", "b-udp"]
    assert count_all(moved) == {"flows": 0, "pending": 0, "strays": 0}
    assert moved.read_events() == {"ASKED": 2}


def test_a_slot_that_came_back_knows_whose_syn_went_elsewhere(moved, client):
    """Pinned, and the handshake of a flow on the other backend is not over."""
    assert client.syn() == B
    moved.set_slots(TRIO, A, previous=A)
    assert client.send(seq=START + 1) == B
    assert client.flow()["backend"] == moved.backend_id(B)
    assert Client(moved, port=CLIENT_PORT + 1).open() == A


# --- no room ---


def test_without_room_a_new_flow_stays_with_its_backend(moved, client):
    moved.fill_flows()
    assert client.open() == B
    # A request after the ACK has its number; then comes a retransmission, then a jump.
    for seq in (START + 1, START + 1, START + 900, START + 1, START + 2**18, START + HALF):
        assert client.send(seq=seq) == B
    assert client.flow() is None
    assert client.flow(name="pending") is None
    assert client.flow(name="strays")["backend"] == moved.backend_id(B)
    assert moved.read_events() == {"ASKED": 8, "PENDING": 1, "STRAY": 1, "REFUSED": 6}
    moved.forget_strangers()
    assert client.send(seq=START + HALF + 1) == B
    assert client.flow()["backend"] == moved.backend_id(B)
    assert client.flow(name="strays") is None


def test_without_room_an_older_flow_stays_too(moved, client):
    moved.fill_flows()
    for seq in (START, START + 6, START + 12, START + HALF, START + HALF + 6):
        assert client.send(seq=seq) == A
    assert client.flow() is None
    assert moved.read_events() == {"ASKED": 5, "STRAY": 1, "REFUSED": 3}
    moved.forget_strangers()
    assert client.send(seq=START + HALF + 12) == A
    assert client.flow()["backend"] == moved.backend_id(A)


def test_without_room_a_goodbye_is_not_forgotten(moved, client):
    moved.fill_flows()
    client.open()
    assert client.send("FA", seq=START + 6) == B
    assert client.send("A", seq=START + 7, payload=b"") == B
    assert client.flow(name="strays")["closing"]
    moved.set_slots(TRIO, C, previous=A)
    assert client.syn(seq=START + HALF) == C


def test_without_room_who_is_remembered_stays(moved, client):
    client.go_on()
    moved.fill_flows()
    assert client.send("FA", seq=START + 12) == A
    assert client.syn(seq=START + HALF) == B
    assert client.send(seq=START + HALF + 1) == B  # in the place that it had
    assert client.flow()["backend"] == moved.backend_id(B)


# --- datagrams ---


def test_datagrams_prove_themselves_after_a_second(moved, client):
    assert [client.send_datagram() for _ in range(3)] == ["a-udp"] * 3
    assert (client.flow(UDP), client.flow(UDP, "pending")) == (None, None)
    moved.age_flows("strays", 0.9)
    client.send_datagram()
    assert client.flow(UDP) is None
    moved.age_flows("strays", 0.1)
    assert client.send_datagram() == "a-udp"
    assert client.flow(UDP)["backend"] == moved.backend_id("a-udp")
    assert client.flow(UDP, "strays") is None
    assert moved.read_events() == {"ASKED": 5, "STRAY": 1, "REMEMBERED": 1}
    moved.set_slots(TRIO_UDP, "b-udp", previous="b-udp")
    assert client.send_datagram() == "a-udp"
    assert Client(moved, port=CLIENT_PORT + 1).send_datagram() == "b-udp"


def test_datagrams_without_room_stay_too(moved, client):
    moved.fill_flows()
    client.send_datagram()
    moved.age_flows("strays", 1)
    assert [client.send_datagram() for _ in range(3)] == ["a-udp"] * 3
    assert moved.read_events() == {"ASKED": 4, "STRAY": 1, "REFUSED": 3}


# --- flow_tracking: always ---


@pytest.fixture
def tracked(balancer):
    for name in (TRIO, TRIO_UDP):
        balancer.change_service(name, is_tracked=True)
    return balancer


def test_a_tracked_service_remembers_on_settled_slots(tracked, client):
    home = client.open()
    older = Client(tracked, port=CLIENT_PORT + 1)
    other_home = older.go_on()
    assert client.flow()["backend"] == tracked.backend_id(home)
    assert older.flow()["backend"] == tracked.backend_id(other_home)
    assert tracked.read_events() == {"ASKED": 4, "PENDING": 1, "STRAY": 1, "REMEMBERED": 2}
    tracked.set_slots(TRIO, C, previous=None)
    assert [client.send(), older.send()] == [home, other_home]
    assert Client(tracked, port=CLIENT_PORT + 2).open() == C


def test_a_tracked_service_remembers_datagrams_on_settled_slots(tracked, client):
    home = client.send_datagram()
    tracked.age_flows("strays", 1)
    assert client.send_datagram() == home
    assert client.flow(UDP)["backend"] == tracked.backend_id(home)
    for backend in ("a-udp", "b-udp", "c-udp"):
        tracked.set_slots(TRIO_UDP, backend, previous=None)  # an unknown one is new
        assert client.send_datagram() == home
        assert Client(tracked, port=CLIENT_PORT + 1).send_datagram() == "a-udp"


def test_a_tracked_service_learns_older_connections_of_moved_slots(tracked, client):
    tracked.set_slots(TRIO, B, previous=A)
    assert client.go_on() == A
    assert Client(tracked, port=CLIENT_PORT + 1).open() == B
    tracked.set_slots(TRIO, B, previous=None)
    assert client.send() == A


def test_only_the_tracked_service_asks(tracked):
    outcome = tracked.send(to_service(TCP, services.STICKY))
    assert outcome.verdict is Verdict.FORWARD_REDIRECT
    assert tracked.read_events() == {}
