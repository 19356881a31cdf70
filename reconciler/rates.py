"""How fast counters grow, between two surveys of one instance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from reconciler.overrides import BackendName
from reconciler.survey import Counters, Survey, SurveyedBackend


class Rate(NamedTuple):
    """What a backend or a service gets and gives, a second."""

    packets: float = 0.0
    bits: float = 0.0
    new_flows: float = 0.0
    reply_packets: float = 0.0
    reply_bits: float = 0.0


@dataclass(frozen=True)
class Rates:
    """What happened a second, on the average of `seconds`; of those that are there now."""

    seconds: float
    services: Mapping[str, Rate]
    backends: Mapping[BackendName, Rate]
    verdicts: Mapping[str, float]

    def find_share(self, service: str, backend: str) -> float | None:
        """Return a backend's part of its service's new flows; None if there were none."""
        every = self.services[service].new_flows
        return self.backends[service, backend].new_flows / every if every else None


def compute_rates(before: Survey | None, now: Survey) -> Rates | None:
    """Return the rates between two surveys; None if no time lies between them.

    A counter that has fallen began anew: what it shows came since.
    """
    seconds = (now.now_ns - before.now_ns) / 1e9 if before else 0.0
    if before is None or seconds <= 0:
        return None
    earlier = {
        (service.name, backend.name): backend.counters
        for service in before.services
        for backend in service.backends
    }
    services, backends = {}, {}
    for service in now.services:
        rates = {
            (service.name, one.name): _compute_rate(
                earlier.get((service.name, one.name)), one, seconds
            )
            for one in service.backends
        }
        backends.update(rates)
        services[service.name] = Rate(*map(sum, zip(*rates.values(), strict=True)))
    verdicts = {
        name: _grow([before.verdicts.get(name, 0)], [count])[0] / seconds
        for name, count in now.verdicts.items()
    }
    return Rates(seconds, services, backends, verdicts)


def _compute_rate(before: Counters | None, now: SurveyedBackend, seconds: float) -> Rate:
    grown = Counters(*_grow(before or Counters(0, 0, 0, 0, 0), now.counters))
    return Rate(
        grown.packets / seconds,
        8 * grown.bytes / seconds,
        grown.new_flows / seconds,
        grown.reply_packets / seconds,
        8 * grown.reply_bytes / seconds,
    )


def _grow(before: list[int] | Counters, now: list[int] | Counters) -> list[int]:
    """By how much counters that begin anew together have grown."""
    pairs = list(zip(before, now, strict=True))
    if any(new < old for old, new in pairs):
        return list(now)
    return [new - old for old, new in pairs]
