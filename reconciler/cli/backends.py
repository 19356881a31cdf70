"""SERVICE/BACKEND on a command line, and what the kernel holds of it."""

from __future__ import annotations

import difflib
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.dataplane.pins import list_instances
from reconciler.errors import Unavailable
from reconciler.model import BackendState
from reconciler.overrides import BackendName
from reconciler.privileges import require_privileges
from reconciler.resources import count_slots, find_ids

if TYPE_CHECKING:
    from reconciler.instance import Instance
    from reconciler.survey import Survey
    from reconciler.surveyor import Surveyor

PLACE = "SERVICE/BACKEND"
_START = "start one with xdplb-reconcile"


@dataclass(frozen=True)
class Sighting:
    """A backend as the kernel holds it at one moment.

    `connections` are the open ones that are remembered, `packets` those sent to it
    since it came.
    """

    state: BackendState
    slots: int
    connections: int
    packets: int
    generation: int


def parse_backend(text: str, known: Collection[BackendName]) -> BackendName:
    """Return the backend that is meant; the service may be left out where there is one.

    Raises:
        click.BadParameter: there is no such backend among the known ones.
    """
    services = sorted({service for service, _ in known})
    service, slash, backend = text.partition("/")
    if not slash and len(services) == 1:
        service, backend = services[0], text
    elif not slash:
        raise click.BadParameter(
            f"{text} names no service; write for example {services[0]}/{text}"
            if services
            else "there is no service",
            param_hint=PLACE,
        )
    if service not in services:
        raise click.BadParameter(
            f"there is no service {service}; {_suggest(service, services)}", param_hint=PLACE
        )
    backends = sorted(name for owner, name in known if owner == service)
    if backend not in backends:
        raise click.BadParameter(
            f"service {service} has no backend {backend}; {_suggest(backend, backends)}",
            param_hint=PLACE,
        )
    return service, backend


def _suggest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}?" if close else f"there is: {', '.join(known)}"


def require_instance(instance: Instance) -> None:
    """See that the instance has been applied.

    Raises:
        Unavailable: it has not.
    """
    if not instance.exists():
        raise refuse_absent(instance.name, instance.root, _START)


def make_surveyor(name: str, pin_dir: Path | None) -> Surveyor:
    """Return what surveys an instance.

    Raises:
        NoPermission: this process may not look into the kernel.
    """
    from reconciler.surveyor import Surveyor  # noqa: PLC0415  (BCC: only where needed)

    require_privileges()
    return Surveyor(name, pin_dir)


def refuse_absent(name: str, root: Path, otherwise: str) -> Unavailable:
    """Return that there is no such instance; `otherwise` is what to do if there is no other.

    The one that runs may have another name than the file, which was edited meanwhile.
    """
    there = list_instances(root)
    shown = ", ".join(f"{each} (-n {each})" for each in there)
    return Unavailable(
        f"there is no instance {name} under {root}",
        remedy=f"there is {shown}" if there else otherwise,
    )


def take_survey(surveyor: Surveyor) -> Survey:
    """Return what the instance is like now.

    Raises:
        NoPermission: this process may not look into the kernel.
        Unavailable: there is no such instance, or no more.
    """
    survey = surveyor.take()
    if survey is None:
        raise refuse_absent(surveyor.name, surveyor.folder.parent, _START)
    return survey


def see_backend(instance: Instance, name: BackendName) -> Sighting | None:
    """Return what the kernel holds of a backend; None if it is not there."""
    tables = instance.dataplane.read()
    number = find_ids(tables).get(name)
    if number is None:
        return None
    flows = instance.dataplane.count_flows(tables, time.monotonic_ns())
    return Sighting(
        state=tables.backends[number].state,
        slots=count_slots(tables).get(name[0], {}).get(name[1], 0),
        connections=int(flows[number]),
        packets=int(instance.dataplane.read_counters("backend_stats")[number]["packets"]),
        generation=tables.generation,
    )
