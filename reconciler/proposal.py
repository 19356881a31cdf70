"""A proposal: a plan together with what it means to people.

`propose` is what `plan` prints and what every reconcile pass does: desired
against observed, in operations for the data plane and in changes for the reader.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconciler.advice import find_advice
from reconciler.desired import LastPass, compile_tables
from reconciler.diagnostics import Diagnostic
from reconciler.environment import Environment
from reconciler.guard import find_objection_to_file
from reconciler.health.effect import NO_JUDGEMENT, Judgement, apply_health
from reconciler.maglev import least_moved, slots_moved
from reconciler.memory import Occupancy
from reconciler.model import Config, Source, digest_meaning
from reconciler.overrides import Overrides, apply_overrides, choose_reason
from reconciler.plan import Drop, Plan, Put, diff
from reconciler.resources import (
    Resources,
    backend_address,
    changed_attributes,
    count_slots,
    list_resources,
)
from reconciler.tables import Meta, Tables, ring_extents, unpack_slots
from reconciler.touched import focus


@dataclass(frozen=True)
class Change:
    """One resource that a plan creates, updates or deletes.

    `before` and `after` hold the attributes that differ, all of them where the
    resource comes or goes. `slots` is (before, after) for a backend.
    """

    address: str
    action: str
    reason: str
    before: dict[str, Any]
    after: dict[str, Any]
    slots: tuple[int, int] | None = None
    source: Source | None = None


@dataclass(frozen=True)
class RingChange:
    """How many slots of a service's ring change hands, and the least that could."""

    service: str
    size: int
    slots_moved: int
    slots_moved_min: int


@dataclass(frozen=True)
class Proposal:
    """What should be, how to get there, and what that changes.

    Operations without changes are the controller's own upkeep: slots whose window
    is over, what an interface can do. They need no one's consent. `config` is what
    the file says; `desired` is under the `overrides` that are in force and the backends'
    health as well.
    """

    config: Config
    desired: Tables
    observed: Tables
    operations: Plan
    changes: tuple[Change, ...]
    rings: tuple[RingChange, ...]
    objection: str | None
    advice: tuple[Diagnostic, ...] = ()
    overrides: Overrides = ()
    judgement: Judgement = NO_JUDGEMENT

    @property
    def is_in_sync(self) -> bool:
        """Whether the kernel does what the file says."""
        return not self.changes


def propose(
    config: Config,
    environment: Environment,
    observed: Tables,
    *,
    now_ns: int,
    last_pass: LastPass | None = None,
    occupancy: Occupancy | None = None,
    overrides: Overrides = (),
    judgement: Judgement = NO_JUDGEMENT,
) -> Proposal:
    """Compare what `config` asks for with what is observed; see `compile_tables`.

    `overrides` are those in force, `judgement` is what the backends' health asks for.

    Raises:
        Unavailable: as `compile_tables`.
    """
    asked = apply_health(apply_overrides(config, overrides), judgement)
    desired = compile_tables(
        asked, environment, observed, now_ns=now_ns, last_pass=last_pass, occupancy=occupancy
    )
    before, after = map(_View.of, focus(observed, desired))
    meaning_sha256 = digest_meaning(config)
    because = _Reasons(
        {backend_address(*each.name) for each in overrides},
        is_file_applied=observed.meaning_sha256 == meaning_sha256,
    )
    ring_changes = tuple(_compare_rings(before, after, _list_sizes(desired)))
    touched = {*before.targets, *after.targets}
    changes = tuple(_compare_resources(before, after, because, _sources(config, touched)))
    if not changes:
        changes = tuple(_compare_rows(desired, observed, ring_changes))
    # The meaning alone may differ: of what the tables don't hold, or because an apply
    # was cut off before its last write.
    if changes or observed.meaning_sha256 != meaning_sha256:
        meta = Meta(
            observed.generation + 1, config.sha256, meaning_sha256, environment.program_sha256
        )
        desired = replace(desired, meta={0: meta})
    return Proposal(
        config,
        desired,
        observed,
        diff(desired, observed),
        changes,
        ring_changes,
        _find_objection(config, before, after, because, changes) if changes else None,
        find_advice(config, environment, observed),
        overrides,
        judgement,
    )


@dataclass(frozen=True)
class _Reasons:
    """Why resources change; `overridden` are the addresses under an override."""

    overridden: Collection[str]
    is_file_applied: bool

    def choose(self, address: str, keys: Collection[str] = ()) -> str:
        return choose_reason(
            keys,
            is_overridden=address in self.overridden,
            is_file_applied=self.is_file_applied,
        )


def _find_objection(
    config: Config, before: _View, after: _View, because: _Reasons, changes: tuple[Change, ...]
) -> str | None:
    ended = {change.address for change in changes if change.reason == "override"}
    overridden = {*because.overridden, *ended}
    return find_objection_to_file(config.safety, after.resources, before.resources, overridden)


@dataclass(frozen=True)
class _View:
    """Tables as changes are told of them, made once a side."""

    resources: Resources
    slots: dict[str, dict[str, int]]
    targets: dict[str, NDArray[np.uint16]]

    @classmethod
    def of(cls, tables: Tables) -> _View:
        return cls(list_resources(tables), count_slots(tables), _ring_targets(tables))


def _compare_resources(
    before: _View, after: _View, because: _Reasons, sources: dict[str, Source | None]
) -> Iterator[Change]:
    for address in sorted({*before.resources, *after.resources}):
        change = _compare_resource(address, before.resources, after.resources, because)
        if change:
            slots = _backend_slots(address, before.slots, after.slots)
            yield replace(change, slots=slots, source=sources.get(address))


def _compare_resource(
    address: str, before: Resources, after: Resources, because: _Reasons
) -> Change | None:
    old, new = before.get(address), after.get(address)
    if old == new:
        return None
    if old is None or new is None:
        action = "create" if old is None else "delete"
        return Change(address, action, because.choose(address), dict(old or {}), dict(new or {}))
    keys = changed_attributes(old, new)
    # A new program is brought by a new controller.
    reason = "config" if keys == ["program"] else because.choose(address, keys)
    return Change(
        address, "update", reason, {k: old.get(k) for k in keys}, {k: new.get(k) for k in keys}
    )


def _compare_rows(
    desired: Tables, observed: Tables, rings: tuple[RingChange, ...]
) -> Iterator[Change]:
    """Rows that differ though every resource agrees: somebody wrote to the maps."""
    for ring in rings:
        if ring.slots_moved:
            moved = {"slots_moved": ring.slots_moved}
            yield Change(f"service.{ring.service}.ring", "update", "drift", moved, {})
    for operation in diff(desired, observed):
        if isinstance(operation, (Put, Drop)) and operation.table in ("nat_replies", "services"):
            if _is_leaving(operation, observed):
                continue
            address = f"{operation.table}.{operation.key.address}:{operation.key.port}"
            is_drop = isinstance(operation, Drop)
            action = "delete" if is_drop else "create"
            if not is_drop and operation.key in observed.rows(operation.table):
                action = "update"
            yield Change(address, action, "drift", {}, {})


def _is_leaving(operation: Put | Drop, observed: Tables) -> bool:
    """Whether it is the reply row of a backend whose time is over."""
    row = observed.nat_replies.get(operation.key)
    info = observed.backend_info.get(row.backend) if row else None
    return info is not None and info.leaves_ns != 0


def _backend_slots(
    address: str, before: dict[str, dict[str, int]], after: dict[str, dict[str, int]]
) -> tuple[int, int] | None:
    parts = address.split(".", 3)
    if len(parts) != 4 or parts[2] != "backend":
        return None
    service, backend = parts[1], parts[3]
    return before.get(service, {}).get(backend, 0), after.get(service, {}).get(backend, 0)


def _sources(config: Config, touched: Collection[str]) -> dict[str, Source | None]:
    """Where services and their backends stand in the file, by address."""
    sources: dict[str, Source | None] = {}
    for service in config.services:
        if service.name not in touched:
            continue
        sources[f"service.{service.name}"] = service.source
        for backend in service.backends:
            sources[backend_address(service.name, backend.name)] = backend.source
    return sources


def _list_sizes(tables: Tables) -> dict[str, int]:
    """The slots of each service's ring, by its name."""
    infos, extents = tables.service_info, ring_extents(tables)
    return {infos[i].name: e.stop - e.start for i, e in extents.items() if i in infos}


def _compare_rings(before: _View, after: _View, sizes: Mapping[str, int]) -> Iterator[RingChange]:
    for service, size in sorted(sizes.items()):
        old, new = before.targets.get(service), after.targets.get(service)
        if old is None or new is None:  # it is new, or nothing of it is another
            yield RingChange(service, size, 0, 0)
        elif len(old) != size:
            yield RingChange(service, size, size, size)
        else:
            held, wanted = before.slots[service], after.slots[service]
            nobody = {"": size - sum(held.values())}
            left = {"": size - sum(wanted.values())}
            least = least_moved(held | nobody, wanted | left)
            yield RingChange(service, size, slots_moved(old, new), least)


def _ring_targets(tables: Tables) -> dict[str, NDArray[np.uint16]]:
    return {
        tables.service_info[number].name: unpack_slots(tables.slots[extent])[0]
        for number, extent in ring_extents(tables).items()
        if number in tables.service_info
    }
