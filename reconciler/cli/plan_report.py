"""A plan as it is reported: the proposal, and everything to be said of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from reconciler.diagnostics import Diagnostic
from reconciler.disruption import (
    BREAKS_CONNECTIONS,
    Disruption,
    FlowCounts,
    find_disruptions,
)
from reconciler.errors import Blocked
from reconciler.model import Config, Protocol, Source
from reconciler.proposal import Change, Proposal

# Backends that one line names; the others are counted.
_NAMED = 3


@dataclass(frozen=True)
class PlanReport:
    """What a plan would do and what speaks against it.

    `against` is the file that it was compared with, if not with the kernel; then
    `controller` says what else differs, which no table holds, and `stand_ins` what addresses
    are called that stand in for a machine's own.
    `warnings` are about the file and the machine. `remembered` counts the flows that
    the kernel remembers, by backend id; None if nobody has looked. `is_allowed` says that
    what the guard objects to is meant.
    """

    proposal: Proposal
    warnings: tuple[Diagnostic, ...] = ()
    remembered: FlowCounts | None = None
    against: Config | None = None
    controller: tuple[str, ...] = ()
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    is_allowed: bool = False

    @property
    def is_blocked(self) -> bool:
        """Whether the guard refuses it."""
        return self.proposal.objection is not None and not self.is_allowed

    @property
    def is_same(self) -> bool:
        """Whether the file means in everything what the one means that it was compared with."""
        return self.against == self.proposal.config

    @cached_property
    def disruptions(self) -> tuple[Disruption, ...]:
        """What becomes of established connections."""
        if self.proposal.is_in_sync:
            return ()
        found = find_disruptions(self.proposal.desired, self.proposal.observed, self.remembered)
        return tuple(replace(one, causes=tuple(map(self._name, one.causes))) for one in found)

    @cached_property
    def changes(self) -> tuple[Change, ...]:
        """The proposal's, with own addresses by name."""
        return tuple(
            replace(one, before=self._name_vips(one.before), after=self._name_vips(one.after))
            for one in self.proposal.changes
        )

    def _name_vips(self, attributes: dict[str, Any]) -> dict[str, Any]:
        vips = attributes.get("vips")
        return attributes | {"vips": list(map(self._name, vips))} if vips else attributes

    def _name(self, words: str) -> str:
        return re.sub(r"[\d.:a-f]+", lambda m: self.stand_ins.get(m[0], m[0]), words)

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Every warning and objection, in one form."""
        return (*self.warnings, *self._find_objections())

    def _find_objections(self) -> Iterator[Diagnostic]:
        for one in self.disruptions:
            if one.broken_share and one.protocol is Protocol.TCP:
                yield Diagnostic(
                    BREAKS_CONNECTIONS, "warning", describe_disruption(one), self._source(one)
                )
        if self.proposal.objection:
            hint = "if that is what you want: --allow-large-change"
            yield (
                Diagnostic(Blocked.code, "error", self.proposal.objection, hint=hint)
                if self.is_blocked
                else Diagnostic(Blocked.code, "warning", self.proposal.objection)
            )

    def _source(self, disruption: Disruption) -> Source | None:
        named = {service.name: service.source for service in self.proposal.config.services}
        return named.get(disruption.service)


def describe_disruption(one: Disruption) -> str:
    """Return what becomes of a service's established flows, in words."""
    what, harm, none = "connections", "broken", "none broken"
    if one.protocol is Protocol.UDP:
        what, harm, none = "flows", "get another backend", "none gets another backend"
    parts = [f"{_describe_share(one.broken_share)} {harm}: {', '.join(one.causes)}"]
    if not one.broken_share:
        parts = [none]
    parts += _describe_endings(one)
    return f"{what} of {one.service}: {'; '.join(parts)}"


def _describe_share(share: float) -> str:
    return "all" if share == 1 else f"about {100 * share:.1f} %"


def _describe_endings(one: Disruption) -> Iterator[str]:
    for within_s in sorted({e.within_s or 0.0 for e in one.endings}):
        backends = [e for e in one.endings if (e.within_s or 0.0) == within_s]
        names = ", ".join(e.backend for e in backends[:_NAMED])
        if len(backends) > _NAMED:
            names += f" and {len(backends) - _NAMED} more"
        known = sum(e.remembered or 0 for e in backends)
        count = f" (at least {known})" if known else ""
        how_long = f"have {format_duration(within_s)} to end" if within_s else "stay until they end"
        yield f"those on {names}{count} {how_long}"


def format_duration(duration_s: float) -> str:
    """Return seconds as lb.yaml has them: `5m`, `90s`, `1.5s`."""
    for unit_s, unit in ((3600, "h"), (60, "m")):
        if duration_s >= unit_s and duration_s % unit_s == 0:
            return f"{duration_s / unit_s:g}{unit}"
    return f"{duration_s:g}s"
