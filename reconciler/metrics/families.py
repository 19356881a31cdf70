"""Every metric there is, as values: a name, a meaning, and columns of labels and numbers.

The names are those of docs/metrics.md; a contract test holds the two together. Nothing
here knows how metrics are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from reconciler.abi import ABI_VERSION
from reconciler.metrics.recorder import BOUNDS_S, Durations, Facts
from reconciler.status import Attempt, ControllerStatus
from reconciler.survey import Survey, SurveyedBackend, SurveyedService

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_SUCCESSES = ("applied", "in_sync")


class Labels:
    """The labels of a family's samples: their names, sorted, and a row of values each."""

    def __init__(self, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        assert list(names) == sorted(names)
        self.names = tuple(names)
        self.rows = rows

    @cached_property
    def texts(self) -> list[str]:
        """Each row as it is written behind a name; families that share labels share it."""
        if not self.names:
            return [""] * len(self.rows)
        template = "{" + ",".join(f'{name}="%s"' for name in self.names) + "}"
        return [template % tuple(v.translate(_ESCAPES) for v in row) for row in self.rows]


@dataclass(frozen=True)
class Family:
    """One metric and its samples. `kind` is that of Prometheus.

    A counter's name ends with `_total`. `values` has one number for each row of labels.
    """

    name: str
    kind: str
    meaning: str
    labels: Labels
    values: Sequence[float]


@dataclass(frozen=True)
class HistogramFamily:
    """A histogram without labels: how many were at most each bound, infinity the last."""

    name: str
    meaning: str
    counts: Sequence[tuple[str, int]]
    total: float


def list_families(
    survey: Survey | None, facts: Facts, version: str
) -> Iterator[Family | HistogramFamily]:
    """Yield every metric of an instance; without a data plane only the controller's."""
    yield _info("xdplb_build", "The controller.", {"abi": str(ABI_VERSION), "version": version})
    yield _gauge(
        "xdplb_dataplane_up", "Whether the data plane is in the kernel.", survey is not None
    )
    yield from _list_controller(facts)
    if survey is not None:
        yield from _list_instance(survey)
        yield from _list_services(survey.services)
        yield from _list_backends(survey.services)


def _info(name: str, meaning: str, labels: Mapping[str, str]) -> Family:
    names = sorted(labels)
    rows = [[labels[each] for each in names]]
    return Family(f"{name}_info", "gauge", meaning, Labels(names, rows), [1])


def _gauge(name: str, meaning: str, value: float) -> Family:
    return Family(name, "gauge", meaning, Labels((), [()]), [value])


def _counter(name: str, meaning: str, value: float) -> Family:
    return Family(name, "counter", meaning, Labels((), [()]), [value])


def _by(kind: str, name: str, meaning: str, label: str, values: Mapping[str, float]) -> Family:
    """A family with one label."""
    labels = Labels((label,), [(each,) for each in values])
    return Family(name, kind, meaning, labels, list(values.values()))


# --- the controller ---


def _list_controller(facts: Facts) -> Iterator[Family | HistogramFamily]:
    yield _make_histogram(
        "xdplb_reconcile_duration_seconds", "How long a pass took.", facts.durations
    )
    yield _by("counter", "xdplb_reconcile_total", "Passes.", "result", facts.passes)
    yield _by(
        "counter", "xdplb_slots_moved_total", "Slots that passes moved.", "service",
        facts.slots_moved,
    )  # fmt: skip
    yield _gauge(
        "xdplb_drift", "Differences that the last pass found and nobody had asked for.",
        facts.drift,
    )  # fmt: skip
    yield _counter("xdplb_drift_found_total", "Such differences in all passes.", facts.drift_found)
    yield _by("counter", "xdplb_health_checks_total", "Health checks.", "result", facts.checks)
    yield _gauge(
        "xdplb_health_check_lag_seconds", "How late health checks are begun.", facts.check_lag_s
    )
    yield _by(
        "counter", "xdplb_health_transitions_total", "Backends that went up or down.", "to",
        facts.transitions,
    )  # fmt: skip


def _make_histogram(name: str, meaning: str, durations: Durations) -> HistogramFamily:
    bounds = [*map(str, BOUNDS_S), "+Inf"]
    counts = accumulate(durations.counts)
    return HistogramFamily(name, meaning, list(zip(bounds, counts, strict=True)), durations.total_s)


# --- the instance ---


def _list_instance(survey: Survey) -> Iterator[Family]:
    yield _gauge("xdplb_generation", "Number of the applied state.", survey.generation)
    yield from _list_configs(survey.controller.account)
    yield from _list_conditions(survey)
    yield _info(
        "xdplb_ring_fingerprint", "Balancers that show the same choose alike.",
        {"fingerprint": survey.ring_fingerprint},
    )  # fmt: skip
    attachments = survey.interfaces.items()
    labels = Labels(("interface", "mode"), [(name, one.mode.value) for name, one in attachments])
    yield Family(
        "xdplb_interface_attached", "gauge", "Whether the program is on an interface.",
        labels, [one.ifindex != 0 for _, one in attachments],
    )  # fmt: skip
    yield _by(
        "counter", "xdplb_verdict_packets_total", "Packets, by what became of them.", "verdict",
        survey.verdicts,
    )  # fmt: skip
    yield _by(
        "counter", "xdplb_flow_events_total", "What happened to the memory of flows.", "event",
        survey.flow_events,
    )  # fmt: skip
    fills = survey.fills
    entries = {name: fill.entries for name, fill in fills.items()}
    capacities = {name: fill.capacity for name, fill in fills.items()}
    yield _by("gauge", "xdplb_map_entries", "Entries of a map in use.", "map", entries)
    yield _by("gauge", "xdplb_map_capacity", "Entries a map has room for.", "map", capacities)
    yield _gauge("xdplb_overrides", "Overrides that are on.", len(survey.overrides))


def _list_configs(account: ControllerStatus | None) -> Iterator[Family]:
    attempts: dict[str, Attempt] = {}
    if account is not None:
        attempts = {"last_attempted": account.last_attempt}
        attempts |= {"last_good": account.last_good} if account.last_good else {}
    rows = [(one.sha256, which) for which, one in attempts.items()]
    yield Family(
        "xdplb_config_info", "gauge", "The file, by its SHA-256.",
        Labels(("digest", "which"), rows), [1] * len(rows),
    )  # fmt: skip
    yield _by(
        "gauge", "xdplb_config_timestamp_seconds", "When it was attempted, since the epoch.",
        "which", {which: one.at for which, one in attempts.items()},
    )  # fmt: skip
    is_success = account is not None and account.last_attempt.result in _SUCCESSES
    yield _gauge(
        "xdplb_config_last_attempt_successful", "Whether the kernel follows the file.", is_success
    )


def _list_conditions(survey: Survey) -> Iterator[Family]:
    conditions = survey.controller.conditions if survey.controller.pid is not None else ()
    yield _by(
        "gauge", "xdplb_condition", "Whether a condition is met.", "type",
        {one.type: one.status for one in conditions},
    )  # fmt: skip
    yield _by(
        "gauge", "xdplb_condition_since_timestamp_seconds",
        "Since when it has been met, or not, since the epoch.", "type",
        {one.type: one.since for one in conditions},
    )  # fmt: skip


# --- services and backends ---


def _list_services(services: Sequence[SurveyedService]) -> Iterator[Family]:
    rows = [
        (
            service.forwarding.name.lower() if service.forwarding else "",
            str(vip.port),
            vip.protocol.name.lower(),
            service.name,
            str(vip.address),
        )
        for service in services
        for vip in service.endpoints
    ]
    labels = Labels(("forwarding", "port", "protocol", "service", "vip"), rows)
    yield Family("xdplb_service_info", "gauge", "A VIP of a service.", labels, [1] * len(rows))
    yield _by(
        "gauge", "xdplb_ring_slots", "Slots of a service that lead to a backend.", "service",
        {service.name: service.ring_size for service in services},
    )  # fmt: skip
    rings = [(one.ring_fingerprint, one.name) for one in services if one.ring_fingerprint]
    yield Family(
        "xdplb_service_ring_fingerprint_info", "gauge", "The fingerprint of one service.",
        Labels(("fingerprint", "service"), rings), [1] * len(rings),
    )  # fmt: skip
    yield _by(
        "gauge", "xdplb_window_seconds", "For how long moved slots remember; 0 when none moved.",
        "service", {service.name: service.remembers_for_s or 0 for service in services},
    )  # fmt: skip
    yield _by(
        "gauge", "xdplb_panic", "Whether flows go to backends that are down: too few are up.",
        "service", {service.name: service.is_panicking for service in services},
    )  # fmt: skip


_Read = Callable[[SurveyedBackend], float]

_BACKEND_COUNTERS: Mapping[str, tuple[str, _Read]] = {
    "xdplb_backend_packets_total": ("Packets to a backend.", lambda b: b.counters.packets),
    "xdplb_backend_bytes_total": ("Bytes to a backend.", lambda b: b.counters.bytes),
    "xdplb_backend_new_flows_total": ("SYNs to a backend.", lambda b: b.counters.new_flows),
    "xdplb_backend_reply_packets_total": (
        "Packets from a backend, with nat.",
        lambda b: b.counters.reply_packets,
    ),
    "xdplb_backend_reply_bytes_total": (
        "Bytes from a backend, with nat.",
        lambda b: b.counters.reply_bytes,
    ),
}
_BACKEND_GAUGES: Mapping[str, tuple[str, _Read]] = {
    "xdplb_backend_slots": ("Slots that lead to a backend.", lambda b: b.slots),
    "xdplb_backend_expected_share_ratio": (
        "A backend's part of the slots, by weight.",
        lambda b: b.expected_share,
    ),
    "xdplb_backend_weight": ("A backend's weight.", lambda b: b.weight),
    "xdplb_remembered_flows": ("Open flows that are remembered.", lambda b: b.connections),
}


def _list_backends(services: Sequence[SurveyedService]) -> Iterator[Family]:
    pairs = [(service.name, backend) for service in services for backend in service.backends]
    backends = [backend for _, backend in pairs]
    labels = _label_backends(pairs)
    for kind, table in (("counter", _BACKEND_COUNTERS), ("gauge", _BACKEND_GAUGES)):
        for name, (meaning, read) in table.items():
            yield Family(name, kind, meaning, labels, list(map(read, backends)))
    states = [(one.name, service, one.state.name.lower()) for service, one in pairs]
    yield Family(
        "xdplb_backend_state", "gauge", "What is wanted of a backend: ready, drain or maint.",
        Labels(("backend", "service", "state"), states), [1] * len(states),
    )  # fmt: skip
    checked = [pair for pair in pairs if pair[1].is_up is not None]
    yield Family(
        "xdplb_backend_up", "gauge", "Whether a backend that is checked is up.",
        _label_backends(checked), [bool(one.is_up) for _, one in checked],
    )  # fmt: skip
    told = [(service, one, one.standing) for service, one in pairs if one.standing is not None]
    labels = _label_backends((service, one) for service, one, _ in told)
    yield Family(
        "xdplb_backend_transitions_total", "counter", "How often a backend went up or down.",
        labels, [standing.transitions for *_, standing in told],
    )  # fmt: skip
    yield Family(
        "xdplb_backend_up_since_timestamp_seconds", "gauge",
        "Since when it has been up, or down, since the epoch.",
        labels, [standing.since for *_, standing in told],
    )  # fmt: skip


def _label_backends(pairs: Iterable[tuple[str, SurveyedBackend]]) -> Labels:
    return Labels(("backend", "service"), [(one.name, service) for service, one in pairs])
