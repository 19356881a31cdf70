"""One service's rows in the tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from reconciler.desired.given import Given, timeout_ns
from reconciler.desired.identity import Identities
from reconciler.desired.ring import BuildRing, move_ring
from reconciler.environment import find_own_vips
from reconciler.errors import Unavailable
from reconciler.model import (
    Affinity,
    Backend,
    BackendState,
    FlowTracking,
    Forwarding,
    IPAddress,
    Service,
)
from reconciler.tables import (
    BackendInfo,
    BackendRow,
    Endpoint,
    ReplyRow,
    ServiceInfo,
    ServiceRow,
    SlotWords,
)

# Says of a VIP that some service has it; leads nowhere.
_VIP_MARKER = ServiceRow(0, 0, 0, Forwarding.NAT, Affinity.FLOW, is_shared=False)

Claim = tuple[int, IPAddress, int]
"""A backend's id, and the VIP and port in whose name it may reply."""


@dataclass
class Draft:
    """Tables in the making: those of one service, or all of them."""

    service_info: dict[int, ServiceInfo] = field(default_factory=dict)
    backend_info: dict[int, BackendInfo] = field(default_factory=dict)
    backends: dict[int, BackendRow] = field(default_factory=dict)
    services: dict[Endpoint, ServiceRow] = field(default_factory=dict)
    replies: dict[Endpoint, list[Claim]] = field(default_factory=lambda: defaultdict(list))


def make_rows(
    service: Service, given: Given, identities: Identities, build_ring: BuildRing
) -> tuple[Draft, SlotWords]:
    """Return what one service puts into the tables, were it alone, and its slots.

    Raises:
        Unavailable: its interface is missing or has no address for it.
    """
    rows = _Rows(service, given, identities)
    rows.add_backends()
    words, window_end_ns = move_ring(service, given, identities, rows.list_living(), build_ring)
    rows.add_service(window_end_ns)
    return rows.draft, words


class _Rows:
    def __init__(self, service: Service, given: Given, identities: Identities) -> None:
        self._service = service
        self._given = given
        self._identities = identities
        self._number = identities.services[service.name]
        self._vips = find_vips(service, given, identities)
        self.draft = Draft()

    def add_backends(self) -> None:
        for backend in self._service.backends:
            info = BackendInfo(backend.name, backend.weight, 0, backend.withheld_percent)
            self._add_backend(info, self._backend_row(backend))
        for retired in self._identities.retired.get(self._service.name, ()):
            number = self._identify(retired.name)
            row = self._given.observed.backends[number]._replace(state=BackendState.DRAIN)
            self._add_backend(BackendInfo(retired.name, 0, retired.leaves_ns), row)

    def _identify(self, backend: str) -> int:
        return self._identities.backends[self._service.name, backend]

    def _add_backend(self, info: BackendInfo, row: BackendRow) -> None:
        number = self._identify(info.name)
        self.draft.backend_info[number] = info
        self.draft.backends[number] = row
        if row.forwarding is Forwarding.NAT:
            backend = Endpoint(row.address, row.port, self._service.protocol)
            for vip in self._vips:
                self.draft.replies[backend].append((number, vip, self._service.port))

    def _backend_row(self, backend: Backend) -> BackendRow:
        observed, number = self._given.observed, self._identify(backend.name)
        before = observed.backends.get(number)
        born = before.born if before else observed.generation + 1
        # Who is born anew has no flows: those that are remembered are released.
        if before and backend.is_down and not observed.backend_info[number].is_down:
            born = observed.generation + 1
        forwarding = self._service.forwarding
        return BackendRow(
            backend.address, backend.port, self._number, forwarding, backend.state, born
        )

    def list_living(self) -> list[int]:
        """The ids of those who may keep flows."""
        infos = self.draft.backend_info
        return [
            number
            for number, row in self.draft.backends.items()
            if row.service == self._number
            and row.state is not BackendState.MAINT
            and not infos[number].is_down
        ]

    def add_service(self, window_end_ns: int) -> None:
        service = self._service
        self.draft.service_info[self._number] = ServiceInfo(
            service.name,
            timeout_ns(service) // 1_000_000,
            service.vip is None,
            window_end_ns,
            service.flow_tracking,
            int(service.flow_idle_timeout_s * 1_000),
        )
        row = ServiceRow(
            self._number,
            self._identities.extents[service.name].start,
            service.ring_size,
            service.forwarding,
            service.affinity,
            is_shared=False,
            is_tracked=service.flow_tracking is FlowTracking.ALWAYS,
        )
        for vip in self._vips:
            self.draft.services[Endpoint(vip, service.port, service.protocol)] = row
            self.draft.services[Endpoint(vip, 0, service.protocol)] = _VIP_MARKER


def find_vips(service: Service, given: Given, identities: Identities) -> tuple[IPAddress, ...]:
    """Return the service's VIP, or the own addresses of its interface that it listens on.

    Raises:
        Unavailable: the interface is missing, and always was, or has no such address.
    """
    if service.vip is not None:
        return (service.vip,)
    name = given.config.interfaces[0]
    if name not in given.environment.interfaces:
        return _observed_vips(service, given, identities)
    facts = given.environment.interfaces[name]
    own = find_own_vips(service, given.config, facts)
    if not own:
        version = service.backends[0].address.version
        place = f"port {service.port}/{service.protocol.name.lower()}"
        is_named = any(address.version == version for address in facts.addresses)
        why = f": another service names it as its vip, with {place}" if is_named else ""
        raise Unavailable(
            f"interface {name} has no IPv{version} address for service {service.name}{why}",
            remedy=f"give it one (ip address add ADDRESS/LENGTH dev {name}), or name a vip",
        )
    return own


def _observed_vips(service: Service, given: Given, identities: Identities) -> tuple[IPAddress, ...]:
    """The VIPs that the service has while the interface whose addresses they are is gone."""
    number = identities.services[service.name]
    rows = given.observed.services.items()
    vips = sorted((endpoint.address for endpoint, row in rows if row.id == number))
    if not vips:
        name = given.config.interfaces[0]
        raise Unavailable(
            f"interface {name}, whose addresses service {service.name} listens on, is gone",
            remedy="it is taken up when it comes back; or name a vip",
        )
    return tuple(vips)


def choose_replies(draft: Draft) -> dict[Endpoint, ReplyRow]:
    """Return whose source each backend's packets get."""
    replies = {}
    for backend, claims in draft.replies.items():
        # One that is in the file answers for one that has left it.
        claims.sort(key=lambda claim: (draft.backend_info[claim[0]].leaves_ns, claim[0]))
        number, vip, port = claims[0]
        replies[backend] = ReplyRow(vip, port, number, is_shared(claims))
    return replies


def is_shared(claims: Sequence[Claim]) -> bool:
    """Return whether a backend's packets alone don't tell in whose name they reply."""
    return len(claims) > 1 and len({(vip, port) for _, vip, port in claims}) > 1
