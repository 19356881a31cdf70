"""`xdplb lookup`: which slot and which backend a client gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from reconciler.cli import options
from reconciler.cli.backends import refuse_absent
from reconciler.cli.candidates import offer_files, offer_services
from reconciler.cli.plan import compile_offline
from reconciler.config.values import format_address_port, parse_address_port
from reconciler.config_file import load
from reconciler.errors import Unavailable
from reconciler.model import IPAddress
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
    tables = read_live(name, config, pin_dir) if live else compile_offline(load(path).config)
    before = select(find_choices(tables, address, port), service)
    after: dict[str, Choice] = {}
    if other:
        new = find_choices(compile_offline(load(other).config), address, port)
        after = {choice.service: choice for choice in select(new, service)}
    if as_json:
        click.echo(json.dumps(to_json(address, port, before, after), indent=2))
        return
    if quiet:
        return
    for choice in before:
        click.echo(describe(choice))
        if other:
            click.echo(compare(choice, after.get(choice.service)))


def parse_client(text: str) -> tuple[IPAddress, int]:
    """Return the address and port of `192.0.2.7:4711` or `[2001:db8::7]:4711`.

    Raises:
        click.BadParameter: it is neither.
    """
    try:
        address, port = parse_address_port(text)
    except ValueError as error:
        raise click.BadParameter(
            f"{text}: {error}; write 192.0.2.7:4711 or [2001:db8::7]:4711", param_hint="SRC:PORT"
        ) from None
    return address, port or 0


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


def select(choices: tuple[Choice, ...], service: str | None) -> list[Choice]:
    """Return the choices of one service, or all.

    Raises:
        click.BadParameter: there is no such service for this client's family.
        Unavailable: no service is for this client's family.
    """
    if not choices:
        raise Unavailable("no service has a VIP of this client's family")
    if service is None:
        return list(choices)
    found = [choice for choice in choices if choice.service == service]
    if not found:
        known = ", ".join(choice.service for choice in choices) or "none"
        raise click.BadParameter(
            f"no service {service} has a VIP of this client's family; there is: {known}",
            param_hint="SERVICE",
        )
    return found


def describe(choice: Choice) -> str:
    """Return a choice in words."""
    place = f"service {choice.service}: slot {choice.slot} of {choice.ring_size}"
    text = f"{place} -> {name_backend(choice)}"
    return f"{text}, older flows -> {choice.previous}" if choice.previous else text


def compare(before: Choice, after: Choice | None) -> str:
    """Return what becomes of a choice, in words."""
    if after is None:
        return "  after: the service is gone"
    stays = " (stays)" if after.backend == before.backend else " (moves)"
    return f"  after: slot {after.slot} of {after.ring_size} -> {name_backend(after)}{stays}"


def name_backend(choice: Choice) -> str:
    """Return a backend's name and place."""
    if choice.backend is None or choice.address is None or choice.port is None:
        return "no backend"
    place = format_address_port(choice.address, choice.port)
    return place if place == choice.backend else f"{choice.backend} ({place})"


def to_json(
    address: IPAddress, port: int, before: list[Choice], after: dict[str, Choice]
) -> dict[str, Any]:
    """Return the document of a lookup."""
    results = []
    for choice in before:
        result = _choice_to_json(choice)
        if choice.service in after:
            result["after"] = _choice_to_json(after[choice.service])
        results.append(result)
    return {
        "format_version": FORMAT_VERSION,
        "kind": "xdplb.lookup",
        "client": {"address": str(address), "port": port},
        "results": results,
    }


def _choice_to_json(choice: Choice) -> dict[str, Any]:
    return {
        "service": choice.service,
        "slot": choice.slot,
        "ring_size": choice.ring_size,
        "backend": choice.backend,
        "address": str(choice.address) if choice.address else None,
        "port": choice.port,
        "previous": choice.previous,
    }
