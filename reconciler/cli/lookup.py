"""`xdplb lookup`: which slot and which backend a client gets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from reconciler.cli import options
from reconciler.cli.backends import refuse_absent
from reconciler.cli.candidates import offer_files, offer_services
from reconciler.cli.plan import compile_offline
from reconciler.cli.say import show
from reconciler.config.values import format_address_port, parse_address_port
from reconciler.config_file import load
from reconciler.errors import Unavailable
from reconciler.model import Affinity, IPAddress
from reconciler.steering import Choice, find_choices
from reconciler.tables import Tables

FORMAT_VERSION = "1.0"


@click.command()
@click.argument("client", metavar="SRC:PORT")
@click.argument("service", required=False, shell_complete=offer_services)
@options.config_option
@click.option(
    "--with",
    "other",
    metavar="FILE",
    shell_complete=offer_files,
    help="Show before and after this file too.",
)
@click.option("--live", is_flag=True, help="Ask the kernel's tables, not the file (needs root).")
@options.name_option
@options.json_option
@options.pin_dir_option
@options.output_options
def lookup(
    *,
    client: str,
    service: str | None,
    config: str | None,
    other: str | None,
    live: bool,
    name: str | None,
    as_json: bool,
    pin_dir: Path | None,
    quiet: bool,
    verbose: bool,  # noqa: ARG001
) -> None:
    """Show the slot and the backend that a new flow from SRC:PORT gets.

    Computed from the file, as every balancer with it computes it: needs no root
    and no kernel. A service that goes by the client's address alone ignores the
    port, which may be left out.
    """
    address, port = parse_client(client)
    path = options.choose_path(None, config)
    options.require_two_inputs(path, other)
    tables = read_live(name, config, pin_dir) if live else compile_offline(load(path).config)
    before = find_choices(tables, address, port or 0)
    after = find_choices(compile_offline(load(other).config), address, port or 0) if other else ()
    fates = select(pair_choices(before, after), service)
    if port is None:
        require_no_port(fates, address)
    if as_json:
        document = to_json(address, port, fates, has_after=other is not None)
        show(json.dumps(document, indent=2))
    elif not quiet:
        for fate in fates:
            show(describe(fate, has_after=other is not None))


@dataclass(frozen=True)
class Fate:
    """What a client gets from one service, and with the other file; None: no such service."""

    service: str
    before: Choice | None
    after: Choice | None

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Those that there are."""
        return tuple(choice for choice in (self.before, self.after) if choice)


def parse_client(text: str) -> tuple[IPAddress, int | None]:
    """Return the address and port of `192.0.2.7:4711`, `[2001:db8::7]:4711` or `192.0.2.7`.

    Raises:
        click.BadParameter: it is neither.
    """
    try:
        return parse_address_port(text)
    except ValueError as error:
        raise click.BadParameter(
            f"{text}: {error}; write 192.0.2.7:4711 or [2001:db8::7]:4711", param_hint="SRC:PORT"
        ) from None


def read_live(name: str | None, config: str | None, pin_dir: Path | None) -> Tables:
    """Return the kernel's tables.

    Raises:
        Unavailable: there is no such instance.
    """
    from reconciler.instance import Instance  # noqa: PLC0415  (BCC: only where needed)

    instance = Instance(options.choose_name(name, config, pin_dir), pin_dir)
    if not instance.exists():
        raise refuse_absent(
            instance.name, instance.root, "start one with xdplb-reconcile, or leave out --live"
        )
    return instance.dataplane.read()


def pair_choices(before: tuple[Choice, ...], after: tuple[Choice, ...]) -> list[Fate]:
    """Return the fate of every service that is on either side, by name."""
    old = {choice.service: choice for choice in before}
    new = {choice.service: choice for choice in after}
    return [Fate(name, old.get(name), new.get(name)) for name in sorted(old | new)]


def select(fates: list[Fate], service: str | None) -> list[Fate]:
    """Return the fate of one service, or all.

    Raises:
        click.BadParameter: there is no such service for this client's family.
        Unavailable: no service is for this client's family.
    """
    if not fates:
        raise Unavailable("no service has a VIP of this client's family")
    if service is None:
        return fates
    found = [fate for fate in fates if fate.service == service]
    if not found:
        known = ", ".join(fate.service for fate in fates)
        raise click.BadParameter(
            f"no service {service} has a VIP of this client's family; there is: {known}",
            param_hint="SERVICE",
        )
    return found


def require_no_port(fates: list[Fate], address: IPAddress) -> None:
    """See that nothing goes by the port of a client that has none.

    Raises:
        click.BadParameter: a service does.
    """
    for fate in fates:
        if any(choice.affinity is Affinity.FLOW for choice in fate.choices):
            shape = f"{address}:PORT"
            if address.version == 6:
                shape = f"[{address}]:PORT, with the brackets"
            raise click.BadParameter(
                f"{address} has no port, and service {fate.service} goes by it; write {shape}",
                param_hint="SRC:PORT",
            )


def describe(fate: Fate, *, has_after: bool) -> str:
    """Return in words what a client gets, and what becomes of it if that is asked."""
    lines = [f"service {fate.service}: {describe_choice(fate.before)}"]
    if has_after:
        lines.append(f"  after: {compare(fate.before, fate.after)}")
    return "\n".join(lines)


def describe_choice(choice: Choice | None) -> str:
    """Return a choice in words."""
    if choice is None:
        return "not there"
    text = f"slot {choice.slot} of {choice.ring_size} -> {name_backend(choice)}"
    return f"{text}, older flows -> {choice.previous}" if choice.previous else text


def compare(before: Choice | None, after: Choice | None) -> str:
    """Return what becomes of a choice, in words."""
    if after is None:
        return "the service is gone"
    return f"{describe_choice(after)} ({_describe_step(before, after)})"


def _describe_step(before: Choice | None, after: Choice) -> str:
    if before is None:
        return "the service is new"
    if after.backend != before.backend:
        return "moves"
    if (after.address, after.port) != (before.address, before.port):
        return f"same name, another address: was {_format_place(before)}"
    return "stays"


def name_backend(choice: Choice) -> str:
    """Return a backend's name and place."""
    if choice.backend is None:
        return "no backend"
    place = _format_place(choice)
    return place if place == choice.backend else f"{choice.backend} ({place})"


def _format_place(choice: Choice) -> str:
    if choice.address is None or choice.port is None:
        return "nowhere"
    return format_address_port(choice.address, choice.port)


def to_json(
    address: IPAddress, port: int | None, fates: list[Fate], *, has_after: bool
) -> dict[str, Any]:
    """Return the document of a lookup. A service that is not there has nulls."""
    results = []
    for fate in fates:
        result = _choice_to_json(fate.service, fate.before)
        if has_after:
            result["after"] = _choice_to_json(fate.service, fate.after) if fate.after else None
        results.append(result)
    return {
        "format_version": FORMAT_VERSION,
        "kind": "xdplb.lookup",
        "client": {"address": str(address), "port": port},
        "results": results,
    }


def _choice_to_json(service: str, choice: Choice | None) -> dict[str, Any]:
    document = {"service": service} | dict.fromkeys(
        ("slot", "ring_size", "backend", "address", "port", "previous")
    )
    if choice is None:
        return document
    return document | {
        "slot": choice.slot,
        "ring_size": choice.ring_size,
        "backend": choice.backend,
        "address": str(choice.address) if choice.address else None,
        "port": choice.port,
        "previous": choice.previous,
    }
