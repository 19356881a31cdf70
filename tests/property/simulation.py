"""Balancers, and what a file's changes and floods do to their flows.

The rules of `bpf/steer.h` and `bpf/recall.h` are a few lines of Python here; every table
they read comes from `compile_tables`. Beside it stand the same ring with every flow in an
LRU table, the same ring without a memory, and a ring of 256 slots in which slot i leads to
backend i modulo n.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconciler.desired import LastPass
from reconciler.environment import imagine_environment
from reconciler.flowhash import hash_clients, reduce_hashes
from reconciler.maglev import build_ring, ring_names
from reconciler.memory import Occupancy
from reconciler.model import (
    Affinity,
    Backend,
    BackendState,
    Config,
    Forwarding,
    Limits,
    Protocol,
    Service,
    XdpMode,
)
from reconciler.proposal import propose
from reconciler.tables import make_empty_tables, unpack_slots

TICK_S = 10
WINDOW_S = 60
PERIOD = 5  # ticks between two packets of a flow: fewer than a window has
RING_SIZE = 1_009
RING_SLOTS = 8_192
FLOWS = 16_384  # limits.flows; an LRU table of every flow has as much room
NEWCOMERS = FLOWS // 16  # as in dataplane/kernel.py
FLOOD_PACKETS = 10 * FLOWS
FIRST_STRANGER = 5_000  # clients from here on belong to floods
SEED_RING_SIZE = 256
SEED = 0x5EED

Fleet = Mapping[str, tuple[int, BackendState]]
READY, DRAIN = BackendState.READY, BackendState.DRAIN


def make_config(
    fleet: Fleet, ring_size: int = RING_SIZE, affinity: Affinity = Affinity.FLOW
) -> Config:
    """One service whose backends are called b1, b2, ...: weight and state by name."""
    backends = tuple(
        Backend(name, IPv4Address("10.0.0.0") + int(name[1:]), 80, weight, state)
        for name, (weight, state) in sorted(fleet.items())
    )
    service = Service(
        name="web",
        vip=IPv4Address("192.0.2.1"),
        port=80,
        protocol=Protocol.TCP,
        forwarding=Forwarding.NAT,
        affinity=affinity,
        ring_size=ring_size,
        drain_timeout_s=WINDOW_S,
        backends=backends,
    )
    limits = Limits(services=4, backends=64, ring_slots=RING_SLOTS)
    return Config("sim", ("eth0",), XdpMode.AUTO, SEED, (service,), limits=limits)


class Clients:
    """The addresses and ports of all clients, and the slot of each on a ring."""

    def __init__(self, count: int = FIRST_STRANGER) -> None:
        random = np.random.default_rng(20_240_901)
        low = random.integers(0, 2**32, count, dtype=np.uint64)
        self._low = low | np.uint64(0xFFFF << 32)
        self._ports = random.integers(1024, 65_536, count, dtype=np.uint64)
        self._slots: dict[tuple[int, Affinity], list[int]] = {}

    def slot(self, client: int, size: int, affinity: Affinity) -> int:
        if (size, affinity) not in self._slots:
            ports = self._ports if affinity is Affinity.FLOW else np.zeros_like(self._ports)
            hashes = hash_clients(np.zeros_like(self._low), self._low, ports, SEED)
            self._slots[size, affinity] = reduce_hashes(hashes, size).tolist()
        return self._slots[size, affinity][client]


class Balancer:
    """Chooses backends by name."""

    def reconcile(self, config: Config, now_s: int) -> None:
        raise NotImplementedError

    def steer(self, client: int, *, is_new: bool) -> str:
        raise NotImplementedError


@dataclass(frozen=True)
class Remembered:
    """An entry of `flows`, `pending` or `strays`."""

    slot: int
    backend: int
    born: int
    seen_s: int


class Recent(OrderedDict[int, Any]):
    """An LRU table: full, it forgets who was not heard of for the longest time."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity

    def find(self, client: int) -> Any:
        if client in self:
            self.move_to_end(client)
        return self.get(client)

    def enter(self, client: int, entry: Any) -> None:
        self[client] = entry
        self.move_to_end(client)
        if len(self) > self.capacity:
            self.popitem(last=False)


class Xdplb(Balancer):
    """The product: compiled tables below, the packet's rules above."""

    def __init__(self, clients: Clients) -> None:
        self.clients = clients
        self.tables = make_empty_tables(RING_SLOTS)
        self.flows: dict[int, Remembered] = {}
        self.pending, self.strays = Recent(NEWCOMERS), Recent(NEWCOMERS)
        self.moved = self._now_s = 0
        self._last_pass = LastPass()

    def reconcile(self, config: Config, now_s: int) -> None:
        self._now_s = now_s
        now_ns = (now_s + 1) * 1_000_000_000
        proposal = propose(
            config,
            imagine_environment(config),
            self.tables,
            now_ns=now_ns,
            last_pass=self._last_pass,
            occupancy=Occupancy(self._find_occupied()),
        )
        self.moved += sum(ring.slots_moved for ring in proposal.rings)
        self.tables = proposal.desired
        self._backend, self._previous = (half.tolist() for half in unpack_slots(self.tables.slots))
        (self._row,) = (row for row in self.tables.services.values() if row.ring_size)
        self.flows = {c: flow for c, flow in self.flows.items() if not self._is_settled(flow.slot)}

    def _is_settled(self, index: int) -> bool:
        is_inside = 0 <= index - self._row.ring_offset < self._row.ring_size
        return is_inside and not self._previous[index]

    def _find_occupied(self) -> NDArray[np.bool_]:
        occupied = np.zeros(RING_SLOTS, np.bool_)
        backend, _ = unpack_slots(self.tables.slots)
        strays = [one for one in self.strays.values() if self._counts(one)]
        for flow in (*self.flows.values(), *strays):
            occupied[flow.slot] |= flow.backend != backend[flow.slot]
        return occupied

    def _counts(self, stray: Remembered) -> bool:
        return self._now_s - stray.seen_s < WINDOW_S

    def _find_stray(self, client: int) -> Remembered | None:
        stray = self.strays.find(client)
        return stray if stray and self._counts(stray) else None

    def steer(self, client: int, *, is_new: bool) -> str:
        row = self._row
        index = row.ring_offset + self.clients.slot(client, row.ring_size, row.affinity)
        if self._previous[index] == 0:
            return self._name(self._backend[index])
        return self._name(self._recall(client, index, is_new=is_new))

    def _recall(self, client: int, index: int, *, is_new: bool) -> int:
        backend, previous = self._backend[index], self._previous[index]
        is_moved = previous != backend
        if flow := self._at_home(self.flows.get(client)):
            self.flows[client] = replace(flow, slot=index)  # the ring may have another size
            return flow.backend
        stray = self._at_home(self._find_stray(client))
        waiting = None if is_new else self._at_home(self.pending.find(client))
        if not is_moved and not stray and (not waiting or waiting.backend == backend):
            return backend
        if is_new:
            self.pending.enter(client, self._remember(index, backend))
            return backend
        if waiting:
            return self._follow(client, self.pending, waiting, index)
        if stray:
            return self._follow(client, self.strays, stray, index)
        self.strays.enter(client, self._remember(index, previous))
        return previous

    def _follow(self, client: int, table: Recent, waiting: Remembered, index: int) -> int:
        """It goes on, so it is remembered for good, if there is room."""
        if len(self.flows) < FLOWS:
            self.flows[client] = replace(waiting, slot=index)
            del table[client]
        return waiting.backend

    def _remember(self, index: int, number: int) -> Remembered:
        row = self.tables.backends.get(number)
        return Remembered(index, number, row.born if row else 0, self._now_s)

    def _at_home(self, flow: Remembered | None) -> Remembered | None:
        row = self.tables.backends.get(flow.backend) if flow else None
        is_home = flow and row and row.born == flow.born and row.state in (READY, DRAIN)
        return flow if is_home else None

    def _name(self, number: int) -> str:
        info = self.tables.backend_info.get(number)
        return info.name if info else ""


class Forgetful(Balancer):
    """The same ring, and nothing remembered."""

    def __init__(self, clients: Clients) -> None:
        self.clients = clients

    def reconcile(self, config: Config, now_s: int) -> None:  # noqa: ARG002
        service = config.services[0]
        weights = {b.name: b.weight for b in service.backends if b.state is READY}
        names = ring_names(weights)
        self.affinity = service.affinity
        self.ring = [names[i] for i in build_ring(weights, service.ring_size)]

    def steer(self, client: int, *, is_new: bool) -> str:  # noqa: ARG002
        return self.ring[self.clients.slot(client, len(self.ring), self.affinity)]


class Recalling(Forgetful):
    """The same ring, and where every flow lives in an LRU table."""

    def __init__(self, clients: Clients) -> None:
        super().__init__(clients)
        self.table = Recent(FLOWS)

    def steer(self, client: int, *, is_new: bool) -> str:
        home = self.table.find(client)
        if home is None:
            home = super().steer(client, is_new=is_new)
            self.table.enter(client, home)
        return str(home)


class Modulo(Balancer):
    """Slot i of 256 leads to backend i modulo n."""

    def __init__(self, clients: Clients) -> None:
        self.clients = clients

    def reconcile(self, config: Config, now_s: int) -> None:  # noqa: ARG002
        service = config.services[0]
        self.affinity = service.affinity
        self.names = [b.name for b in service.backends if b.state is READY]

    def steer(self, client: int, *, is_new: bool) -> str:  # noqa: ARG002
        slot = self.clients.slot(client, SEED_RING_SIZE, self.affinity)
        return self.names[slot % len(self.names)]


@dataclass(frozen=True)
class Edit:
    """A new file, `after` ticks after the last one."""

    config: Config
    after: int = 2


@dataclass(frozen=True)
class Flood:
    """Packets of flows that nobody has heard of, ten for each flow that there is room for.

    They come evenly from the first edit until the last one's window is over: SYNs, or
    segments out of nowhere.
    """

    is_syn: bool

    def pour(self, balancer: Balancer, part: int, parts: int) -> None:
        """Send one of so many parts."""
        size = FLOOD_PACKETS // parts
        for stranger in range(part * size, (part + 1) * size):
            balancer.steer(FIRST_STRANGER + stranger, is_new=self.is_syn)


@dataclass
class Tally:
    """What became of the flows. Those whose backend has gone ended with it."""

    opened: int = 0
    broken: int = 0
    ended: int = 0
    homes: dict[int, tuple[str, int]] = field(default_factory=dict, repr=False)

    @property
    def broken_percent(self) -> float:
        return 100 * self.broken / max(self.opened, 1)


class Living:
    """Which backends serve: those in the file, and for a window those that have left it.

    A life is a name and how often it has come: one that left and came back is another.
    """

    def __init__(self) -> None:
        self._until_s: dict[str, float] = {}
        self._lives: dict[str, int] = {}

    def update(self, config: Config, now_s: int) -> None:
        listed = {b.name for b in config.services[0].backends}
        for name in listed:
            if not self._until_s.get(name, 0) > now_s:
                self._lives[name] = self._lives.get(name, 0) + 1
            self._until_s[name] = float("inf")
        for name, until_s in self._until_s.items():
            if name not in listed and until_s == float("inf"):
                self._until_s[name] = now_s + WINDOW_S

    def life(self, name: str, now_s: int) -> tuple[str, int]:
        return name, self._lives.get(name, 0) if now_s < self._until_s.get(name, 0) else 0


class _Stage:
    """A balancer, the backends behind it, and the flows that live there at the moment."""

    def __init__(self, balancer: Balancer, packets: int) -> None:
        self.balancer, self.packets = balancer, packets
        self.living, self.tally = Living(), Tally()
        self.now_s = 0

    def set(self, config: Config, now_s: int) -> None:
        self.now_s = now_s
        self.living.update(config, now_s)
        self.balancer.reconcile(config, now_s)

    def open(self, client: int) -> None:
        name = self.balancer.steer(client, is_new=True)
        assert self.balancer.steer(client, is_new=False) == name
        self.tally.homes[client] = self.living.life(name, self.now_s)
        self.tally.opened += 1

    def send(self, client: int) -> None:
        chosen = {self.balancer.steer(client, is_new=False) for _ in range(self.packets)}
        home = self.tally.homes[client]
        if self.living.life(home[0], self.now_s) != home:
            self.tally.ended += 1
            del self.tally.homes[client]
        elif chosen != {home[0]}:
            self.tally.broken += 1
            del self.tally.homes[client]


def play(
    balancer: Balancer,
    edits: Sequence[Edit],
    *,
    flows: int,
    opens: int = 0,
    idle: bool = False,
    packets: int = 1,
    flood: Flood | None = None,
) -> Tally:
    """Open `flows` flows and then `opens` a tick, live through the edits, and count.

    Every flow ends its handshake when it is opened and sends `packets` packets each `PERIOD`
    ticks; idle ones only after everything is over.
    """
    stage = _Stage(balancer, packets)
    config, clients = edits[0].config, iter(range(FIRST_STRANGER))
    agenda = dict(_schedule(edits[1:]))
    last = max(agenda, default=0) + 3 * WINDOW_S // TICK_S
    flooded = range(min(agenda), max(agenda) + WINDOW_S // TICK_S) if flood else range(0)
    for tick in range(last + 1):
        config = agenda.get(tick, config)
        stage.set(config, tick * TICK_S)
        if flood and tick in flooded:
            flood.pour(balancer, flooded.index(tick), len(flooded))
        for client in [c for c in stage.tally.homes if (tick + c) % PERIOD == 0]:
            if not idle:
                stage.send(client)
        for client in itertools.islice(clients, opens if tick else flows):
            stage.open(client)
    if idle:
        for client in list(stage.tally.homes):
            stage.send(client)
    return stage.tally


def _schedule(edits: Sequence[Edit]) -> Iterator[tuple[int, Config]]:
    tick = 0
    for edit in edits:
        tick += edit.after
        yield tick, edit.config
