"""From a Config to the Tables that should be.

`compile_tables` is a pure function. Of the observed tables it takes only what
the file doesn't say: who has which id and which slots, and which slots still
remember. Two balancers with one file therefore agree on every backend's name,
though not on its number.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import is_
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconciler import abi, maglev
from reconciler.allocation import assign_ids, find_extent
from reconciler.directory import count_entries, count_groups
from reconciler.environment import Environment
from reconciler.errors import Unavailable
from reconciler.health.effect import measure_weights
from reconciler.memory import Occupancy
from reconciler.model import (
    Affinity,
    Backend,
    BackendState,
    Config,
    FlowTracking,
    Forwarding,
    IPAddress,
    Protocol,
    Service,
    XdpMode,
)
from reconciler.movement import measure_window_ns, move_slots, pin_settled, resample_slots
from reconciler.tables import (
    Attachment,
    BackendInfo,
    BackendRow,
    Endpoint,
    InterfaceRow,
    ReplyRow,
    ServiceInfo,
    ServiceRow,
    Settings,
    SlotWords,
    Tables,
    list_extents,
    ring_extents,
    unpack_slots,
)

# Says of a VIP that some service has it; leads nowhere.
_VIP_MARKER = ServiceRow(0, 0, 0, Forwarding.NAT, Affinity.FLOW, is_shared=False)

# A removed backend leaves before its time if no flow has shown itself for so long.
QUIET_NS = 60 * 10**9
# A window that ends before the new one is written would be opened again: flows that came
# in between would be taken for older ones. So a change so shortly before counts as after.
_LAST_MOMENT_NS = 10**9


class Rings:
    """What the last pass made, kept for the next: one that changes nothing makes nothing.

    Attributes:
        parts: what each service that is at rest put into the tables, by its name.
        seen: the observed rows that stood behind `parts`.
    """

    def __init__(self) -> None:
        self.parts: dict[str, _Part] = {}
        self.seen: tuple[Mapping[Any, Any], ...] = ()
        self._kept: dict[tuple[object, ...], NDArray[np.uint16]] = {}
        self._used: dict[tuple[object, ...], NDArray[np.uint16]] = {}

    def build(self, weights: Mapping[str, int], size: int) -> NDArray[np.uint16]:
        """Return `maglev.build_ring(weights, size)`."""
        key = (size, *sorted(weights.items()))
        ring = self._kept.get(key)
        if ring is None:
            ring = maglev.build_ring(weights, size)
        self._used[key] = ring
        return ring

    def forget_unused(self) -> None:
        """End a pass: keep what it used."""
        self._kept, self._used = self._used, {}


@dataclass
class _Draft:
    """Tables in the making: those of one service, or all of them."""

    service_info: dict[int, ServiceInfo] = field(default_factory=dict)
    backend_info: dict[int, BackendInfo] = field(default_factory=dict)
    backends: dict[int, BackendRow] = field(default_factory=dict)
    services: dict[Endpoint, ServiceRow] = field(default_factory=dict)
    replies: dict[Endpoint, list[tuple[int, IPAddress, int]]] = field(
        default_factory=lambda: defaultdict(list)
    )


@dataclass(frozen=True)
class _Part:
    """What one service puts into the tables, were it alone; `digest` is that of its slots."""

    service: Service
    draft: _Draft
    replies: Mapping[Endpoint, ReplyRow]
    digest: int


def compile_tables(
    config: Config,
    environment: Environment,
    observed: Tables,
    *,
    now_ns: int,
    rings: Rings | None = None,
    occupancy: Occupancy | None = None,
) -> Tables:
    """Return the tables that `config` asks for, with the observed `meta`.

    Args:
        config: what the file says.
        environment: what the machine is like.
        observed: what the kernel holds; its slots have shape (limits.ring_slots,).
        now_ns: CLOCK_MONOTONIC.
        rings: what the last pass made; give the same one every time to make it once.
        occupancy: where remembered flows live; None if nobody has looked, and then
            no pinned slot settles and no removed backend leaves before its time.

    Raises:
        Unavailable: an interface is missing or has no address for a VIP, or ids
            or slots have run out.
    """
    compiler = _Compiler(
        config,
        environment,
        observed,
        now_ns=now_ns,
        rings=rings or Rings(),
        occupancy=occupancy,
    )
    return compiler.compile()


class _Compiler:
    def __init__(
        self,
        config: Config,
        environment: Environment,
        observed: Tables,
        *,
        now_ns: int,
        rings: Rings,
        occupancy: Occupancy | None,
    ) -> None:
        self.config = config
        self.environment = environment
        self.observed = observed
        self.now_ns = now_ns
        self.rings = rings
        self.occupancy = occupancy
        self.draft = _Draft()
        self.parts: dict[str, _Part] = {}
        rows = ("service_info", "backend_info", "backends", "services")
        self.seen = tuple(observed.rows(table) for table in rows)
        # Who reads the kernel hands out the same object for rows that have not changed.
        self.are_rows_seen = len(rings.seen) == len(rows) and all(map(is_, self.seen, rings.seen))
        self.services = {service.name: service for service in config.services}
        self.service_ids = assign_ids(
            self.services, _observed_service_ids(observed), config.limits.services
        )
        self.live = ring_extents(observed)
        self.observed_ids = _observed_backend_ids(observed)
        self.retired = self._find_retired()
        self.backend_ids = self._assign_backend_ids()
        self.extents = self._assign_extents()

    def compile(self) -> Tables:
        slots = np.zeros_like(self.observed.slots)
        parts = []
        for service in self.config.services:
            extent = self.extents[service.name]
            if part := self._find_part(service):
                slots[extent] = self.observed.slots[extent]
            else:
                part, slots[extent] = self._make_part(service)
            self._keep(part)
            parts.append(part)
        if np.array_equal(slots, self.observed.slots):
            slots = self.observed.slots  # held once, and compared by a glance
        self.rings.parts = self.parts
        self.rings.seen = self.seen
        self.rings.forget_unused()
        self.draft = _merge(part.draft for part in parts)
        replies, shared = self._join_replies(parts)
        return Tables(
            settings={0: self._settings(has_replies=bool(replies))},
            interfaces=self._interfaces(),
            service_info=self.draft.service_info,
            backend_info=self.draft.backend_info,
            backends=self.draft.backends,
            nat_replies=replies,
            services={
                endpoint: row._replace(is_shared=True) if row.id in shared else row
                for endpoint, row in self.draft.services.items()
            },
            attachments=self._attachments(),
            meta=self.observed.meta,
            slots=slots,
        )

    # --- what is at rest ---

    def _find_part(self, service: Service) -> _Part | None:
        """What the last pass made of a service, if making it again would change nothing.

        That is so of the same service at rest, if the kernel holds just what it put there:
        what is desired of it follows from these alone.
        """
        part = self.rings.parts.get(service.name)
        if part is None or part.service != service or service.name in self.retired:
            return None
        if _digest_slots(self.observed.slots[self.extents[service.name]]) != part.digest:
            return None
        if self.are_rows_seen and service.vip is not None:
            return part
        if not (self._has_ids(part) and self._leads_there(part)):
            return None
        return self._adopt_rows(part)

    def _has_ids(self, part: _Part) -> bool:
        infos, name = part.draft.backend_info, part.service.name
        return self.service_ids[name] in part.draft.service_info and all(
            self.backend_ids[name, info.name] == number for number, info in infos.items()
        )

    def _adopt_rows(self, part: _Part) -> _Part | None:
        """The part with the observed rows, if they are the same as its own.

        What is one object need not be compared field by field, now or later.
        """
        observed, draft = self.observed, part.draft
        adopted = _Draft(
            _take(observed.service_info, draft.service_info),
            _take(observed.backend_info, draft.backend_info),
            _take(observed.backends, draft.backends),
            draft.services,
            draft.replies,
        )
        if adopted != draft:
            return None
        replies = _take(observed.nat_replies, part.replies)
        if replies != part.replies:
            replies = dict(part.replies)
        return _Part(part.service, adopted, replies, part.digest)

    def _leads_there(self, part: _Part) -> bool:
        """Whether the service has the VIPs of the part, and they lead where it says."""
        service, observed = part.service, self.observed.services
        vips = {Endpoint(vip, service.port, service.protocol) for vip in self._vips(service)}
        return (
            all(endpoint.port == 0 or endpoint in vips for endpoint in part.draft.services)
            and all(
                endpoint in observed and observed[endpoint]._replace(is_shared=False) == row
                for endpoint, row in part.draft.services.items()
            )
            and vips <= part.draft.services.keys()
        )

    def _make_part(self, service: Service) -> tuple[_Part, SlotWords]:
        self.draft = _Draft()
        self._add_backends(service)
        words, window_end_ns = self._move_ring(service)
        self._add_service(service, window_end_ns)
        replies = _choose_replies(self.draft)
        return _Part(service, self.draft, replies, _digest_slots(words)), words

    def _keep(self, part: _Part) -> None:
        """Keep a part for the next pass, unless time alone may change it."""
        name = part.service.name
        is_moving = any(info.window_end_ns for info in part.draft.service_info.values())
        if not is_moving and name not in self.retired:
            self.parts[name] = part

    # --- who is who ---

    def _find_retired(self) -> dict[str, list[tuple[str, int]]]:
        """Backends that left the file and stay a while, with `leaves_ns`, by service."""
        retired: dict[str, list[tuple[str, int]]] = defaultdict(list)
        wanted = {(s.name, b.name) for s in self.config.services for b in s.backends}
        for key, number in self.observed_ids.items():
            service = self.services.get(key[0])
            if service is None or key in wanted:
                continue
            leaves_ns = self.observed.backend_info[number].leaves_ns
            leaves_ns = leaves_ns or self.now_ns + _timeout_ns(service)
            if leaves_ns > self.now_ns and not self._is_deserted(number, service, leaves_ns):
                retired[key[0]].append((key[1], leaves_ns))
        return retired

    def _is_deserted(self, number: int, service: Service, leaves_ns: int) -> bool:
        """Whether the last flow of a removed backend has ended, as far as one can know."""
        if self.occupancy is None or self.occupancy.flows is None:
            return False
        removed_ns = leaves_ns - _timeout_ns(service)
        return self.now_ns >= removed_ns + QUIET_NS and self.occupancy.flows[number] == 0

    def _assign_backend_ids(self) -> dict[tuple[str, str], int]:
        named = [(s.name, b.name) for s in self.config.services for b in s.backends]
        retired = [(service, name) for service, each in self.retired.items() for name, _ in each]
        return assign_ids([*named, *retired], self.observed_ids, self.config.limits.backends)

    def _assign_extents(self) -> dict[str, slice]:
        """Rings keep their place; a new one never overlaps a live one, wanted or not."""
        live = self.live
        taken = list_extents(self.observed)
        extents = {}
        for name, service in self.services.items():
            extent = live.get(self.service_ids[name])
            if extent is None or extent.stop - extent.start != service.ring_size:
                extent = find_extent(service.ring_size, taken, self.config.limits.ring_slots)
                taken.append(extent)
            extents[name] = extent
        return extents

    # --- one service ---

    def _add_backends(self, service: Service) -> None:
        for backend in service.backends:
            info = BackendInfo(backend.name, backend.weight, 0, backend.withheld_percent)
            row = self._backend_row(service, backend)
            self._add_backend(service, info, row)
        for name, leaves_ns in self.retired.get(service.name, ()):
            number = self.backend_ids[service.name, name]
            info = BackendInfo(name, 0, leaves_ns)
            row = self.observed.backends[number]._replace(state=BackendState.DRAIN)
            self._add_backend(service, info, row)

    def _add_backend(self, service: Service, info: BackendInfo, row: BackendRow) -> None:
        number = self.backend_ids[service.name, info.name]
        self.draft.backend_info[number] = info
        self.draft.backends[number] = row
        if row.forwarding is Forwarding.NAT:
            backend = Endpoint(row.address, row.port, service.protocol)
            for vip in self._vips(service):
                self.draft.replies[backend].append((number, vip, service.port))

    def _backend_row(self, service: Service, backend: Backend) -> BackendRow:
        number = self.backend_ids[service.name, backend.name]
        before = self.observed.backends.get(number)
        born = before.born if before else self.observed.generation + 1
        # Who is born anew has no flows: those that are remembered are released.
        if before and backend.is_down and not self.observed.backend_info[number].is_down:
            born = self.observed.generation + 1
        service_id = self.service_ids[service.name]
        return BackendRow(
            backend.address, backend.port, service_id, service.forwarding, backend.state, born
        )

    def _add_service(self, service: Service, window_end_ns: int) -> None:
        number = self.service_ids[service.name]
        self.draft.service_info[number] = ServiceInfo(
            service.name,
            _timeout_ns(service) // 1_000_000,
            service.vip is None,
            window_end_ns,
            service.flow_tracking,
            int(service.flow_idle_timeout_s * 1_000),
        )
        extent = self.extents[service.name]
        row = ServiceRow(
            number,
            extent.start,
            service.ring_size,
            service.forwarding,
            service.affinity,
            is_shared=False,
            is_tracked=service.flow_tracking is FlowTracking.ALWAYS,
        )
        for vip in self._vips(service):
            self.draft.services[Endpoint(vip, service.port, service.protocol)] = row
            any_port = Endpoint(vip, 0, service.protocol)
            self.draft.services[any_port] = _VIP_MARKER

    def _vips(self, service: Service) -> tuple[IPAddress, ...]:
        if service.vip is not None:
            return (service.vip,)
        name = self.config.interfaces[0]
        if name not in self.environment.interfaces:
            return self._observed_vips(service)
        facts = self.environment.interfaces[name]
        version = service.backends[0].address.version
        own = tuple(address for address in facts.addresses if address.version == version)
        if not own:
            raise Unavailable(
                f"interface {name} has no IPv{version} address for service {service.name}",
                remedy=f"give it one (ip address add ADDRESS/LENGTH dev {name}), or name a vip",
            )
        return own

    def _observed_vips(self, service: Service) -> tuple[IPAddress, ...]:
        """The VIPs that the service has while the interface whose addresses they are is gone."""
        number = self.service_ids[service.name]
        vips = sorted((e.address for e, row in self.observed.services.items() if row.id == number))
        if not vips:
            name = self.config.interfaces[0]
            raise Unavailable(
                f"interface {name}, whose addresses service {service.name} listens on, is gone",
                remedy="it is taken up when it comes back; or name a vip",
            )
        return tuple(vips)

    # --- the ring ---

    def _move_ring(self, service: Service) -> tuple[SlotWords, int]:
        """Return the service's slots and the end of its window."""
        number = self.service_ids[service.name]
        info = self.observed.service_info.get(number)
        window_end_ns = info.window_end_ns if info else 0
        words, occupied = self._current_words(service)
        target = self._target(service)
        was, _ = unpack_slots(words)
        is_change = bool(np.any(target != was))
        last_moment_ns = min(_LAST_MOMENT_NS, _window_ns(service) // 10) if is_change else 0
        moved = move_slots(
            words,
            target,
            living=self._living(service),
            remembers=_learns_flows(service),
            is_window_over=0 < window_end_ns <= self.now_ns + last_moment_ns,
            occupied=occupied,
        )
        _, previous = unpack_slots(moved)
        if not np.any(previous):
            window_end_ns = 0
        elif np.any((target != was) & (previous != 0)) or not window_end_ns:
            window_end_ns = self.now_ns + _window_ns(service)
        return moved, window_end_ns

    def _current_words(self, service: Service) -> tuple[SlotWords, NDArray[np.bool_] | None]:
        live = self.live.get(self.service_ids[service.name])
        if live is None:
            return np.zeros(service.ring_size, np.uint32), None
        words = self.observed.slots[live]
        if self._was_tracked(service):
            words = pin_settled(words)
        if live == self.extents[service.name]:
            return words, self.occupancy.slots[live] if self.occupancy else None
        return resample_slots(words, service.ring_size), None

    def _was_tracked(self, service: Service) -> bool:
        """Whether every flow was remembered until now, also in settled slots."""
        number = self.service_ids[service.name]
        info = self.observed.service_info.get(number)
        was_always = info is not None and info.flow_tracking is FlowTracking.ALWAYS
        return was_always and service.flow_tracking is FlowTracking.ON_CHANGE

    def _target(self, service: Service) -> NDArray[np.uint16]:
        weights = measure_weights(service.backends)
        if not weights:
            return np.zeros(service.ring_size, np.uint16)
        names = maglev.ring_names(weights)
        ids = np.array([self.backend_ids[service.name, name] for name in names], np.uint16)
        return ids[self.rings.build(weights, service.ring_size)]

    def _living(self, service: Service) -> NDArray[np.uint16]:
        number = self.service_ids[service.name]
        return np.array(
            [
                i
                for i, row in self.draft.backends.items()
                if row.service == number
                and row.state is not BackendState.MAINT
                and not self.draft.backend_info[i].is_down
            ],
            np.uint16,
        )

    # --- across services ---

    def _join_replies(self, parts: list[_Part]) -> tuple[Mapping[Endpoint, ReplyRow], set[int]]:
        """Return the replies of all services, and the ids of those that share a backend.

        Where services share a backend, its replies must find their VIP.
        """
        replies: dict[Endpoint, ReplyRow] = {}
        for part in parts:
            replies |= part.replies
        if len(replies) < sum(len(part.replies) for part in parts):
            for part in parts:
                for backend, claims in part.draft.replies.items():
                    self.draft.replies[backend] += claims
            replies = _choose_replies(self.draft)
            sharing = [c for c in self.draft.replies.values() if _is_shared(c)]
            numbers = {number for claims in sharing for number, _, _ in claims}
        else:
            numbers = {row.backend for row in replies.values() if row.is_shared}
        return replies, {self.draft.backends[number].service for number in numbers}

    # --- the machine ---

    def _settings(self, *, has_replies: bool) -> Settings:
        ticks = self.environment.ticks_per_second
        config = self.config
        vip_filter = 0
        for endpoint in self.draft.services:
            vip_filter |= 1 << (int(endpoint.address) % abi.VIP_FILTER_BITS)
        return Settings(
            ticks,
            config.hash_seed,
            config.tunnel,
            config.answers_echo,
            vip_filter,
            abi.GROUP_PLACES * count_groups(count_entries(config.limits)),
            has_replies=has_replies,
        )

    def _interfaces(self) -> dict[int, InterfaceRow]:
        return {
            facts.ifindex: InterfaceRow(facts.transmits, facts.redirects, facts.ipv4, facts.ipv6)
            for facts in self.environment.interfaces.values()
        }

    def _attachments(self) -> dict[str, Attachment]:
        """On every interface that is there; one that is gone stays as it is."""
        return {
            name: Attachment(
                facts.ifindex, self._mode(name, facts.ifindex), self.environment.program_sha256
            )
            if (facts := self.environment.interfaces.get(name))
            else self.observed.attachments[name]
            for name in self.config.interfaces
        }

    def _mode(self, name: str, ifindex: int) -> XdpMode:
        """`auto` stays with what worked."""
        wanted = self.config.xdp_mode
        live = self.observed.attachments.get(name)
        is_settled = wanted is XdpMode.AUTO and live is not None and live.ifindex == ifindex
        return live.mode if live and is_settled else wanted


def _merge(drafts: Iterable[_Draft]) -> _Draft:
    """Return the tables of all services together."""
    whole = _Draft()
    for draft in drafts:
        whole.service_info |= draft.service_info
        whole.backend_info |= draft.backend_info
        whole.backends |= draft.backends
        whole.services |= draft.services
    return whole


def _take(rows: Mapping[Any, Any], keys: Iterable[Any]) -> dict[Any, Any]:
    return {key: rows.get(key) for key in keys}


def _choose_replies(draft: _Draft) -> dict[Endpoint, ReplyRow]:
    """Return whose source each backend's packets get."""
    replies = {}
    for backend, claims in draft.replies.items():
        # One that is in the file answers for one that has left it.
        claims.sort(key=lambda claim: (draft.backend_info[claim[0]].leaves_ns, claim[0]))
        number, vip, port = claims[0]
        replies[backend] = ReplyRow(vip, port, number, _is_shared(claims))
    return replies


def _digest_slots(words: SlotWords) -> int:
    """A digest for this process: SipHash, with a key of its own."""
    return hash(words.tobytes())


def _is_shared(claims: Sequence[tuple[int, IPAddress, int]]) -> bool:
    return len(claims) > 1 and len({(vip, port) for _, vip, port in claims}) > 1


def _learns_flows(service: Service) -> bool:
    """Whether moved slots learn which flows are older.

    Where every datagram's flow is remembered, an unknown one is new.
    """
    if service.flow_tracking is FlowTracking.NEVER:
        return False
    return service.protocol is Protocol.TCP or service.flow_tracking is FlowTracking.ON_CHANGE


def _window_ns(service: Service) -> int:
    return measure_window_ns(service.protocol, _timeout_ns(service))


def _timeout_ns(service: Service) -> int:
    return int(service.drain_timeout_s * 1e9)


def _observed_service_ids(observed: Tables) -> dict[str, int]:
    return {info.name: number for number, info in observed.service_info.items()}


def _observed_backend_ids(observed: Tables) -> dict[tuple[str, str], int]:
    """(service, backend) to id, of backends whose rows are whole."""
    ids = {}
    for number, info in observed.backend_info.items():
        row = observed.backends.get(number)
        service = observed.service_info.get(row.service) if row else None
        if service:
            ids[service.name, info.name] = number
    return ids
