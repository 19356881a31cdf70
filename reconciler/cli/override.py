"""What `xdplb drain`, `maint` and `ready` have in common: one override, put on now.

If a controller runs, it is told by the store and awaited; if none does, the command
makes the pass itself, under the same lock.
"""

from __future__ import annotations

import json
import os
import pwd
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from reconciler.account import leave_account
from reconciler.cli import options
from reconciler.cli.backends import (
    PLACE,
    Sighting,
    parse_backend,
    require_instance,
    see_backend,
)
from reconciler.cli.candidates import offer_backends
from reconciler.cli.override_output import describe_override
from reconciler.cli.say import say
from reconciler.config_file import Loaded, load
from reconciler.errors import Blocked, Locked, Overdue, XdplbError
from reconciler.guard import find_override_objection
from reconciler.model import BackendState, Config
from reconciler.override_store import OverrideStore, override_to_json
from reconciler.overrides import (
    BackendName,
    Override,
    Overrides,
    apply_overrides,
    ask_for,
    find_override,
    list_backends,
)
from reconciler.resources import list_staying

if TYPE_CHECKING:
    from reconciler.instance import Instance

FORMAT_VERSION = "1.0"
_POLL_S = 0.05
_SHORTEST_S = 1.0


def _require_time(
    _ctx: click.Context, _param: click.Parameter, value: float | None
) -> float | None:
    """A controller looks for overrides in turns: it would not see one that is over at once."""
    if value is not None and value < _SHORTEST_S:
        raise click.BadParameter(f"it would be over at once; at least {_SHORTEST_S:g} s")
    return value


def make_command(state: BackendState, help_text: str) -> click.Command:
    """Return the command that asks for a state."""

    @click.command(name=state.name.lower(), help=help_text)
    @click.argument("backend", metavar=PLACE, shell_complete=offer_backends)
    @click.option(
        "--for",
        "for_s",
        type=options.Duration(),
        metavar="DURATION",
        callback=_require_time,
        help="When it is to end, such as 30m. [default: when it is taken away]",
    )
    @click.option("--reason", default="", metavar="TEXT", help="Why, for others to see.")
    @options.allow_large_option
    @click.option(
        "--timeout",
        "timeout_s",
        type=options.Duration(),
        default="10s",
        show_default=True,
        help="How long to wait for a running controller to put it on.",
    )
    @options.config_option
    @options.name_option
    @options.json_option
    @options.pin_dir_option
    @options.output_options
    def command(**flags: Any) -> None:
        give_override(state, flags)

    return command


@dataclass(frozen=True)
class Given:
    """What came of an override: what is kept of it, and the backend before and after.

    `override` is None where the file decides, a sighting where the backend is not there.
    `is_alone` is whether no controller runs, to end it.
    """

    override: Override | None
    before: Sighting | None
    after: Sighting | None
    is_alone: bool


def give_override(state: BackendState, flags: dict[str, Any]) -> None:
    """Do what the command line asks for, and print what came of it."""
    from reconciler.instance import Instance  # noqa: PLC0415  (BCC: only where needed)

    path = options.choose_path(None, flags["config"])
    name = options.choose_name(flags["name"], flags["config"], flags["pin_dir"])
    instance = Instance(name, flags["pin_dir"])
    require_instance(instance)
    store = OverrideStore(instance.state_name)
    known = {*list_staying(instance.dataplane.read()), *(each.name for each in store.read())}
    override = make_override(state, parse_backend(flags["backend"], known), flags)
    is_forced = flags["allow_large_change"]
    given = _Giver(instance, store, override, path, is_forced=is_forced).give(flags["timeout_s"])
    if flags["as_json"]:
        say(json.dumps(to_json(override.name, given), indent=2))
    elif not flags["quiet"]:
        say(render(override.name, given, path))


def make_override(state: BackendState, name: BackendName, flags: dict[str, Any]) -> Override:
    """Return the override that the command line asks for, from now on."""
    now = time.time()
    until = now + flags["for_s"] if flags["for_s"] else None
    reason = "".join(c if c.isprintable() else " " for c in flags["reason"]).strip()
    return Override(*name, state, find_owner(), reason, now, until)


def find_owner() -> str:
    """Return who gives the command: the user behind sudo, if root came that way."""
    try:
        return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a user without a name, as in containers
        return f"uid {os.getuid()}"


def load_file(path: str, name: str) -> Loaded:
    """Return the configuration of an instance.

    Raises:
        NoInput: there is no such file.
        ConfigInvalid: it is not valid.
        XdplbError: it is of another instance.
    """
    loaded = load(path)
    if loaded.config.name != name:
        raise XdplbError(
            f"{path} is of instance {loaded.config.name}, not of {name}",
            remedy="name the file of that one: -c FILE",
        )
    return loaded


class _Giver:
    """Gives one override to an instance.

    Its file says what the safety limits are, and what an override differs from. While
    it can't be read a running controller goes on with the last good one, and takes
    overrides too.
    """

    def __init__(
        self,
        instance: Instance,
        store: OverrideStore,
        override: Override,
        path: str,
        *,
        is_forced: bool,
    ) -> None:
        self.instance, self.store, self.override = instance, store, override
        self.path, self.is_forced = path, is_forced
        self.kept: Overrides | None = None  # None: nothing has been written yet
        self.loaded: Loaded | None = None
        try:
            self.loaded = load_file(path, instance.name)
        except XdplbError as error:
            self.problem = error
            if override.state is not BackendState.READY and not is_forced:
                error.remedy = "mend it, or go without its safety limits: --allow-large-change"
                raise

    def give(self, timeout_s: float) -> Given:
        """Write the override, and return when the kernel does what it says.

        Raises:
            Blocked: a safety limit refuses it; nothing was written.
            Overdue: the controller has not put it on in time; it is kept.
            XdplbError: the file is not what was applied, or as `Instance.reconcile`.
        """
        before = self._see()
        is_alone = self._pass_alone()
        if not is_alone:
            self.kept = self.store.change(self._edit, time.time())
            is_alone = self._wait(before, timeout_s)
        override = find_override(self.kept or (), self.override.name)
        return Given(override, before, self._see(), is_alone)

    def _see(self) -> Sighting | None:
        return see_backend(self.instance, self.override.name)

    def _edit(self, overrides: Overrides) -> Overrides:
        config = self.loaded.config if self.loaded else None
        edited = ask_for(overrides, self.override, config)
        if config and not self.is_forced:
            refuse_large(config, overrides, edited, self.override.service)
        return edited

    # --- with no controller ---

    def _pass_alone(self) -> bool:
        """Make the pass, unless a controller holds the instance; return whether it was made."""
        with ExitStack() as stack:
            try:
                stack.enter_context(self.instance.held())
            except Locked:
                return False
            require_instance(self.instance)
            if self.loaded is None:
                raise self.problem
            if self.kept is None:
                self.kept = self.store.change(self._edit_applied, time.time())
            begun_s = time.monotonic()
            try:
                outcome = self.instance.reconcile(
                    self.loaded.config, allow_large_change=self.is_forced
                )
            except XdplbError as error:
                error.remedy = "; ".join(filter(None, (error.remedy, "the override is kept")))
                raise
            took_s = time.monotonic() - begun_s
            leave_account(self.instance.state_name, self.loaded.config, outcome, took_s)
            return True

    def _edit_applied(self, overrides: Overrides) -> Overrides:
        edited = self._edit(overrides)
        assert self.loaded is not None
        changes = self.instance.propose(self.loaded.config, edited).changes
        if any(change.reason == "config" for change in changes):
            raise XdplbError(
                f"{self.path} has changes that are not applied, and no controller runs",
                remedy="apply them first: xdplb-reconcile --once",
            )
        return edited

    # --- with a controller ---

    def _wait(self, before: Sighting | None, timeout_s: float) -> bool:
        """Return when it is put on; whether this command did it, because nobody else runs."""
        deadline = time.monotonic() + timeout_s
        while not self._is_put_on(before):
            if self._pass_alone():
                return True
            if time.monotonic() >= deadline:
                raise Overdue(
                    f"the controller has not followed in {timeout_s:g} s",
                    remedy="the override is kept; xdplb status says what the controller does",
                )
            time.sleep(_POLL_S)
        return False

    def _is_put_on(self, before: Sighting | None) -> bool:
        now = self._see()
        if now is None or before is None:
            return now is before
        expected = self._find_expected()
        # A pass writes the state first and the generation last.
        is_passed = now.generation > before.generation or before.state is expected
        is_out = expected is not BackendState.READY
        return now.state is expected and is_passed and not (is_out and now.slots)

    def _find_expected(self) -> BackendState:
        override = find_override(self.kept or (), self.override.name)
        known = list_backends(self.loaded.config) if self.loaded else {}
        if override or self.override.name not in known:
            return self.override.state
        return known[self.override.name].state


def refuse_large(config: Config, before: Overrides, after: Overrides, service: str) -> None:
    """See that what overrides newly take out of a service is within its safety limits.

    Raises:
        Blocked: it is not.
    """
    alone = replace(config, services=tuple(s for s in config.services if s.name == service))
    was, will = apply_overrides(alone, before), apply_overrides(alone, after)
    if count_ready(will) < count_ready(was) and (reason := find_override_objection(alone, will)):
        raise Blocked(reason, remedy="if that is what you want: --allow-large-change")


def count_ready(config: Config) -> int:
    """Return how many backends take new flows."""
    states = [backend.state for backend in list_backends(config).values()]
    return states.count(BackendState.READY)


# --- what is printed ---


def to_json(name: BackendName, given: Given) -> dict[str, Any]:
    """Return the document of what a command did."""
    before, after = given.before, given.after
    return {
        "format_version": FORMAT_VERSION,
        "kind": "xdplb.override",
        "service": name[0],
        "backend": name[1],
        "override": override_to_json(given.override) if given.override else None,
        "state": {
            "before": before.state.name.lower() if before else None,
            "after": after.state.name.lower() if after else None,
        },
        "slots": {
            "before": before.slots if before else None,
            "after": after.slots if after else None,
        },
        "connections": after.connections if after else None,
    }


def render(name: BackendName, given: Given, path: str) -> str:
    """Return in words what a command did."""
    where, after = "/".join(name), given.after
    lines = [f"{where}: {_render_step(given)}"]
    if given.override:
        lines.append(f"override: {describe_override(given.override, time.time())}")
        if given.is_alone and given.override.until:
            lines.append("no controller runs: the first pass after that time ends it")
    else:
        lines.append(f"no override: {path} decides")
    if after and after.state is BackendState.DRAIN:
        lines.append(
            f"connections: {after.connections} remembered so far, each from its next packet on;"
            f" see xdplb wait --for drained={where}"
        )
    return "\n".join(lines)


def _render_step(given: Given) -> str:
    before, after = given.before, given.after
    if before is None or after is None:
        return "not there"
    state = after.state.name.lower()
    if before.state is after.state:
        return f"{state} already, slots {after.slots}"
    return f"{before.state.name.lower()} -> {state}, slots {before.slots} -> {after.slots}"
