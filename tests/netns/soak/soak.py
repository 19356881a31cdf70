"""A balancer whose file is edited, and a crowd of connections that must not notice."""

import hashlib
import json
import os
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

from reconciler.abi import FlowEvent
from reconciler.lab import wait_until
from reconciler.lab.edits import DEFAULT_WEIGHT
from reconciler.tables import unpack_slots

from .programs import Crowd, Servers

VIP, PORT = "198.51.100.10", 7


@dataclass(frozen=True)
class Scale:
    """How many, and how fast.

    Attributes:
        connections: that are held.
        interval_s: between two frames of one.
        first, added: backends at first, and those that are added one by one.
        sampled: new connections between two edits, and ten times as many after those of weights.
        drain_timeout_s: longer than the replacement of all backends takes.
        farewell_s: how long after its removal a backend asks its clients to go.
    """

    connections: int
    interval_s: float
    first: int
    added: int
    sampled: int
    drain_timeout_s: int
    flow_idle_timeout_s: int
    farewell_s: float
    rate: int = 200
    timeout_s: float = 5.0

    @property
    def backends(self):
        """All that there will ever be: one is removed, the others are replaced."""
        return 2 * (self.first + self.added) - 1


SHORT = Scale(
    connections=500,
    interval_s=0.5,
    first=4,
    added=3,
    sampled=60,
    drain_timeout_s=5,
    flow_idle_timeout_s=5,
    farewell_s=1,
)
LONG = Scale(
    connections=int(os.environ.get("XDPLB_SOAK_CONNECTIONS", "0")),
    interval_s=5,
    first=4,
    added=10,
    sampled=300,
    drain_timeout_s=30,
    flow_idle_timeout_s=30,
    farewell_s=15,
)
SCALE = LONG if LONG.connections else SHORT


class Period(NamedTuple):
    """The kernel followed a file: since `live_s`, until an edit was begun at `over_s`.

    Times are on the monotonic clock, weights those of new connections by address.
    """

    live_s: float
    over_s: float
    weights: dict[str, int]


class Soak:
    """One run, from `with` to the end of its block.

    Attributes:
        fleet: weight and state of the file's backends, by address.
        unused: addresses of backends that have not been in the file yet.
        edits: how many were made.
        periods: what new connections had to follow, and when.
    """

    def __init__(self, lab, xdplb, mode):
        self.lab, self.xdplb, self.mode = lab, xdplb, mode
        self.unused = [str(backend.address) for backend in lab.backends]
        self.fleet = {}
        self.edits = 0
        self.periods = []
        self._farewells = []
        self._lost_before = 0
        self._stack = ExitStack()

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_):
        for farewell in self._farewells:
            farewell.cancel()
            farewell.join()
        self._stack.close()

    def _start(self):
        self._lost_before = self.count_lost_packets()
        for _ in range(SCALE.first):
            self.set_backend(self.unused.pop(0))
        self.servers = self._stack.enter_context(Servers(self.lab, PORT))
        self.controller = self.xdplb.start(self.write_file())
        self.dataplane = self.xdplb.dataplane()
        self._begin_period()
        crowd = Crowd(
            self.lab.client,
            (VIP, PORT),
            held=SCALE.connections,
            interval_s=SCALE.interval_s,
            timeout_s=SCALE.timeout_s,
            rate=SCALE.rate,
        )
        self.crowd = self._stack.enter_context(crowd)
        self.await_crowd(lambda: self.crowd.is_complete, "every connection is established")

    # --- the file ---

    @property
    def weights(self):
        """Of new connections, by address; without those that get none."""
        ready = {a: weight for a, (weight, state) in self.fleet.items() if state == "ready"}
        return {address: weight for address, weight in ready.items() if weight}

    def set_backend(self, address, weight=DEFAULT_WEIGHT, state="ready"):
        self.fleet[address] = (weight, state)

    def write_file(self):
        backends = "".join(
            f"  - {{address: {address}, weight: {weight}, state: {state}}}\n"
            for address, (weight, state) in self.fleet.items()
        )
        return (
            f"interface: eth0\nforwarding: {self.mode}\nvip: {VIP}\nport: {PORT}\n"
            f"drain_timeout: {SCALE.drain_timeout_s}s\n"
            f"flow_idle_timeout: {SCALE.flow_idle_timeout_s}s\n"
            "reconcile: {resync: 1s}\nlimits: {ring_slots: 150000}\n"
            f"backends:\n{backends}"
        )

    def edit(self):
        """Save the file, and return when the kernel follows it and it was tried."""
        begun_s = time.monotonic()
        text = self.write_file()
        self.controller.save(text)
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        self.await_crowd(
            lambda: self.dataplane.read().config_sha256 == sha256, "the kernel follows the file"
        )
        self._end_period(begun_s)
        self._begin_period()
        self.edits += 1
        self.await_new_connections(SCALE.sampled)

    def remove(self, address):
        """Take a backend out of the file; some time after the edit it asks its clients to go."""
        del self.fleet[address]
        farewell = threading.Timer(SCALE.farewell_s, self.servers.tell, ["leave", address])
        self._farewells.append(farewell)
        farewell.start()

    def _begin_period(self):
        self._live_s, self._live_weights = time.monotonic(), self.weights

    def _end_period(self, over_s):
        self.periods.append(Period(self._live_s, over_s, self._live_weights))

    def finish(self):
        """End every connection, and return what became of all there were."""
        self._end_period(time.monotonic())
        return self.crowd.finish()

    # --- waiting, as long as nothing breaks ---

    def await_crowd(self, condition, what, timeout_s=60):
        def holds():
            assert not self.crowd.failed, (self.crowd.failed[:10], self.count_lost_packets())
            return condition()

        wait_until(holds, what, timeout_s)

    def await_new_connections(self, count):
        wanted = self.crowd.short + count
        self.await_crowd(lambda: self.crowd.short >= wanted, f"{count} new connections")

    def await_answers(self, rounds):
        """Wait until every held connection has had an answer, and that so many times over."""
        wanted = self.crowd.progress.answers + rounds * SCALE.connections
        self.await_crowd(lambda: self.crowd.progress.answers >= wanted, f"{rounds} rounds")

    def await_window(self):
        """Wait until no slot is moved any more; return how many are pinned."""
        self.await_crowd(lambda: not self.count_slots()[0], "the window is over")
        return self.count_slots()[1]

    def await_settled(self):
        """Wait until every slot is settled and nothing is remembered.

        That takes the window, or as long as the last flow that lives elsewhere counts.
        """

        def is_settled():
            return self.count_slots() == (0, 0) and not self.dataplane.measure_flows()[0]

        longest_s = SCALE.drain_timeout_s + SCALE.flow_idle_timeout_s + 10
        self.await_crowd(is_settled, "every slot is settled, no flow remembered", longest_s)

    # --- looking ---

    def count_slots(self):
        """How many slots are moved, and how many are pinned."""
        backend, previous = unpack_slots(self.dataplane.slots)
        is_pinned = (previous != 0) & (previous == backend)
        return int(((previous != 0) & ~is_pinned).sum()), int(is_pinned.sum())

    def count_lookups(self):
        return int(self.dataplane.read_counters("flow_events")[FlowEvent.ASKED])

    def count_lost_packets(self):
        """Packets for which a virtual wire had no room: the machine was too slow for them."""
        words = ["ip", "-statistics", "-json", "link", "show"]
        links = json.loads(self.lab.switch.run(words).stdout)
        return sum(each["stats64"]["tx"]["dropped"] for each in links) - self._lost_before
