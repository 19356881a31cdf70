"""`xdplb export`: what the kernel holds, as a file."""

from __future__ import annotations

import time
from pathlib import Path

import click

from reconciler.cli import options
from reconciler.cli.backends import require_instance
from reconciler.cli.say import show
from reconciler.dataplane.capacities import read_limits
from reconciler.export import export_tables


@click.command()
@options.config_option
@options.name_option
@options.pin_dir_option
@options.output_options
def export(
    config: str | None,
    name: str | None,
    *,
    pin_dir: Path | None,
    quiet: bool,  # noqa: ARG001  (what it prints is data)
    verbose: bool,  # noqa: ARG001  (the error boundary looks for it)
) -> None:
    """Print what the kernel holds as a canonical lb.yaml, in the long form.

    'xdplb export | xdplb plan -' is empty. What the kernel does not hold is left
    out: safety, reconcile, metrics.
    """
    from reconciler.instance import Instance  # noqa: PLC0415

    instance = Instance(options.choose_name(name, config, pin_dir), pin_dir)
    require_instance(instance)
    limits = read_limits(instance.dataplane.read_capacity)
    instance.dataplane.check_maps(limits)
    overridden = {each.name for each in instance.overrides.take(time.time())}
    tables = instance.dataplane.read()
    show(export_tables(tables, instance.name, limits, overridden), nl=False)
