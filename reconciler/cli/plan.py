"""`xdplb plan`: what would change, in the kernel or between two files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from reconciler.cli import options
from reconciler.cli.plan_output import render_plan, to_json, write_json
from reconciler.config_file import Loaded, load
from reconciler.diagnostics import Diagnostic, render_human
from reconciler.environment import imagine_environment
from reconciler.errors import ExitCode
from reconciler.model import Config
from reconciler.proposal import Proposal, propose
from reconciler.tables import Tables, make_empty_tables


@click.command()
@click.argument("file", required=False)
@options.config_option
@click.option(
    "--against",
    metavar="OLD",
    help="Compare with another file instead of the kernel; needs no root and no BCC.",
)
@click.option("--format", "form", type=click.Choice(["human", "json"]), default="human")
@click.option("--json", "form", flag_value="json", help="The same as --format json.")
@options.json_out_option
@options.detailed_option
@options.pin_dir_option
@options.quiet_option
@options.verbose_option
@click.pass_context
def plan(
    ctx: click.Context,
    *,
    file: str | None,
    config: str | None,
    against: str | None,
    form: str,
    json_out: Path | None,
    detailed_exitcode: bool,
    pin_dir: Path | None,
    quiet: bool,
    verbose: bool,  # noqa: ARG001  (the error boundary looks for it)
) -> None:
    """Show what FILE would change: desired against live.

    Nothing is written. Exits 0 whether or not there are changes, unless
    --detailed-exitcode is given. Says when a safety limit would refuse them.
    """
    loaded = load(options.choose_path(file, config))
    proposal = (
        propose_offline(loaded.config, load(against).config)
        if against
        else propose_live(loaded.config, pin_dir)
    )
    print_plan(proposal, loaded, form, json_out, against, quiet=quiet)
    if detailed_exitcode and not proposal.is_in_sync:
        ctx.exit(ExitCode.CHANGES)


def propose_offline(config: Config, old: Config) -> Proposal:
    """Compare two files: the old one applied to nothing is what is live."""
    slots = max(config.limits.ring_slots, old.limits.ring_slots)
    before = compile_offline(old, slots)
    return propose(config, imagine_environment(config), before, now_ns=0)


def compile_offline(config: Config, ring_slots: int = 0) -> Tables:
    """Return the tables that a file makes where there was nothing."""
    empty = make_empty_tables(ring_slots or config.limits.ring_slots)
    return propose(config, imagine_environment(config), empty, now_ns=0).desired


def propose_live(config: Config, pin_dir: Path | None) -> Proposal:
    """Compare a file with the kernel."""
    from reconciler.instance import Instance  # noqa: PLC0415  (BCC: only where needed)

    return Instance(config.name, pin_dir).propose(config)


def print_plan(
    proposal: Proposal,
    loaded: Loaded,
    form: str,
    json_out: Path | None,
    against: str | None,
    *,
    quiet: bool,
) -> None:
    """Print a plan: the document on standard output, warnings on standard error."""
    warnings = (*loaded.warnings, *proposal.advice)
    document = to_json(proposal, warnings)
    if json_out:
        write_json(document, json_out)
    if form == "json":
        click.echo(json.dumps(document, indent=2))
        return
    if quiet:
        return
    print_warnings(warnings, loaded)
    click.echo(render_plan(proposal, against))


def print_warnings(warnings: Sequence[Diagnostic], loaded: Loaded) -> None:
    """Print warnings about a file on standard error."""
    if warnings:
        click.echo(render_human(warnings, {loaded.config.path: loaded.text}), err=True)
