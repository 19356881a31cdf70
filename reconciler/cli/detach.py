"""`xdplb detach`: the only command that takes the data plane away."""

from __future__ import annotations

import json
from pathlib import Path

import click

from reconciler.cli import options
from reconciler.cli.backends import refuse_absent
from reconciler.cli.say import say
from reconciler.health.store import HealthStore
from reconciler.override_store import OverrideStore
from reconciler.status import forget_status

FORMAT_VERSION = "1.0"


@click.command()
@options.config_option
@options.name_option
@options.json_option
@options.pin_dir_option
@options.lock_timeout_option
@options.output_options
def detach(
    config: str | None,
    name: str | None,
    pin_dir: Path | None,
    lock_timeout: float,
    *,
    as_json: bool,
    quiet: bool,
    verbose: bool,  # noqa: ARG001
) -> None:
    """Take the program off the interfaces and remove every pin of an instance.

    Traffic to the VIPs is no longer balanced from then on.
    """
    from reconciler.instance import Instance  # noqa: PLC0415  (BCC: only where needed)

    instance = Instance(options.choose_name(name, config, pin_dir), pin_dir)
    if not instance.exists() and not instance.folder.is_dir():
        raise refuse_absent(instance.name, instance.root, "so nothing is to be taken away")
    with instance.held(timeout_s=lock_timeout):
        interfaces = sorted(instance.dataplane.attachments.read())
        instance.detach()
    OverrideStore(instance.state_name).forget()
    HealthStore(instance.state_name).forget()
    forget_status(instance.state_name)
    if as_json:
        say(json.dumps(to_json(instance.name, interfaces), indent=2))
    elif not quiet:
        say(f"detached {instance.name} from {', '.join(interfaces) or 'no interface'}")


def to_json(name: str, interfaces: list[str]) -> dict[str, object]:
    """Return the document of what was taken away."""
    return {
        "format_version": FORMAT_VERSION,
        "kind": "xdplb.detach",
        "name": name,
        "interfaces": interfaces,
    }
