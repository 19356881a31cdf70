"""`xdplb detach`: the only command that takes the data plane away."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler.cli import options
from reconciler.errors import NoInput, Unavailable


@click.command()
@options.config_option
@options.name_option
@options.pin_dir_option
@options.lock_timeout_option
@options.quiet_option
@options.verbose_option
def detach(
    config: str | None,
    name: str | None,
    pin_dir: Path | None,
    lock_timeout: float,
    *,
    quiet: bool,
    verbose: bool,  # noqa: ARG001
) -> None:
    """Take the program off the interfaces and remove every pin of an instance.

    Traffic to the VIPs is no longer balanced from then on.
    """
    from reconciler.instance import Instance  # noqa: PLC0415  (BCC: only where needed)

    instance = Instance(choose_name(name, config), pin_dir)
    if not instance.exists() and not instance.folder.is_dir():
        raise Unavailable(f"there is no instance {instance.name} under {instance.root}")
    interfaces = sorted(instance.dataplane.read_attachments())
    with instance.held(timeout_s=lock_timeout):
        instance.detach()
    if not quiet:
        click.echo(f"detached {instance.name} from {', '.join(interfaces) or 'no interface'}")


def choose_name(name: str | None, config: str | None) -> str:
    """Return the instance's name: as given, else the file's, else the default's."""
    from reconciler.config_file import default_config_path, load  # noqa: PLC0415
    from reconciler.model import DEFAULT_NAME  # noqa: PLC0415

    if name:
        return name
    try:
        return load(config or default_config_path()).config.name
    except NoInput:
        if config:
            raise
        return DEFAULT_NAME
