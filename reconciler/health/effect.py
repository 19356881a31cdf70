"""What health does to a configuration: who gets less of the flows, or none.

Nothing here reads a clock; times are in seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from reconciler.health.standing import Standing
from reconciler.maglev import MAX_WEIGHT
from reconciler.model import DOWN_PERCENT, Backend, BackendState, Config, Service
from reconciler.overrides import BackendName

# A backend that starts slowly gets its weight in so many parts.
RAMP_STEPS = 10


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the checks ask for now.

    `withheld` says of backends how many percent of their weight are withheld, if any;
    `panics` are the services where too few are up, so that nothing is withheld there.
    `down` are all that are, there too, of the `checked` that are to be checked. `next_step` is
    when a backend that starts slowly gets its next part, if one does.
    """

    withheld: Mapping[BackendName, int] = field(default_factory=dict)
    panics: frozenset[str] = frozenset()
    down: frozenset[BackendName] = frozenset()
    checked: int = 0
    next_step: float | None = field(default=None, compare=False)


NO_JUDGEMENT = Judgement()
"""That of backends that nobody checks."""


def judge_services(
    config: Config, standings: Mapping[BackendName, Standing], now: float
) -> Judgement:
    """Return what these standings ask for; a backend without one counts as up.

    A service of whose ready backends fewer than `safety.min_up_percent` are up panics: the
    checks are then more likely at fault than the backends, and nothing is withheld.
    """
    checked = [service for service in config.services if service.health]
    withheld: dict[BackendName, int] = {}
    panics, steps = set(), []
    for service in checked:
        if _is_panicking(service, standings, config.safety.min_up_percent):
            panics.add(service.name)
            continue
        for name, standing in _list_standings(service, standings):
            percent, next_step = _measure_withheld(standing, service.slow_start_s, now)
            if percent:
                withheld[name] = percent
            if next_step is not None:
                steps.append(next_step)
    found = [each for service in checked for each in _list_standings(service, standings)]
    return Judgement(
        withheld,
        frozenset(panics),
        frozenset(name for name, standing in found if not standing.is_up),
        sum(len(service.backends) for service in checked),
        min(steps, default=None),
    )


def _list_standings(
    service: Service, standings: Mapping[BackendName, Standing]
) -> list[tuple[BackendName, Standing]]:
    names = [(service.name, backend.name) for backend in service.backends]
    return [(name, standings[name]) for name in names if name in standings]


def _is_panicking(
    service: Service, standings: Mapping[BackendName, Standing], min_up_percent: int
) -> bool:
    ready = [(service.name, backend.name) for backend in service.backends if is_taking(backend)]
    up = [name for name in ready if name not in standings or standings[name].is_up]
    return 100 * len(up) < min_up_percent * len(ready)


def _measure_withheld(
    standing: Standing, slow_start_s: float, now: float
) -> tuple[int, float | None]:
    """How many percent of the weight are withheld, and when there are fewer."""
    if not standing.is_up:
        return DOWN_PERCENT, None
    if not standing.transitions or not slow_start_s:
        return 0, None
    step_s = slow_start_s / RAMP_STEPS
    done = int(max(now - standing.since, 0.0) / step_s) + 1  # the first part comes at once
    if done >= RAMP_STEPS:
        return 0, None
    return 100 - 100 * done // RAMP_STEPS, standing.since + done * step_s


def apply_health(config: Config, judgement: Judgement) -> Config:
    """Return the configuration with what is withheld from each backend."""
    if not judgement.withheld:
        return config
    touched = {service for service, _ in judgement.withheld}

    def withhold(service: Service) -> Service:
        if service.name not in touched:
            return service
        return replace(
            service,
            backends=tuple(
                replace(b, withheld_percent=judgement.withheld.get((service.name, b.name), 0))
                for b in service.backends
            ),
        )

    return replace(config, services=tuple(map(withhold, config.services)))


def measure_weights(backends: Iterable[Backend]) -> dict[str, int]:
    """Return the weight of each backend that gets new flows, for its ring.

    While some start slowly all weights stand in the same larger unit, so that a part of
    a small one is still a whole number.
    """
    taking = [b for b in backends if is_taking(b) and not b.is_down]
    if not any(b.withheld_percent for b in taking):
        return {b.name: b.weight for b in taking}
    unit = max(min(100, MAX_WEIGHT // max(b.weight for b in taking)), 1)
    return {
        b.name: max(b.weight * unit * (DOWN_PERCENT - b.withheld_percent) // DOWN_PERCENT, 1)
        for b in taking
    }


def is_taking(backend: Backend) -> bool:
    """Whether the file, and who overrides it, would have it take new flows."""
    return backend.state is BackendState.READY and backend.weight > 0
