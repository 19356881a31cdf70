"""`xdplb status`: what the kernel holds and what the controller says of itself."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from reconciler import abi
from reconciler.cli import options
from reconciler.cli.backends import find_ids, list_staying, require_instance
from reconciler.cli.flow_table import describe_flow_table, render_flow_table
from reconciler.cli.override_output import count_connections, list_overrides, render_overrides
from reconciler.errors import XdplbError
from reconciler.fingerprint import fingerprint_rings
from reconciler.lock import find_holder
from reconciler.model import BackendState
from reconciler.override_store import OverrideStore
from reconciler.overrides import Override, Overrides, find_in_force
from reconciler.resources import count_slots
from reconciler.status import ControllerStatus, read_status

if TYPE_CHECKING:
    from reconciler.instance import Instance
    from reconciler.tables import Tables

FORMAT_VERSION = "1.0"


@click.command()
@options.config_option
@options.name_option
@options.json_option
@options.pin_dir_option
@options.verbose_option
def status(
    config: str | None,
    name: str | None,
    *,
    as_json: bool,
    pin_dir: Path | None,
    verbose: bool,
) -> None:
    """Show services, backends, verdicts and the last reload.

    What is shown of the data plane is read from its maps, whether a controller
    runs or not. With -v also what is remembered of flows, and verdicts that no packet got.
    """
    from reconciler.instance import Instance  # noqa: PLC0415  (BCC: only where needed)

    instance = Instance(options.choose_name(name, config, pin_dir), pin_dir)
    require_instance(instance)
    document = describe(instance)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        print_status(document, verbose=verbose)


def describe(instance: Instance) -> dict[str, Any]:
    """Return the document of an instance's status."""
    tables = instance.dataplane.read()
    fingerprints = fingerprint_rings(tables)
    holder = find_holder(instance.folder)
    account = read_status(instance.name)
    overrides, problem = _find_overrides(instance.name, tables)
    return {
        "format_version": FORMAT_VERSION,
        "kind": "xdplb.status",
        "name": instance.name,
        "generation": tables.generation,
        "config_sha256": tables.config_sha256 or None,
        "ring_fingerprint": fingerprints.whole,
        "controller": _describe_controller(holder, account),
        "interfaces": {
            name: {"ifindex": one.ifindex, "mode": one.mode.value}
            for name, one in tables.attachments.items()
        },
        "services": _describe_services(instance, tables, fingerprints.services),
        "overrides": list_overrides(overrides, list_staying(tables)),
        "overrides_problem": problem,
        "flow_table": describe_flow_table(instance.dataplane),
        "verdicts": _describe_verdicts(instance),
    }


def _find_overrides(name: str, tables: Tables) -> tuple[Overrides, str | None]:
    """Return the overrides in force, and those that are over and still on; or the problem.

    Without a controller an override stays on when its time is over, until the next pass.
    """
    try:
        kept = OverrideStore(name).read()
    except XdplbError as error:
        return (), str(error)
    ids, in_force = find_ids(tables), find_in_force(kept, time.time())

    def is_on(one: Override) -> bool:
        return one.name in ids and tables.backends[ids[one.name]].state is one.state

    return tuple(one for one in kept if one in in_force or is_on(one)), None


def _describe_controller(holder: int | None, account: ControllerStatus | None) -> dict[str, Any]:
    document: dict[str, Any] = {"running": holder is not None, "pid": holder}
    if account:
        document |= {
            "config": account.config_path,
            "last_attempt": asdict(account.last_attempt),
            "last_good": asdict(account.last_good) if account.last_good else None,
            "conditions": [asdict(each) for each in account.conditions],
        }
    return document


def _describe_services(
    instance: Instance, tables: Tables, fingerprints: Mapping[int, str]
) -> list[dict[str, Any]]:
    counters = instance.dataplane.read_counters("backend_stats")
    flows = instance.dataplane.count_flows(tables, time.monotonic_ns())
    slots = count_slots(tables)
    services = []
    for number, info in sorted(tables.service_info.items(), key=lambda item: item[1].name):
        endpoints = [e for e, row in tables.services.items() if row.id == number]
        rows = {i: row for i, row in tables.backends.items() if row.service == number}
        weights = [tables.backend_info[i].weight for i in rows if _is_ready(tables, i)]
        services.append(
            {
                "name": info.name,
                "vips": sorted(str(endpoint.address) for endpoint in endpoints),
                "port": endpoints[0].port if endpoints else None,
                "protocol": endpoints[0].protocol.name.lower() if endpoints else None,
                "ring_size": sum(slots.get(info.name, {}).values()),
                "ring_fingerprint": fingerprints.get(number),
                "remembers_for_s": _seconds_until(info.window_end_ns),
                "backends": [
                    {
                        **_describe_backend(
                            tables, i, counters[i], slots.get(info.name, {}), sum(weights)
                        ),
                        "connections": int(flows[i]),
                    }
                    for i in sorted(rows, key=lambda i: tables.backend_info[i].name)
                ],
            }
        )
    return services


def _describe_backend(
    tables: Tables, number: int, counters: Any, slots: dict[str, int], total_weight: int
) -> dict[str, Any]:
    row, info = tables.backends[number], tables.backend_info[number]
    size = sum(slots.values())
    return {
        "name": info.name,
        "address": str(row.address),
        "port": row.port,
        "state": row.state.name.lower(),
        "weight": info.weight,
        "leaves_in_s": _seconds_until(info.leaves_ns),
        "slots": slots.get(info.name, 0),
        "share": slots.get(info.name, 0) / size if size else 0.0,
        "expected_share": info.weight / total_weight if _is_ready(tables, number) else 0.0,
        **{key: int(counters[key]) for key in abi.BACKEND_STATS.names or ()},
    }


def _is_ready(tables: Tables, number: int) -> bool:
    """Whether a backend's weight gives it slots."""
    is_weighted = number in tables.backend_info and tables.backend_info[number].weight > 0
    return is_weighted and tables.backends[number].state is BackendState.READY


def _seconds_until(time_ns: int) -> float | None:
    return max((time_ns - time.monotonic_ns()) / 1e9, 0.0) if time_ns else None


def _describe_verdicts(instance: Instance) -> dict[str, int]:
    counts = instance.dataplane.read_counters("verdicts").tolist()
    return {verdict.name.lower(): counts[verdict] for verdict in abi.Verdict}


def print_status(document: dict[str, Any], *, verbose: bool) -> None:
    """Print a status for people."""
    # A pipe has no width; cut columns would be lost there.
    console = Console(highlight=False, soft_wrap=True, width=None if _is_terminal() else 200)
    console.print(f"instance {document['name']}, generation {document['generation']}")
    console.print(_render_controller(document["controller"]))
    for name, interface in document["interfaces"].items():
        note = "" if interface["mode"] == "native" else " (in the stack: slower than native)"
        gone = " - GONE" if not interface["ifindex"] else ""
        console.print(f"interface {name}: {interface['mode']} XDP{note}{gone}")
    console.print(f"ring fingerprint: {document['ring_fingerprint']}")
    for service in document["services"]:
        _print_service(console, service)
    _print_overrides(console, document)
    for line in render_flow_table(document["flow_table"], verbose=verbose):
        console.print(line)
    _print_verdicts(console, document["verdicts"], verbose=verbose)


def _print_overrides(console: Console, document: dict[str, Any]) -> None:
    lines = render_overrides(document["overrides"], time.time())
    if problem := document["overrides_problem"]:
        lines = [f"  unknown: {problem}"]
    if lines:
        console.print("\noverrides")
    for line in lines:
        console.print(line, markup=False)


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _render_controller(controller: dict[str, Any]) -> str:
    words = (
        f"controller: running, pid {controller['pid']}"
        if controller["running"]
        else ("controller: not running; the data plane goes on")
    )
    attempt, good = controller.get("last_attempt"), controller.get("last_good")
    if attempt is None:
        return words
    words += f"\nlast reload: {attempt['result'].upper()} {_ago(attempt['at'])}"
    words += f" ({attempt['sha256'][:12]})" if attempt["sha256"] else ""
    if attempt["message"]:
        words += f": {attempt['message']}"
    if good and good["at"] != attempt["at"]:
        words += f"\nstill running {good['sha256'][:12]}, good since {_ago(good['at'])}"
    return words


def _ago(at: float) -> str:
    return f"{max(time.time() - at, 0):.0f} s ago"


def _print_service(console: Console, service: dict[str, Any]) -> None:
    vips = ", ".join(service["vips"])
    console.print()
    console.print(
        f"service {service['name']}: {vips} port {service['port']}/{service['protocol']},"
        f" ring of {service['ring_size']}"
    )
    console.print(f"  ring fingerprint: {service['ring_fingerprint']}")
    if service["remembers_for_s"] is not None:
        console.print(f"  moved slots remember for {service['remembers_for_s']:.0f} s more")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    columns = ("backend", "address", "state", "weight", "slots", "share", "expected", "packets")
    for column in (*columns, "new flows", "replies"):
        is_word = column in ("backend", "address", "state")
        table.add_column(column, justify="left" if is_word else "right", no_wrap=True)
    for backend in service["backends"]:
        state = backend["state"]
        if state == "drain":
            state += f", {count_connections(backend['connections'])}"
        if backend["leaves_in_s"] is not None:
            state += f", leaves in {backend['leaves_in_s']:.0f} s"
        table.add_row(
            f"  {backend['name']}",
            _join(backend["address"], backend["port"]),
            state,
            str(backend["weight"]),
            str(backend["slots"]),
            f"{100 * backend['share']:.2f} %",
            f"{100 * backend['expected_share']:.2f} %",
            str(backend["packets"]),
            str(backend["new_flows"]),
            str(backend["reply_packets"]),
        )
    console.print(table)


def _join(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _print_verdicts(console: Console, verdicts: dict[str, int], *, verbose: bool) -> None:
    if verbose or any(verdicts.values()):
        console.print("\nverdicts")
    for verdict, count in verdicts.items():
        if count or verbose:
            console.print(f"  {verdict:<18} {count}")
