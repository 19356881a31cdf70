"""Floods of strangers, ten times what the tables hold: who is established stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from . import network, services
from .balancer import MEMORY
from .clients import START, TCP, UDP, Client, count
from .floods import (
    Frames,
    flood_answers,
    flood_backscatter,
    flood_datagrams,
    flood_errors,
    flood_handshakes,
    flood_segments,
    flood_twice,
)
from .packets import from_backend, to_service

pytestmark = pytest.mark.root

TRIO, TRIO_UDP = (services.name_service(services.TRIO, each) for each in (TCP, UDP))
HOMES = {TCP: "a-tcp", UDP: "a-udp"}
ESTABLISHED = 50  # of each protocol


# By name: the flood, and what it is in an open window. R: the room that is left in `flows`.
FLOODS: dict[str, tuple[Callable[[int, int], Frames], Callable[[int, int], dict[str, int]]]] = {
    "syn": (lambda n, f: flood_segments(n, f, "S"), lambda n, _: {"PENDING": n}),
    "ack": (lambda n, f: flood_segments(n, f, "A"), lambda n, _: {"STRAY": n}),
    "fin": (lambda n, f: flood_segments(n, f, "FA"), lambda n, _: {"STRAY": n}),
    "rst": (lambda n, f: flood_segments(n, f, "R"), lambda n, _: {"STRAY": n}),
    "udp": (flood_datagrams, lambda n, _: {"STRAY": n}),
    "icmp": (flood_errors, lambda _n, _r: {}),
    "backscatter": (flood_backscatter, lambda n, _: {"PENDING": n // 2}),
    "two-fitting-acks": (
        flood_twice,
        lambda n, room: {"STRAY": n // 2, "REMEMBERED": room, "REFUSED": n // 2 - room},
    ),
    "syn-and-fitting-ack": (
        flood_handshakes,
        lambda n, room: {
            "PENDING": n // 2,
            "STRAY": n // 2 - room,
            "REMEMBERED": room,
            "REFUSED": n // 2 - room,
        },
    ),
}
by_flood = pytest.mark.parametrize("name", FLOODS)


@pytest.fixture
def balancer(balancer, family):
    balancer.family = family
    return balancer


@pytest.fixture
def established(balancer):
    """Flows that are older than a move, and have shown themselves since."""
    balancer.set_slots(TRIO, "b-tcp", previous="a-tcp")
    balancer.set_slots(TRIO_UDP, "b-udp", previous="a-udp")
    clients = [Client(balancer, port=port) for port in range(1, ESTABLISHED + 1)]
    for each in clients:
        each.go_on()
        each.send_datagram()
    balancer.age_flows("strays", 1)
    for each in clients:
        each.send_datagram()
    assert count(balancer) == 2 * ESTABLISHED
    return clients


def measure_tables(balancer):
    return {name: count(balancer, name) for name in MEMORY}


def assert_bounded(balancer):
    for name, entries in measure_tables(balancer).items():
        assert entries <= balancer.capacity(name), name


def assert_at_home(clients, homes):
    with clients[0].balancer.inside():
        assert {each.send(seq=START + 12) for each in clients} == {homes[TCP]}
        assert {each.send_datagram() for each in clients} == {homes[UDP]}


def run_flood(balancer, frames):
    """See that every packet gets one verdict, and return what the tables were told."""
    before = balancer.read_events()
    assert balancer.run_many(frames) == {"FORWARD_REDIRECT": len(frames)}
    after = balancer.read_events()
    risen = {name: after[name] - before.get(name, 0) for name in after}
    return {name: number for name, number in risen.items() if number}


@by_flood
def test_in_the_window_who_is_remembered_stays(balancer, family, established, name):
    make, expect = FLOODS[name]
    size = 10 * balancer.capacity("flows")
    room = balancer.capacity("flows") - count(balancer)
    events = run_flood(balancer, make(size, family))
    assert events == {"ASKED": size, **expect(size, room)}
    assert_bounded(balancer)
    assert_at_home(established, HOMES)
    assert Client(balancer, port=60_000).open() == "b-tcp"


@by_flood
def test_behind_the_window_nobody_is_entered(balancer, family, established, name):
    balancer.set_window(TRIO, left_s=-1)
    balancer.set_window(TRIO_UDP, left_s=-1)
    before = measure_tables(balancer)
    make, _ = FLOODS[name]
    size = 10 * balancer.capacity("flows")
    assert run_flood(balancer, make(size, family)) == {"ASKED": size}
    assert measure_tables(balancer) == before
    assert_at_home(established, HOMES)


@by_flood
def test_settled_slots_are_asked_nothing(balancer, family, name):
    make, _ = FLOODS[name]
    assert run_flood(balancer, make(10 * balancer.capacity("flows"), family)) == {}
    assert measure_tables(balancer) == dict.fromkeys(MEMORY, 0)


def test_without_room_those_who_came_too_late_go_on_while_they_are_heard_of(balancer, family):
    """A full table, and no flood since: strays are not forgotten."""
    balancer.set_slots(TRIO, "b-tcp", previous="a-tcp")
    balancer.run_many(flood_twice(2 * balancer.capacity("flows"), family))
    late = [Client(balancer, port=port) for port in range(1, 101)]
    newest = [Client(balancer, port=port) for port in range(101, 201)]
    with balancer.inside():
        assert {each.go_on() for each in late} == {"a-tcp"}
        assert {each.open() for each in newest} == {"b-tcp"}
        balancer.set_slots(TRIO, "b-tcp", previous="b-tcp")
        assert {each.send() for each in late} == {"a-tcp"}
        balancer.set_slots(TRIO, "c-tcp", previous="a-tcp")
        assert {each.send() for each in newest} == {"b-tcp"}
    assert_bounded(balancer)


# --- how flows came ---


@pytest.fixture
def shared(balancer, protocol):
    """A balancer that knows flows through SHARED_TOO, each by its answer."""
    for port in range(1, ESTABLISHED + 1):
        balancer.send(to_service(protocol, services.SHARED_TOO, client_port=port))
    assert answer_all(balancer, protocol) == {services.SHARED_TOO}
    assert count(balancer, "origins") == ESTABLISHED
    return balancer


def answer_all(balancer, protocol):
    """The VIPs in whose name the shared backend's answers leave."""
    vips = {balancer.locate(vip): vip for vip in (services.SHARED, services.SHARED_TOO)}
    found = set()
    for port in range(1, ESTABLISHED + 1):
        packet = from_backend(protocol, services.SHARED_BACKEND, 8090, client_port=port)
        found.add(vips[balancer.send(packet, network.BACK).source[0]])
    return found


@pytest.mark.parametrize(("flags", "answer"), [("S", "SA"), ("A", "R"), ("FA", "RA"), ("R", "")])
@pytest.mark.parametrize("protocol", [TCP], ids=["tcp"])
def test_segments_through_another_vip_take_nobodys_place(shared, family, protocol, flags, answer):
    size = 10 * shared.capacity("origins")
    frames = flood_segments(size, family, flags, vip=services.SHARED)
    table = "PENDING" if flags == "S" else "STRAY"
    assert run_flood(shared, frames) == {"ASKED": size, table: size}
    if answer:
        shared.run_many(flood_answers(size, family, answer), network.BACK)
    assert count(shared, "origins") == ESTABLISHED
    assert_bounded(shared)
    assert answer_all(shared, protocol) == {services.SHARED_TOO}


@pytest.mark.parametrize("protocol", [UDP], ids=["udp"])
def test_datagrams_without_an_answer_take_nobodys_place(shared, family, protocol):
    size = 10 * shared.capacity("origins")
    events = run_flood(shared, flood_datagrams(size, family, vip=services.SHARED))
    assert events == {"ASKED": size, "STRAY": size}
    assert count(shared, "origins") == ESTABLISHED
    assert_bounded(shared)
    assert answer_all(shared, protocol) == {services.SHARED_TOO}


@pytest.mark.parametrize("protocol", [UDP], ids=["udp"])
def test_datagrams_with_an_answer_do_until_the_client_speaks_again(shared, family, protocol):
    """A backend that answers whoever asks proves nothing."""
    size = 10 * shared.capacity("origins")
    questions = flood_datagrams(size, family, vip=services.SHARED)
    answers = flood_answers(size, family)
    for start in range(0, size, 100):
        shared.run_many(questions[start : start + 100])
        shared.run_many(answers[start : start + 100], network.BACK)
    assert_bounded(shared)
    for port in range(1, ESTABLISHED + 1):
        shared.send(to_service(protocol, services.SHARED_TOO, client_port=port))
    assert answer_all(shared, protocol) == {services.SHARED_TOO}
