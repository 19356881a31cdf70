"""A file on a machine: what the judges of interfaces, VIPs and backends ask about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.diagnosis.facts import (
    Answer,
    InstanceState,
    InterfaceState,
    IPInterface,
    Network,
    Program,
    Reach,
    Unseen,
    Way,
)
from reconciler.diagnosis.finding import name_some
from reconciler.environment import find_own_vips
from reconciler.model import Backend, BackendState, Config, IPAddress, Service, XdpMode


@dataclass(frozen=True, slots=True)
class Case:
    """A valid lb.yaml and what is known of the machine that shall run it."""

    config: Config
    network: Network
    reach: Reach
    programs: Mapping[int, Program] | Unseen
    instance: InstanceState | Unseen

    # --- interfaces ---

    def is_ours(self, state: InterfaceState) -> bool:
        """Whether the program on an interface is this instance's."""
        if isinstance(self.programs, Unseen):
            return False
        program = self.programs.get(state.device.ifindex)
        return program is not None and program.instance == self.config.name

    def choose_mode(self, state: InterfaceState) -> XdpMode:
        """Return where our program runs on an interface, or would."""
        if self.is_ours(state):
            return state.device.program_mode
        if self.config.xdp_mode is XdpMode.AUTO:
            return XdpMode.GENERIC if state.device.takes_native is False else XdpMode.NATIVE
        return self.config.xdp_mode

    def find_own_network(self, address: IPAddress) -> tuple[str, IPInterface] | None:
        """Return the interface, and its address, on whose link an address is."""
        for name, state in self.network.interfaces.items():
            for own in state.device.addresses:
                if own.version == address.version and address in own.network:
                    return name, own
        return None

    def list_vips(self, service: Service) -> tuple[IPAddress, ...]:
        """Return what a service listens on."""
        if service.vip is not None:
            return (service.vip,)
        first = self.network.interfaces.get(self.config.interfaces[0])
        return find_own_vips(service, self.config, first.facts) if first else ()

    # --- backends ---

    def find_way(self, backend: Backend) -> Way:
        """Return how the kernel leads to a backend; a way to nowhere if that is not known."""
        return self.reach.ways.get(backend.address, Way())

    def is_elsewhere(self, backend: Backend) -> bool:
        """Whether there is a way to a backend, and it leads to another machine."""
        way = self.find_way(backend)
        return bool(way.interface) and not way.is_local

    def is_lost(self, backend: Backend) -> bool:
        """Whether the next hop to a backend was asked for and did not answer."""
        return self.reach.neighbours.get(backend.address) is False

    def is_out_of_reach(self, backend: Backend) -> bool:
        """Whether this machine itself can't send a packet to a backend."""
        return bool(self.find_way(backend).refusal) or self.is_lost(backend)

    def find_answer(self, backend: Backend) -> Answer:
        """Return what a backend said to a TCP connection."""
        return self.reach.answers.get((backend.address, backend.port), Answer.NOT_ASKED)

    def group_by_egress(self, service: Service) -> dict[str, list[Backend]]:
        """Return a service's backends on other machines by the interface that leads there."""
        groups: dict[str, list[Backend]] = defaultdict(list)
        for backend in filter(self.is_elsewhere, list_serving(service)):
            groups[self.find_way(backend).interface].append(backend)
        return groups

    def list_senders(self, interface: str) -> list[Service]:
        """Return the services whose packets leave by an interface."""
        return [s for s in self.config.services if interface in self.group_by_egress(s)]


def list_serving(service: Service) -> list[Backend]:
    """Return the backends that have flows, or shall have some."""
    return [backend for backend in service.backends if backend.state is not BackendState.MAINT]


def name_backends(backends: Sequence[Backend]) -> str:
    """Return the addresses of backends for a message."""
    return name_some([backend.address for backend in backends])
