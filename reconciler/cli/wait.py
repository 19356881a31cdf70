"""`xdplb wait`: return when a backend is drained or ready, or the kernel follows the file."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from reconciler.cli import options
from reconciler.cli.backends import (
    PLACE,
    Sighting,
    parse_backend,
    require_instance,
    see_backend,
)
from reconciler.cli.color import make_console
from reconciler.cli.override_output import count_connections
from reconciler.cli.say import say
from reconciler.config_file import load
from reconciler.errors import Overdue
from reconciler.model import BackendState
from reconciler.override_store import OverrideStore
from reconciler.overrides import BackendName
from reconciler.resources import find_ids

if TYPE_CHECKING:
    from reconciler.instance import Instance

FORMAT_VERSION = "1.0"
_POLL_S = 0.5
_SHAPES = f"drained={PLACE}, ready={PLACE} or synced"


class Condition(Protocol):
    """What is waited for."""

    @property
    def lacks(self) -> str:
        """What was missing at the last look, in words."""

    def look(self) -> bool:
        """Whether it holds now."""


@click.command()
@click.option(
    "--for",
    "what",
    required=True,
    metavar="CONDITION",
    help=f"What to wait for: {_SHAPES}.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=options.Duration(),
    default="60s",
    show_default=True,
    help="How long at most.",
)
@click.option(
    "--silence",
    "silence_s",
    type=options.Duration(),
    default="10s",
    show_default=True,
    help="How long a drained backend must have been sent nothing.",
)
@options.config_option
@options.name_option
@options.json_option
@options.pin_dir_option
@options.output_options
def wait(
    *,
    what: str,
    timeout_s: float,
    silence_s: float,
    config: str | None,
    name: str | None,
    as_json: bool,
    pin_dir: Path | None,
    quiet: bool,
    verbose: bool,  # noqa: ARG001
) -> None:
    """Wait for a condition; exit 6 if it does not come true in time.

    drained: the backend takes no new flows, no connection of it is left, and nothing has
    been sent to it for the time of --silence, in which connections that are not
    remembered yet show themselves. A backend in maint is drained as soon as nothing is
    sent to it.

    ready: it takes new flows. synced: `xdplb plan` has nothing to show.
    """
    from reconciler.instance import Instance  # noqa: PLC0415  (BCC: only where needed)

    require_shape(what)
    if what.startswith("drained") and timeout_s < silence_s:
        raise click.BadParameter("it is shorter than --silence", param_hint="--timeout")
    instance = Instance(options.choose_name(name, config, pin_dir), pin_dir)
    require_instance(instance)
    condition = parse_condition(what, instance, options.choose_path(None, config), silence_s)
    try:
        waited_s = wait_for(condition, what, timeout_s, quiet=quiet)
    except Overdue:
        if as_json:
            print_document(what, timeout_s, lacks=condition.lacks)
        raise
    if as_json:
        print_document(what, waited_s)
    elif not quiet:
        say(f"{what}: so after {waited_s:.0f} s")


def print_document(what: str, waited_s: float, lacks: str | None = None) -> None:
    """Print what came of waiting; `lacks` is what the condition lacks, None if it holds."""
    document = {
        "format_version": FORMAT_VERSION,
        "kind": "xdplb.wait",
        "condition": what,
        "holds": lacks is None,
        "waited_s": round(waited_s, 3),
        "lacks": lacks,
    }
    say(json.dumps(document, indent=2))


def require_shape(what: str) -> None:
    """See that these words can name a condition, whatever backends there are.

    Raises:
        click.BadParameter: they can't.
    """
    kind, _, backend = what.partition("=")
    if what != "synced" and not (kind in ("drained", "ready") and backend):
        raise click.BadParameter(f"{what} is no condition; write {_SHAPES}", param_hint="--for")


def parse_condition(what: str, instance: Instance, path: str, silence_s: float) -> Condition:
    """Return the condition that these words name; `require_shape` has seen them.

    Raises:
        click.BadParameter: they name a backend that is not there.
    """
    kind, _, text = what.partition("=")
    if what == "synced":
        return Synced(instance, path)
    kept = OverrideStore(instance.state_name).read()
    known = {*find_ids(instance.dataplane.read()), *(each.name for each in kept)}
    backend = parse_backend(text, known)
    if kind == "ready":
        return Ready(instance, backend)
    return DrainedBackend(instance, backend, Drained(silence_s))


def wait_for(condition: Condition, what: str, timeout_s: float, *, quiet: bool = False) -> float:
    """Return when the condition holds, and how long that took, in seconds.

    Raises:
        Overdue: it does not in time.
    """
    start = time.monotonic()
    console = make_console(stderr=True, quiet=quiet)
    with console.status(f"waiting for {what}") as line:  # a pipe sees nothing of it
        while not condition.look():
            waited_s = time.monotonic() - start
            if waited_s >= timeout_s:
                raise Overdue(f"{what}: not so after {timeout_s:g} s: {condition.lacks}")
            line.update(f"waiting for {what}: {condition.lacks}")
            time.sleep(min(_POLL_S, timeout_s - waited_s))
    return time.monotonic() - start


@dataclass
class Drained:
    """Tells from looks at a backend, one after the other, whether it is drained."""

    silence_s: float
    lacks: str = ""
    _packets: int | None = None  # None: not looked yet
    _silent_since: float = 0.0

    def add(self, seen: Sighting | None, now_s: float) -> bool:
        """Take note of a look; return whether the backend is drained.

        `now_s` is on a clock that only goes forward. A backend that is not there is drained.
        """
        if seen is None:
            return True
        is_first = self._packets is None
        if seen.packets != self._packets or seen.state is BackendState.READY:
            self._packets, self._silent_since = seen.packets, now_s
        if seen.state is BackendState.READY:
            self.lacks = "it is ready: xdplb drain takes it out"
            return False
        if seen.state is BackendState.MAINT:
            self.lacks = "packets are sent to it"
            return not is_first and self._silent_since < now_s
        silent_s = now_s - self._silent_since
        self.lacks = f"{count_connections(seen.connections)} left"
        if silent_s < self.silence_s:
            self.lacks += f", silent for {silent_s:.0f} of {self.silence_s:g} s"
        return seen.connections == 0 and silent_s >= self.silence_s


@dataclass
class DrainedBackend:
    """Whether a backend is drained."""

    instance: Instance
    backend: BackendName
    drained: Drained

    @property
    def lacks(self) -> str:
        """What is missing."""
        return self.drained.lacks

    def look(self) -> bool:
        """Whether it holds now."""
        return self.drained.add(see_backend(self.instance, self.backend), time.monotonic())


@dataclass
class Ready:
    """Whether a backend takes new flows."""

    instance: Instance
    backend: BackendName
    lacks: str = ""

    def look(self) -> bool:
        """Whether it holds now."""
        seen = see_backend(self.instance, self.backend)
        if seen is None:
            self.lacks = "it is not there"
            return False
        self.lacks = f"it is in {seen.state.name.lower()}, with {seen.slots} slots"
        return seen.state is BackendState.READY and seen.slots > 0


@dataclass
class Synced:
    """Whether the kernel does what the file says, and the overrides."""

    instance: Instance
    path: str
    lacks: str = ""

    def look(self) -> bool:
        """Whether it holds now."""
        proposal = self.instance.propose(load(self.path).config)
        self.lacks = f"the plan has {len(proposal.changes)} changes"
        return proposal.is_in_sync
