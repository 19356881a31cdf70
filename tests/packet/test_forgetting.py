"""What the controller takes out of the tables, and what it leaves there."""

from __future__ import annotations

import time

import pytest

from reconciler import memory
from reconciler.dataplane import libbpf
from reconciler.memory import CLOSING_NS, Judge
from reconciler.model import BackendState

from . import services
from .clients import START, TCP, Client, count
from .floods import flood_segments, flood_twice
from .packets import CLIENT_PORT, to_service

pytestmark = pytest.mark.root

A, B, C = "a-tcp", "b-tcp", "c-tcp"
TRIO = services.name_service(services.TRIO, TCP)


@pytest.fixture
def moved(balancer):
    balancer.set_slots(TRIO, B, previous=A)
    return balancer


@pytest.fixture
def client(balancer):
    return Client(balancer)


def forget(balancer):
    dataplane = balancer.dataplane
    return dataplane.forget_flows(dataplane.read(), time.monotonic_ns())


def test_who_lives_and_is_asked_for_stays(moved, client):
    client.go_on()
    Client(moved, port=1).send()
    Client(moved, port=2).syn()
    assert forget(moved) == 0
    assert [count(moved, name) for name in ("flows", "strays", "pending")] == [1, 1, 1]


def fall_silent(client):
    client.balancer.age_flows("flows", 7200)


def close(client):
    client.send("FA", seq=START + 12)
    client.balancer.age_flows("flows", CLOSING_NS / 1e9)


def lose_backend(client):
    client.balancer.change_backend(A, state=BackendState.MAINT)


def settle(client):
    client.balancer.set_slots(TRIO, B, previous=None)


@pytest.mark.parametrize("end", [fall_silent, close, lose_backend, settle])
def test_who_has_ended_or_is_not_asked_for_goes(moved, client, end):
    client.go_on()
    end(client)
    assert forget(moved) == 1
    assert count(moved) == 0


def test_a_port_used_again_while_its_flow_is_being_forgotten(moved, client, monkeypatch):
    client.go_on()
    close(client)

    class SlowJudge(Judge):
        def find_needless(self, flows):
            assert client.open(seq=START + 2**30) == B
            return super().find_needless(flows)

    monkeypatch.setattr(memory, "Judge", SlowJudge)
    assert forget(moved) == 0
    moved.set_slots(TRIO, C, previous=A)
    assert client.send(seq=START + 2**30 + 6) == B


def test_who_waits_in_a_slot_that_settles_is_nobody_later(moved, client):
    """One packet of a dead connection; then its address and port are another's."""
    assert client.send() == A
    Client(moved, port=1).syn()
    moved.set_slots(TRIO, B, previous=None)
    assert client.open(seq=5) == B  # seen by nobody
    assert forget(moved) == 0
    assert [count(moved, name) for name in ("flows", "strays", "pending")] == [0, 0, 0]
    moved.set_slots(TRIO, C, previous=B)
    assert client.send(seq=10) == B


def test_how_flows_came_is_left(moved):
    for port in (1, 2):
        moved.send(to_service(TCP, services.SHARED, client_port=port))
        moved.send(to_service(TCP, services.SHARED, client_port=port, flags="S"))
    moved.set_slots(TRIO, B, previous=None)
    forget(moved)
    assert [count(moved, name) for name in ("strays", "pending")] == [2, 2]


def test_a_stray_that_is_remembered_meanwhile_is_seen(moved, client):
    """Whichever table is read first: never in none."""
    client.send()

    def read_and_go_on():
        for part in moved.dataplane.read_memory():
            client.send(seq=START + 6)
            yield part

    judge = Judge(moved.dataplane.read(), time.monotonic_ns())
    assert judge.find_occupancy(read_and_go_on()).slots.sum() == 1
    assert count(moved, "strays") == 0


@pytest.mark.parametrize("batch", [64, 100_000])
def test_many_are_forgotten_part_by_part(moved, monkeypatch, batch):
    monkeypatch.setattr(libbpf, "_BATCH", batch)
    moved.run_many(flood_twice(1000, 4))
    survivors = [Client(moved, port=port) for port in range(1, 21)]
    assert count(moved) == 500
    moved.age_flows("flows", 7200)
    for each in survivors:
        each.go_on()
    assert forget(moved) == 500
    assert {each.flow()["backend"] for each in survivors} == {moved.backend_id(A)}


def test_what_is_gone_already_is_no_trouble(moved):
    """A table that forgets by itself loses entries between the look and the deletion."""
    moved.run_many(flood_segments(500, 4, "A"))
    keys, _ = moved.read_flows("strays")
    moved.libbpf.delete_many(moved.fd("strays"), keys[::2].tobytes(), "half")
    moved.libbpf.delete_many(moved.fd("strays"), keys.tobytes(), "all")
    assert count(moved, "strays") == 0
    moved.libbpf.delete_many(moved.fd("strays"), keys.tobytes(), "none")


def test_open_flows_are_counted(moved, client):
    client.go_on()
    Client(moved, port=1).send()
    Client(moved, port=2).open()
    Client(moved, port=3).syn()
    closed = Client(moved, port=CLIENT_PORT + 1)
    closed.open()
    closed.send("FA", seq=START + 6)
    dataplane = moved.dataplane
    counts = dataplane.count_flows(dataplane.read(), time.monotonic_ns())
    assert [int(counts[moved.backend_id(name)]) for name in (A, B, C)] == [2, 1, 0]
