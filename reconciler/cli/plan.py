"""`xdplb plan`: what would change, in the kernel or between two files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from reconciler import diagnostics
from reconciler.cli import options
from reconciler.cli.candidates import offer_files
from reconciler.cli.color import paint
from reconciler.cli.document import write_json
from reconciler.cli.plan_output import describe_writes, render_annotations, render_plan, to_json
from reconciler.cli.plan_report import PlanReport
from reconciler.cli.say import say, show
from reconciler.cli.validate import Result, print_results
from reconciler.config import ConfigInvalid, Parsed
from reconciler.config_file import Loaded, load
from reconciler.desired import LastPass
from reconciler.diagnostics import Diagnostic
from reconciler.environment import imagine_addresses, imagine_environment
from reconciler.errors import ExitCode
from reconciler.model import Config
from reconciler.proposal import Proposal, propose
from reconciler.tables import Tables, make_empty_tables
from reconciler.unheld import find_obstacles, list_controller_settings


@click.command()
@click.argument("file", required=False, shell_complete=offer_files)
@options.config_option
@click.option(
    "--against",
    metavar="OLD",
    shell_complete=offer_files,
    help="Compare with another file instead of the kernel; needs no root and no BCC.",
)
@options.format_option
@options.format_json_option
@options.json_out_option
@options.detailed_option
@options.pin_dir_option
@options.output_options
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
    verbose: bool,
) -> None:
    """Show what FILE would change: desired against live.

    Nothing is written. Exits 0 whether or not there are changes, unless
    --detailed-exitcode is given. Says when a safety limit would refuse them. What
    --json-out writes is a saved plan, for `xdplb apply --plan`.
    """
    path = options.choose_path(file, config)
    options.require_two_inputs(path, against)
    try:
        loaded = load(path)
        report = compare_files(loaded, load(against)) if against else compare_live(loaded, pin_dir)
    except ConfigInvalid as error:
        if form == "human":
            raise
        print_results([Result(error.path, Parsed(None, error.diagnostics))], form, quiet)
        ctx.exit(ExitCode.CONFIG)
    if json_out:
        write_json(to_json(report), json_out)
    print_plan(report, loaded, form, quiet=quiet, verbose=verbose)
    if detailed_exitcode and not report.proposal.is_in_sync:
        ctx.exit(ExitCode.CHANGES)


def compare_files(loaded: Loaded, old: Loaded) -> PlanReport:
    """Compare a file with the one before it."""
    config = loaded.config
    proposal = propose_offline(config, old.config)
    return PlanReport(
        proposal,
        (*loaded.warnings, *proposal.advice, *find_obstacles(old.config, config)),
        against=old.config,
        controller=list_controller_settings(old.config, config),
        stand_ins={
            str(address): f"the own address of {name}"
            for name in {*config.interfaces, *old.config.interfaces}
            for address in imagine_addresses(name)
        },
    )


def propose_offline(config: Config, old: Config) -> Proposal:
    """Compare two files: the old one applied to nothing is what is live."""
    slots = max(config.limits.ring_slots, old.limits.ring_slots)
    last_pass = LastPass()  # what is the same in both is made once
    before = compile_offline(old, slots, last_pass)
    return propose(config, imagine_environment(config), before, now_ns=0, last_pass=last_pass)


def compile_offline(
    config: Config, ring_slots: int = 0, last_pass: LastPass | None = None
) -> Tables:
    """Return the tables that a file makes where there was nothing."""
    empty = make_empty_tables(ring_slots or config.limits.ring_slots)
    return propose(
        config, imagine_environment(config), empty, now_ns=0, last_pass=last_pass
    ).desired


def compare_live(loaded: Loaded, pin_dir: Path | None) -> PlanReport:
    """Compare a file with the kernel."""
    from reconciler.instance import Instance  # noqa: PLC0415  (BCC: only where needed)

    instance = Instance(loaded.config.name, pin_dir)
    proposal = instance.propose(loaded.config)
    remembered = instance.count_flows(proposal.observed)
    return PlanReport(proposal, (*loaded.warnings, *proposal.advice), remembered)


def print_plan(
    report: PlanReport, loaded: Loaded, form: str, *, quiet: bool, verbose: bool
) -> None:
    """Print a plan: the document on standard output, warnings on standard error."""
    if form == "json":
        show(json.dumps(to_json(report), indent=2))
    elif form == "github":
        show(render_annotations(report))
    elif not quiet:
        print_warnings(report.warnings, loaded)
        show(render_plan(report, paint))
        if verbose:
            show(describe_writes(report.proposal.operations))


def print_warnings(warnings: Sequence[Diagnostic], loaded: Loaded) -> None:
    """Print warnings about a file on standard error."""
    if warnings:
        say(diagnostics.render_human(warnings, loaded.texts, paint), err=True)
