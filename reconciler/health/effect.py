"""What health does to a configuration: who gets less of the flows, or none.

Nothing here reads a clock; times are in seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from reconciler.maglev import MAX_WEIGHT
from reconciler.model import DOWN_PERCENT, Backend, BackendState, Config, Service
from reconciler.overrides import BackendName


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the checks ask for now.

    `withheld` says of backends how many percent of their weight are withheld, if any;
    `panics` are the services where too few are up, so that nothing is withheld there.
    `down` are all that are, there too, of the `checked` that are checked.
    """

    withheld: Mapping[BackendName, int] = field(default_factory=dict)
    panics: Collection[str] = ()
    down: Collection[BackendName] = ()
    checked: int = 0


NO_JUDGEMENT = Judgement()
"""That of backends that nobody checks."""


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
