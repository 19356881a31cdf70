"""The ways to clients that are remembered: right for each client, however many meet."""

from __future__ import annotations

import os

import numpy as np
import pytest

from reconciler import abi
from reconciler.abi import Verdict
from reconciler.model import Protocol

from . import network
from .packets import from_backend, to_client

pytestmark = pytest.mark.root

LATER = 2**62
NOWHERE = bytes.fromhex("0200deadbeef")


@pytest.fixture
def ways(balancer):
    """The tables of this CPU, which nothing is in."""
    before = os.sched_getaffinity(0)
    cpu = min(before)
    os.sched_setaffinity(0, {cpu})
    balancer.forget_ways()
    yield Ways(balancer, cpu)
    balancer.forget_ways()
    os.sched_setaffinity(0, before)


class Ways:
    def __init__(self, balancer, cpu):
        self.balancer, self.cpu = balancer, cpu
        self.cpus = balancer.libbpf.count_cpus()

    def _read(self, name, dtype):
        _, values = self.balancer.libbpf.read_all(
            self.balancer.fd(name), dtype.itemsize * self.cpus
        )
        return np.frombuffer(values, dtype).reshape(-1, self.cpus).copy()

    def _write(self, name, rows, places):
        for place in places:
            key = int(place).to_bytes(4, "little")
            value = rows[place].tobytes()
            self.balancer.libbpf.update(self.balancer.fd(name), key, value, "cannot write")

    def clients(self):
        """Who is believed in, as numbers of addresses."""
        sets = self._read("client_ways", abi.CLIENT_SET)[:, self.cpu]
        return {int(client) for client in sets["clients"][sets["until"] != 0]}

    def change_sets(self, change):
        rows = self._read("client_ways", abi.CLIENT_SET)
        used = np.flatnonzero(rows["until"].any(axis=(1, 2)))
        change(rows[used[0], self.cpu])
        self._write("client_ways", rows, used)

    def take_all_numbers(self):
        """Have every number be somebody's who leads nowhere, and is believed in."""
        rows = self._read("ways", abi.NEXTHOP)
        rows["expires"], rows["destination_mac"] = LATER, NOWHERE
        self._write("ways", rows, range(len(rows)))


def reply(balancer, client=network.CLIENT):
    packet = from_backend(Protocol.TCP, client=client)
    outcome = balancer.send(packet, network.BACK)
    assert outcome.verdict is Verdict.REPLY_REDIRECT
    assert outcome.frame == bytes(to_client(packet))


def number(address):
    return int(network.locate(address, 4))


def test_each_client_keeps_its_own_way(balancer, ways):
    far = [f"198.51.100.{last}" for last in range(1, 9)]
    for _ in range(3):
        for client in (network.CLIENT, *far):
            reply(balancer, client)
    assert ways.clients() == {number(client) for client in (network.CLIENT, *far)}


def test_a_number_that_is_taken_is_not_taken_over(balancer, ways):
    ways.take_all_numbers()
    for _ in range(2):
        reply(balancer)
    assert ways.clients() == set()


def test_a_way_that_nobody_believes_in_any_more_is_asked_for_again(balancer, ways):
    reply(balancer)

    def expire(row):
        row["until"][row["until"] != 0] -= 10**6
        row["ways"][:] = 7

    ways.change_sets(expire)
    reply(balancer)
    assert ways.clients() == {number(network.CLIENT)}


def test_who_has_a_place_is_not_pushed_out(balancer, ways):
    reply(balancer)

    def crowd(row):
        until = row["until"].max()
        row["clients"][:] = range(1, abi.SET_PLACES + 1)
        row["until"][:] = until + 10**6

    ways.change_sets(crowd)
    for _ in range(2):
        reply(balancer)
    assert number(network.CLIENT) not in ways.clients()
    assert set(range(1, abi.SET_PLACES + 1)) <= ways.clients()
