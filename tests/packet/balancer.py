"""The program as the kernel runs it, one packet at a time.

Maps and program are real, made and filled by the controller's own code, in a
network namespace with static neighbours. Packets go through
`bpf_prog_test_run_opts`: what comes out is what the program leaves in the frame
and what it returns; nothing is transmitted.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import itertools
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scapy.packet import Packet

from reconciler import abi, netlink
from reconciler.abi import FlowEvent, Verdict
from reconciler.codec import encode_address
from reconciler.dataplane.kernel import KernelDataplane, read_program
from reconciler.dataplane.program_run import ProgramRun
from reconciler.desired import compile_tables
from reconciler.environment import Environment, InterfaceFacts
from reconciler.flowhash import choose_slot
from reconciler.lab.lab import sweep_stale
from reconciler.lab.namespaces import (
    add_namespaces,
    delete_namespaces,
    entered,
    make_tag,
    own_bpffs,
    read_ifindexes,
)
from reconciler.model import Config, Forwarding, IPAddress, Protocol, Service
from reconciler.plan import Put, Store, diff
from reconciler.tables import Tables, pack_slots, unpack_slots

from . import network, services
from .packets import in_family

# Far from the laboratories' own counters, which start at 0.
_counter = itertools.count(1000)

# The kernel runs a frame in zeroed memory (net/bpf/test_run.c: bpf_test_init). Metadata
# lies where headers grow into, and stays there when they do: so it is not zero.
POISON = bytes(range(0xA1, 0xA1 + 80))
# For what the program makes of a frame, and what lies before it.
_ROOM = 4096


class Action(enum.IntEnum):
    """What a program tells the driver (include/uapi/linux/bpf.h)."""

    ABORTED = 0
    DROP = 1
    PASS = 2
    TX = 3
    REDIRECT = 4


# What becomes of a frame, by the end of its verdict's name.
_ACTIONS = {
    "TRANSMIT": Action.TX,
    "REDIRECT": Action.REDIRECT,
    "STACK": Action.PASS,
    "LOCAL": Action.PASS,
}


# Where the data plane remembers flows.
MEMORY = ("flows", "origins", "pending", "strays")


def expected_action(verdict: Verdict) -> Action:
    """The action that a verdict is turned into."""
    kind, *_, way = verdict.name.split("_")
    if kind in ("PASS", "DROP"):
        return Action[kind]
    return _ACTIONS[way]


@dataclass(frozen=True)
class Outcome:
    """What became of a packet."""

    verdict: Verdict
    action: Action
    frame: bytes

    @property
    def destination(self) -> tuple[IPAddress, int]:
        """Where it goes now: address and port. No options, no extension headers."""
        return self._read_end(1)

    @property
    def source(self) -> tuple[IPAddress, int]:
        """Where it seems to come from now."""
        return self._read_end(0)

    def _read_end(self, end: int) -> tuple[IPAddress, int]:
        start, size = (26, 4) if self.frame[14] >> 4 == 4 else (22, 16)
        at, port = start + end * size, start + 2 * size + 2 * end
        return ip_address(self.frame[at : at + size]), int.from_bytes(
            self.frame[port : port + 2], "big"
        )


class Balancer:
    """A loaded program, its maps and the network around them.

    `family` is that of the packets of `send` and of whoever is named: names and
    addresses are those of IPv4, and mean their twins where it is 6.
    """

    def __init__(self, namespace: str, folder: Path) -> None:
        self.namespace = namespace
        self.dataplane = KernelDataplane(folder)
        self.libbpf = self.dataplane.libbpf
        self.base = Tables()
        self.config: Config
        self.family = 4
        self.ifindexes = read_ifindexes(namespace)
        self._depth = 0
        self._is_changed = False
        self._program_fd = -1
        self._counts = np.zeros(len(Verdict), np.uint64)
        self._events = np.zeros(len(FlowEvent), np.uint64)

    def close(self) -> None:
        """Detach the program and let go of everything."""
        if self._program_fd >= 0:
            os.close(self._program_fd)
        self.dataplane.close()
        self.dataplane.pins.remove_contents()

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Be in the namespace; entering again costs nothing."""
        if self._depth:
            yield
            return
        self._depth += 1
        try:
            with entered(self.namespace):
                yield
        finally:
            self._depth -= 1

    # --- tables ---

    def apply(self, config: Config) -> None:
        """Bring the maps to a configuration, and attach the program."""
        self.config = config
        with self.inside():
            self.dataplane.create(config.limits)
            observed = self.dataplane.read()
            environment = self._look_around(config)
            desired = compile_tables(config, environment, observed, now_ns=time.monotonic_ns())
            for operation in diff(desired, observed):
                self.dataplane.write(operation)
            (_, path) = next(self.dataplane.pins.find_programs())
            self._program_fd = self.libbpf.get(str(path))
            self.base = self.dataplane.read()

    def _look_around(self, config: Config) -> Environment:
        facts = {
            name: InterfaceFacts(
                self.ifindexes[name],
                tuple(network.locate(network.OWN[name], family) for family in network.FAMILIES),
                transmits=True,
                redirects=True,
            )
            for name in config.interfaces
        }
        return Environment(facts, netlink.read_ticks_per_second(), read_program()[1])

    def restore(self) -> None:
        """Put the maps back to what `apply` made of them, and forget every flow."""
        if self._is_changed:
            for operation in diff(self.base, self.dataplane.read()):
                self.dataplane.write(operation)
            self._is_changed = False
        for name in MEMORY:
            keys, _ = self.libbpf.read_all(self.fd(name))
            if keys:
                self.libbpf.delete_many(self.fd(name), keys, "cannot forget")
        self._zero("direct_seen", {row.backend for row in self.base.nat_replies.values()})
        self._counts = self.read_counts()
        self._events = self.dataplane.read_counters("flow_events")

    def _zero(self, name: str, indexes: Iterable[int]) -> None:
        size = abi.MAPS[name][1].itemsize * self.libbpf.count_cpus()
        for index in indexes:
            key = index.to_bytes(4, "little")
            self.libbpf.update(self.fd(name), key, bytes(size), "cannot zero")

    def fd(self, name: str) -> int:
        """The descriptor of a map."""
        return self.dataplane._fd(name)

    @contextmanager
    def row(self, table: str, key: Any, row: Any) -> Iterator[None]:
        """Another row while the block runs; every next hop is looked up again."""
        before = self.base.rows(table)[key]
        self.forget_ways()
        self.dataplane.write(Put(table, key, row))
        try:
            yield
        finally:
            self.dataplane.write(Put(table, key, before))
            self.forget_ways()

    @contextmanager
    def interface(self, name: str, *, transmits: bool, redirects: bool) -> Iterator[None]:
        """An interface that can do less, or more, while the block runs."""
        number = self.ifindexes[name]
        before = self.base.interfaces[number]
        row = before._replace(transmits=transmits, redirects=redirects)
        with self.row("interfaces", number, row):
            yield

    @contextmanager
    def tunnel(self, **changes: Any) -> Iterator[None]:
        """Other tunnel settings while the block runs."""
        before = self.base.settings[0]
        tunnel = dataclasses.replace(before.tunnel, **changes)
        with self.row("settings", 0, before._replace(tunnel=tunnel)):
            yield

    def forget_ways(self) -> None:
        """Have every next hop looked up again."""
        cpus = self.libbpf.count_cpus()
        for name in ("backend_nexthops", "client_nexthops", "ways"):
            size = abi.NEXTHOP.itemsize * cpus
            _, values = self.libbpf.read_all(self.fd(name), size)
            expires = np.frombuffer(values, abi.NEXTHOP)["expires"].reshape(-1, cpus)
            self._zero(name, np.flatnonzero(expires.any(axis=1)).tolist())
        size = abi.CLIENT_SET.itemsize * cpus
        _, values = self.libbpf.read_all(self.fd("client_ways"), size)
        until = np.frombuffer(values, abi.CLIENT_SET)["until"].reshape(-1, cpus * abi.SET_PLACES)
        self._zero("client_ways", np.flatnonzero(until.any(axis=1)).tolist())

    # --- who is who ---

    def backend_id(self, name: str) -> int:
        """The id of a backend; names are unique in these configurations."""
        named = services.name_in_family(name, self.family)
        return next(i for i, info in self.base.backend_info.items() if info.name == named)

    @functools.cached_property
    def backend_names(self) -> dict[tuple[tuple[IPAddress, int], Protocol], str]:
        """nat backends' names, by (address, port) and protocol."""
        return {
            ((backend.address, backend.port), service.protocol): backend.name.removesuffix("-6")
            for service in self.config.services
            for backend in service.backends
            if service.forwarding is Forwarding.NAT
        }

    def locate(self, address: str) -> IPAddress:
        """The address that somebody has in this family."""
        return network.locate(address, self.family)

    def service(self, name: str) -> Service:
        """A service of the configuration."""
        named = services.name_in_family(name, self.family)
        return next(service for service in self.config.services if service.name == named)

    def ring(self, name: str) -> slice:
        """The slots that a service owns."""
        named = services.name_in_family(name, self.family)
        number = next(i for i, info in self.base.service_info.items() if info.name == named)
        row = next(row for row in self.base.services.values() if row.ring_size and row.id == number)
        return slice(row.ring_offset, row.ring_offset + row.ring_size)

    def choose_backend(self, service_name: str, client: Any, port: int) -> str:
        """The name of the backend that a client gets, by the controller's own reckoning."""
        service, ring = self.service(service_name), self.ring(service_name)
        seed = self.config.hash_seed
        index = choose_slot(client, port, service.affinity, seed, service.ring_size)
        backend, _ = unpack_slots(self.base.slots[ring])
        return self.base.backend_info[int(backend[index])].name

    def set_window(self, service: str, left_s: float = 3600) -> None:
        """Have the window of a service's moved slots end in a while, or have ended."""
        self.change_service_info(service, window_end_ns=time.monotonic_ns() + int(left_s * 1e9))

    def change_service_info(self, service: str, **changes: Any) -> None:
        """Write what the controller notes of a service anew; the rest is as it was at first."""
        named = services.name_in_family(service, self.family)
        number, info = next(
            (i, info) for i, info in self.base.service_info.items() if info.name == named
        )
        self._is_changed = True
        self.dataplane.write(Put("service_info", number, info._replace(**changes)))

    def set_slots(self, service: str, backend: str, previous: str | None) -> None:
        """Have every slot of a service say {backend, previous}, and the window be open."""
        self.set_window(service)
        ring = self.ring(service)
        count = ring.stop - ring.start
        ids = [self.backend_id(name) if name else 0 for name in (backend, previous or "")]
        now, before = (np.full(count, number, np.uint16) for number in ids)
        self._is_changed = True
        self.dataplane.write(Store(np.arange(ring.start, ring.stop), pack_slots(now, before)))

    def change_backend(self, name: str, **changes: Any) -> None:
        """Write a backend's row anew."""
        number = self.backend_id(name)
        row = self.base.backends[number]._replace(**changes)
        self._is_changed = True
        self.dataplane.write(Put("backends", number, row))

    def change_service(self, name: str, **changes: Any) -> None:
        """Write a service's rows anew."""
        ring = self.ring(name)
        for endpoint, row in self.base.services.items():
            if row.ring_size and row.ring_offset == ring.start:
                self.dataplane.write(Put("services", endpoint, row._replace(**changes)))
        self._is_changed = True

    def capacity(self, name: str) -> int:
        """How many entries a map has room for."""
        return self.libbpf.map_info(self.fd(name))[2]

    def read_events(self) -> dict[str, int]:
        """What happened to the memory of flows since `restore`, without what did not."""
        risen = self.dataplane.read_counters("flow_events") - self._events
        return {event.name: int(risen[event]) for event in FlowEvent if risen[event]}

    def age_flows(self, name: str, by_s: float) -> None:
        """Have everything in a table be heard of so much longer ago."""
        for key, value in zip(*self.read_flows(name), strict=True):
            older = value.copy()
            # Before the machine was started, perhaps; the data plane reckons modulo 2^64 too.
            older["last_seen_ns"] = (int(value["last_seen_ns"]) - int(by_s * 1e9)) % 2**64
            self.libbpf.update(self.fd(name), key.tobytes(), older.tobytes(), "cannot age")

    def fill_flows(self) -> None:
        """Have no room in `flows`: strangers, whose backend is not there, take all of it."""
        key, stranger = np.zeros((), abi.FLOW_KEY), np.zeros((), abi.FLOW)
        for number in range(self.capacity("flows") - len(self.read_flows("flows")[0])):
            key["client"] = number.to_bytes(16, "big")
            self.libbpf.update(self.fd("flows"), key.tobytes(), stranger.tobytes(), "cannot fill")

    def forget_strangers(self) -> None:
        """Make the room again that `fill_flows` took."""
        keys, flows = self.read_flows("flows")
        strangers = keys[flows["backend"] == 0]
        self.libbpf.delete_many(self.fd("flows"), strangers.tobytes(), "cannot forget")

    def read_flows(self, name: str = "flows") -> Any:
        """Everything that is remembered: keys and values, shape (n,) each."""
        keys, values = self.libbpf.read_all(self.fd(name))
        return np.frombuffer(keys, abi.FLOW_KEY), np.frombuffer(values, abi.FLOW)

    def find_flow(
        self,
        client: tuple[Any, int],
        server: tuple[Any, int],
        protocol: int,
        name: str = "flows",
    ) -> Mapping[str, Any] | None:
        """What a table has of a flow; None if nothing."""
        (address, port), (to, to_port) = client, server
        key = (encode_address(address), encode_address(to), port, to_port, protocol, b"")
        wanted = np.array(key, abi.FLOW_KEY).tobytes()
        keys, values = self.read_flows(name)
        for one, value in zip(keys, values, strict=True):
            if one.tobytes() == wanted:
                return {name: value[name] for name in abi.FLOW.names}
        return None

    # --- packets ---

    def read_counts(self) -> Any:
        """How many packets got each verdict so far, shape (verdicts,)."""
        return self.dataplane.read_counters("verdicts")

    def send(self, packet: Packet, interface: str = network.FRONT) -> Outcome:
        """Run a packet, which is written in IPv4, in this family."""
        return self.run(bytes(in_family(packet, self.family)), interface)

    def run(self, frame: bytes, interface: str = network.FRONT, before: bytes = POISON) -> Outcome:
        """Put one frame through the program; see that it got one verdict and its action."""
        with self.inside():
            action, out = self.run_uncounted(frame, interface, before)
        counts = self.read_counts()
        risen = (counts - self._counts).astype(int).tolist()
        self._counts = counts
        assert sum(risen) == 1, f"not one verdict: {risen}"
        verdict = Verdict(risen.index(1))
        assert action is expected_action(verdict)
        return Outcome(verdict, action, out)

    def run_many(self, frames: NDArray[np.uint8], interface: str = network.FRONT) -> dict[str, int]:
        """Put many frames of one size, shape (n, size), through the program; their verdicts."""
        size = frames.shape[1]
        run = ProgramRun(self.libbpf, self._program_fd, size, ifindex=self.ifindexes[interface])
        frames = np.ascontiguousarray(frames)
        with self.inside():
            for place in range(frames.ctypes.data, frames.ctypes.data + frames.nbytes, size):
                run.run_at(place)
        counts = self.read_counts()
        risen, self._counts = counts - self._counts, counts
        return {verdict.name: int(risen[verdict]) for verdict in Verdict if risen[verdict]}

    def run_uncounted(
        self, frame: bytes, interface: str = network.FRONT, before: bytes = POISON
    ) -> tuple[Action, bytes]:
        """Put one frame through the program; the caller is inside.

        Args:
            frame: from the Ethernet header on.
            interface: where it comes in.
            before: what lies before it in memory, a multiple of 4 bytes.

        Raises:
            KernelRefused: the frame is shorter than an Ethernet header.
        """
        data = before + frame
        run = ProgramRun(
            self.libbpf,
            self._program_fd,
            len(data),
            before=len(before),
            ifindex=self.ifindexes[interface],
            room=_ROOM,
        )
        return Action(run.run(data)), run.frame


@contextmanager
def running_balancer(config: Config) -> Iterator[Balancer]:
    """A balancer in a network of its own, from `with` to the end of its block.

    The namespace has a laboratory's name, so the next one sweeps away what a killed
    run left.
    """
    tag = make_tag(next(_counter), kept=False)
    namespace = f"{tag}-packet"
    sweep_stale()
    add_namespaces([namespace])
    try:
        network.build(namespace)
        with own_bpffs(tag) as root:
            balancer = Balancer(namespace, root / "packet")
            balancer.dataplane.pins.folder.mkdir()
            try:
                balancer.apply(config)
                yield balancer
            finally:
                balancer.close()
    finally:
        delete_namespaces(tag)
