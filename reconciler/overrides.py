"""Overrides: what an operator wants of a backend for now, whatever the file says.

The file stays the truth: an override has an owner and perhaps an end, and when it
is over the file decides again. Nothing here reads a clock; times are in seconds
since the epoch.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TypeAlias

from reconciler.errors import Unavailable
from reconciler.model import Backend, BackendState, Config, Service

BackendName: TypeAlias = tuple[str, str]
"""A service's name and the name of one of its backends."""


@dataclass(frozen=True, slots=True)
class Override:
    """The administrative state of one backend, from `since` until `until` or for good."""

    service: str
    backend: str
    state: BackendState
    owner: str
    reason: str
    since: float
    until: float | None

    @property
    def name(self) -> BackendName:
        """Whose state it is."""
        return self.service, self.backend


Overrides: TypeAlias = tuple[Override, ...]
"""At most one a backend, sorted by its name."""


def put_override(overrides: Overrides, override: Override) -> Overrides:
    """Return the overrides with this one, instead of another of its backend."""
    others = drop_override(overrides, override.name)
    return tuple(sorted((*others, override), key=lambda each: each.name))


def ask_for(overrides: Overrides, override: Override, config: Config | None) -> Overrides:
    """Return the overrides after a command asked for this one.

    Where the file says the same anyway, none is needed: what there was is taken away.
    `config` is None if nobody knows what the file says.

    Raises:
        Unavailable: the file does not have the backend; only `ready`, which takes an
            override away, is of use there. Or its weight is 0, and ready means nothing.
    """
    if config is None:
        return put_override(overrides, override)
    backend = list_backends(config).get(override.name)
    is_ready = override.state is BackendState.READY
    if (backend is None and is_ready) or (backend and backend.state is override.state):
        return drop_override(overrides, override.name)
    where = f"backend {override.backend} of service {override.service}"
    if backend is None:
        raise Unavailable(f"{config.path} does not have {where}", remedy="it takes no new flows")
    if is_ready and backend.weight == 0:
        raise Unavailable(f"{where} has weight 0 in {config.path}", remedy="give it a weight there")
    return put_override(overrides, override)


def drop_override(overrides: Overrides, name: BackendName) -> Overrides:
    """Return the overrides without that of a backend, if it has one."""
    return tuple(each for each in overrides if each.name != name)


def find_override(overrides: Overrides, name: BackendName) -> Override | None:
    """Return the override of a backend, if it has one."""
    return next((each for each in overrides if each.name == name), None)


def find_in_force(overrides: Overrides, now: float) -> Overrides:
    """Return those whose time is not over."""
    return tuple(each for each in overrides if each.until is None or now < each.until)


def find_next_end(overrides: Overrides) -> float | None:
    """Return when the first of these ends; None if none does."""
    return min((each.until for each in overrides if each.until is not None), default=None)


def apply_overrides(config: Config, overrides: Overrides) -> Config:
    """Return the configuration with the backends in the states that are in force.

    Overrides of backends that the file does not have change nothing; `find_strays`
    names them.
    """
    states = {each.name: each.state for each in overrides}
    touched = {service for service, _ in states}

    def override(service: Service) -> Service:
        if service.name not in touched:
            return service
        return replace(
            service,
            backends=tuple(
                replace(backend, state=states.get((service.name, backend.name), backend.state))
                for backend in service.backends
            ),
        )

    return replace(config, services=tuple(map(override, config.services)))


def find_strays(overrides: Overrides, known: Collection[BackendName]) -> Overrides:
    """Return the overrides that are of none of these backends."""
    return tuple(each for each in overrides if each.name not in known)


def list_backends(config: Config) -> dict[BackendName, Backend]:
    """Return every backend of the file, by service and name."""
    return {(s.name, b.name): b for s in config.services for b in s.backends}


def choose_reason(keys: Collection[str], *, is_overridden: bool, is_file_applied: bool) -> str:
    """Return why a resource changes: `health`, `override`, `drift` or `config`.

    What its health changes nobody else does. A backend's state changes because an override
    is on. Where none is, and the file means what was applied, the file has not changed the
    state either: an override has ended.

    Args:
        keys: the attributes that an update changes; none where a resource comes or goes.
        is_overridden: whether an override of the resource is in force.
        is_file_applied: whether the file means what was applied last.
    """
    if set(keys) == {"health"}:
        return "health"
    if "state" in keys and (is_overridden or is_file_applied):
        return "override"
    return "drift" if is_file_applied else "config"
