"""What an instance is like at one moment: the value that status, top, metrics and page show.

`compose_survey` makes it of what the kernel's maps hold, of what the controller says of
itself, and of what checks have said of the backends. Nothing here reads a clock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reconciler import abi
from reconciler.conditions import READY, Condition
from reconciler.fingerprint import Fingerprints
from reconciler.health.standing import Standing
from reconciler.model import DOWN_PERCENT, BackendState, Forwarding, IPAddress
from reconciler.overrides import BackendName, Overrides, find_in_force
from reconciler.resources import find_ids, list_staying
from reconciler.tables import (
    Attachment,
    BackendInfo,
    BackendRow,
    Endpoint,
    Tables,
    ring_extents,
    unpack_slots,
)

if TYPE_CHECKING:
    from reconciler.history import PassRecord
    from reconciler.status import ControllerStatus


@dataclass(frozen=True)
class Health:
    """What is known of the backends' health; nothing of those that are not checked.

    `panicking` are the services that send flows to backends that are down, because too
    few are up. It is None where nobody says: then the kernel's tables tell.
    """

    standings: Mapping[BackendName, Standing] = field(default_factory=dict)
    panicking: frozenset[str] | None = None


class Fill(NamedTuple):
    """How full a map is."""

    entries: int
    capacity: int


class Counters(NamedTuple):
    """What a backend's map of counters holds, summed over the CPUs; grows since it came."""

    packets: int
    bytes: int
    new_flows: int
    reply_packets: int
    reply_bytes: int


class SurveyedBackend(NamedTuple):
    """One backend of a service.

    `share` is of the service's slots, `expected_share` what its weight gives it, less what
    its health withholds (`withheld_percent`). `connections` are the open ones that are
    remembered. `standing` is None where no check has said anything.
    """

    name: str
    address: IPAddress
    port: int
    state: BackendState
    weight: int
    leaves_in_s: float | None
    slots: int
    share: float
    expected_share: float
    counters: Counters
    connections: int
    withheld_percent: int
    standing: Standing | None

    @property
    def is_up(self) -> bool | None:
        """What the checks say, or else what the kernel goes by; None where nothing is known."""
        if self.standing is not None:
            return self.standing.is_up
        return False if self.withheld_percent == DOWN_PERCENT else None

    @property
    def is_kept(self) -> bool:
        """Whether it gets flows although it is down: too few of its service are up."""
        takes = self.state is BackendState.READY and self.weight > 0
        return takes and self.is_up is False and self.withheld_percent != DOWN_PERCENT


class SurveyedService(NamedTuple):
    """One service. `remembers_for_s` is None where no slot has moved lately.

    `endpoints` are its VIPs; none while a writer is at it. `ring_size` counts the slots
    that lead to a backend.
    """

    name: str
    endpoints: tuple[Endpoint, ...]
    forwarding: Forwarding | None
    ring_size: int
    ring_fingerprint: str | None
    remembers_for_s: float | None
    is_panicking: bool
    backends: tuple[SurveyedBackend, ...]


@dataclass(frozen=True)
class Controller:
    """Who holds the instance, and what the last controller said of itself."""

    pid: int | None = None
    account: ControllerStatus | None = None
    conditions: Sequence[Condition] = ()


@dataclass(frozen=True)
class Findings:
    """What a survey is made of, as it was found.

    Attributes:
        name: the instance.
        at: when, in seconds since the epoch.
        now_ns: when, on CLOCK_MONOTONIC.
        tables: what the kernel holds; may be read while they are written.
        fingerprints: of the tables' rings.
        backend_stats: dtype `abi.BACKEND_STATS`, by backend id.
        verdicts: packets by `abi.Verdict`.
        flow_events: by `abi.FlowEvent`.
        connections: open remembered flows by backend id.
        fills: by map.
        controller: who holds the instance.
        overrides: those that are kept, over or not.
        overrides_problem: why they can't be read.
        health: what checks have said.
        history: the last passes that did something or failed, oldest first.
    """

    name: str
    at: float
    now_ns: int
    tables: Tables
    fingerprints: Fingerprints
    backend_stats: NDArray[Any]
    verdicts: NDArray[np.uint64]
    flow_events: NDArray[np.uint64]
    connections: NDArray[np.int64]
    fills: Mapping[str, Fill]
    controller: Controller = Controller()
    overrides: Overrides = ()
    overrides_problem: str | None = None
    health: Health = Health()
    history: tuple[PassRecord, ...] = ()


@dataclass(frozen=True)
class Survey:
    """An instance at one moment; see `Findings` for what is not explained here.

    `services` and their backends are sorted by name, and no name is there twice.
    `interfaces` are the attachments; an ifindex is 0 where the interface is gone.
    `verdicts` and `flow_events` are by lower-case name. `overrides` are those in force,
    and those that are over and still on; `staying` are the backends that the file has.
    """

    name: str
    at: float
    now_ns: int
    generation: int
    config_sha256: str
    ring_fingerprint: str
    interfaces: Mapping[str, Attachment]
    services: tuple[SurveyedService, ...]
    verdicts: Mapping[str, int]
    flow_events: Mapping[str, int]
    fills: Mapping[str, Fill]
    controller: Controller
    overrides: Overrides
    overrides_problem: str | None
    staying: frozenset[BackendName]
    history: tuple[PassRecord, ...] = ()

    def find_condition(self, kind: str) -> Condition | None:
        """Return a condition by its type, if the controller tells it."""
        return next((one for one in self.controller.conditions if one.type == kind), None)

    @property
    def is_ready(self) -> bool:
        """Whether packets are balanced: as the controller says, else by the attachments."""
        told = self.find_condition(READY)
        if told is not None and self.controller.pid is not None:
            return told.status
        return bool(self.services) and any(one.ifindex for one in self.interfaces.values())


def compose_survey(findings: Findings) -> Survey:
    """Return the survey that the findings make.

    Rows that are not whole, because somebody is writing them, are left out.
    """
    tables, fingerprints = findings.tables, findings.fingerprints
    return Survey(
        name=findings.name,
        at=findings.at,
        now_ns=findings.now_ns,
        generation=tables.generation,
        config_sha256=tables.config_sha256,
        ring_fingerprint=fingerprints.whole,
        interfaces=dict(tables.attachments),
        services=tuple(_compose_services(findings, fingerprints.services)),
        verdicts=_name_counts(findings.verdicts, abi.Verdict),
        flow_events=_name_counts(findings.flow_events, abi.FlowEvent),
        fills=findings.fills,
        controller=findings.controller,
        overrides=_find_overrides(findings),
        overrides_problem=findings.overrides_problem,
        staying=frozenset(list_staying(tables)),
        history=findings.history,
    )


def measure_fills(tables: Tables, capacities: Mapping[str, int]) -> dict[str, Fill]:
    """Return how full the maps are that the tables are read from, by map.

    `capacities` are those of `service_info`, `backends` and `endpoints`; id 0 of the
    first two is nobody's.
    """
    slots = sum(extent.stop - extent.start for extent in ring_extents(tables).values())
    endpoints = len(tables.services.keys() | tables.nat_replies.keys())
    return {
        "service_info": Fill(len(tables.service_info), capacities["service_info"] - 1),
        "backends": Fill(len(tables.backends), capacities["backends"] - 1),
        "slots": Fill(slots, len(tables.slots)),
        "endpoints": Fill(endpoints, capacities["endpoints"]),
    }


def _name_counts(counts: NDArray[np.uint64], names: Any) -> dict[str, int]:
    listed = counts.tolist()
    return {name.name.lower(): listed[name] for name in names}


def _find_overrides(findings: Findings) -> Overrides:
    """Those in force, and those that are over and still on.

    Without a controller an override stays on when its time is over, until the next pass.
    """
    tables = findings.tables
    ids = find_ids(tables)
    in_force = find_in_force(findings.overrides, findings.at)
    return tuple(
        one
        for one in findings.overrides
        if one in in_force
        or (one.name in ids and tables.backends[ids[one.name]].state is one.state)
    )


# --- services ---


def _compose_services(
    findings: Findings, fingerprints: Mapping[int, str]
) -> Iterator[SurveyedService]:
    tables = findings.tables
    owned = _list_owned(tables)
    endpoints = defaultdict(list)
    for endpoint, row in tables.services.items():
        endpoints[row.id].append((endpoint, row))
    slots = _count_slots(tables)
    named = {info.name: number for number, info in tables.service_info.items()}
    for name, number in sorted(named.items()):
        vips = sorted(endpoints[number], key=lambda item: str(item[0].address))
        backends = _compose_backends(findings, name, owned[number], slots)
        yield SurveyedService(
            name=name,
            endpoints=tuple(endpoint for endpoint, _ in vips),
            forwarding=vips[0][1].forwarding if vips else None,
            ring_size=sum(one.slots for one in backends),
            ring_fingerprint=fingerprints.get(number),
            remembers_for_s=_seconds_until(
                tables.service_info[number].window_end_ns, findings.now_ns
            ),
            is_panicking=_is_panicking(findings.health, name, backends),
            backends=backends,
        )


def _is_panicking(health: Health, service: str, backends: Iterable[SurveyedBackend]) -> bool:
    if health.panicking is not None:
        return service in health.panicking
    return any(backend.is_kept for backend in backends)


class _Owned(NamedTuple):
    """A backend's rows, which are whole."""

    number: int
    info: BackendInfo
    row: BackendRow


def _list_owned(tables: Tables) -> dict[int, list[_Owned]]:
    """The backends of each service by its id, sorted by name; no name twice."""
    owned: dict[int, dict[str, _Owned]] = defaultdict(dict)
    for number, row in tables.backends.items():
        info = tables.backend_info.get(number)
        if info is not None:
            owned[row.service][info.name] = _Owned(number, info, row)
    listed = {service: sorted(rows.values(), key=_get_name) for service, rows in owned.items()}
    return defaultdict(list, listed)


def _get_name(owned: _Owned) -> str:
    return owned.info.name


def _count_slots(tables: Tables) -> list[int]:
    """How many slots lead to each backend, by id."""
    counts = np.zeros(1 << 16, np.int64)
    for extent in ring_extents(tables).values():
        found = np.bincount(unpack_slots(tables.slots[extent])[0])
        counts[: len(found)] += found
    listed: list[int] = counts.tolist()
    return listed


def _compose_backends(
    findings: Findings, service: str, owned: Sequence[_Owned], slots: Sequence[int]
) -> tuple[SurveyedBackend, ...]:
    weights = [_weigh(each) for each in owned]
    numbers = [each.number for each in owned]
    counters = findings.backend_stats[numbers].tolist()
    connections = findings.connections[numbers].tolist()
    ring_size = sum(slots[number] for number in numbers)
    total_weight = sum(weights)
    return tuple(
        SurveyedBackend(
            name=each.info.name,
            address=each.row.address,
            port=each.row.port,
            state=each.row.state,
            weight=each.info.weight,
            leaves_in_s=_seconds_until(each.info.leaves_ns, findings.now_ns),
            slots=slots[each.number],
            share=slots[each.number] / ring_size if ring_size else 0.0,
            expected_share=weights[at] / total_weight if total_weight else 0.0,
            counters=Counters(*counters[at]),
            connections=connections[at],
            withheld_percent=each.info.withheld_percent,
            standing=findings.health.standings.get((service, each.info.name)),
        )
        for at, each in enumerate(owned)
    )


def _weigh(owned: _Owned) -> int:
    """What of its weight gives a backend slots, in hundredths."""
    is_ready = owned.row.state is BackendState.READY
    return owned.info.weight * (DOWN_PERCENT - owned.info.withheld_percent) if is_ready else 0


def _seconds_until(time_ns: int, now_ns: int) -> float | None:
    return max((time_ns - now_ns) / 1e9, 0.0) if time_ns else None
