"""Whatever happens, in whatever order: no connection that speaks once a window is moved.

The program and the controller's judgement are the real ones. Connections are opened, used
and closed, slots move, windows end, slots settle, entries are forgotten, and strangers send
segments in the clients' names, with sequence numbers that don't fit.
"""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.memory import CLOSING_NS, Judge
from reconciler.movement import move_slots
from reconciler.plan import Store
from reconciler.tables import unpack_slots

from . import services
from .clients import TCP, Client

pytestmark = pytest.mark.root

TRIO = services.name_service(services.TRIO, TCP)
NAMES = ("a-tcp", "b-tcp", "c-tcp")
CLIENTS = 4
FAR = 2**26  # from one stranger's number to the next

Action = tuple[str, tuple[object, ...]]


class Connection(Client):
    """A client with at most one connection at a time, and where it is."""

    home: str | None = None
    seq = 0

    def begin(self, seq: int) -> None:
        self.seq = seq
        self.home = self.syn(seq)
        self.speak()

    def speak(self) -> None:
        self.seq += 1
        assert self.send(seq=self.seq) == self.home

    def end(self) -> None:
        self.speak()
        for flags in ("FA", "A"):
            self.seq += 1
            assert self.send(flags, seq=self.seq, payload=b"") == self.home
        self.home = None


class History:
    """A balancer, its clients, and what may happen."""

    def __init__(self, balancer) -> None:
        balancer.restore()
        self.balancer = balancer
        self.clients = [Connection(balancer, port=port) for port in range(1, CLIENTS + 1)]
        self.far = itertools.count(FAR, FAR)
        self.is_window_over = False
        self.ring = balancer.ring(TRIO)
        self.ids = [balancer.backend_id(name) for name in NAMES]
        self.move(0)
        self.settle()

    @property
    def words(self):
        return self.balancer.dataplane.slots[self.ring].copy()

    def use(self, number: int) -> None:
        """Open a connection, or speak on the one that is open."""
        client = self.clients[number]
        if client.home:
            client.speak()
        else:
            client.begin(next(self.far) * 3 % 2**32)

    def close(self, number: int) -> None:
        if self.clients[number].home:
            self.clients[number].end()

    def spoof(self, number: int, flags: str) -> None:
        client = self.clients[number]
        client.send(flags, seq=client.seq + next(self.far), payload=b"")

    def move(self, target: int) -> None:
        """A change, which opens a window or makes it longer."""
        if self.is_window_over:  # what has moved is pinned first
            self._pass(self._target())
        self.balancer.set_window(TRIO)
        self.is_window_over = False
        self._pass(self.ids[target])

    def end_window(self) -> None:
        """Everybody has spoken; the data plane ends the window, then the controller."""
        for client in self.clients:
            if client.home:
                client.speak()
                client.speak()
        self.balancer.set_window(TRIO, left_s=-1)
        self.is_window_over = True

    def settle(self) -> None:
        """Two passes behind the window: one pins, the next settles what nobody needs."""
        self.end_window()
        for _ in range(2):
            self._pass(self._target())
        self.forget()

    def forget(self) -> None:
        self.balancer.age_flows("flows", CLOSING_NS / 1e9)
        dataplane = self.balancer.dataplane
        dataplane.forget_flows(dataplane.read(), time.monotonic_ns())

    def _target(self) -> int:
        """Where all slots lead."""
        backend, _ = unpack_slots(self.words)
        return int(backend[0])

    def _pass(self, target: int) -> None:
        dataplane, words = self.balancer.dataplane, self.words
        judge = Judge(dataplane.read(), time.monotonic_ns())
        occupied = judge.find_occupancy(dataplane.read_memory()).slots[self.ring]
        moved = move_slots(
            words,
            np.full(len(words), target, np.uint16),
            living=np.array(self.ids, np.uint16),
            remembers=True,
            is_window_over=self.is_window_over,
            occupied=occupied,
        )
        dataplane.write(Store(np.arange(self.ring.start, self.ring.stop), moved))


def call(name: str, *arguments: st.SearchStrategy[object]) -> st.SearchStrategy[Action]:
    return st.tuples(st.just(name), st.tuples(*arguments))


who = st.integers(0, CLIENTS - 1)
actions = st.one_of(
    call("use", who),
    call("use", who),
    call("close", who),
    call("spoof", who, st.sampled_from(["S", "A", "FA", "R", "RA", "SF"])),
    call("move", st.integers(0, len(NAMES) - 1)),
    call("end_window"),
    call("settle"),
    call("forget"),
)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(actions, max_size=40))
def test_no_history_moves_a_connection_that_speaks(balancer, history):
    told = History(balancer)
    with balancer.inside():
        for name, arguments in history:
            getattr(told, name)(*arguments)
        for client in told.clients:
            if client.home:
                client.speak()
