"""`xdplb run`, also `xdplb-reconcile`: the controller."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli import options
from reconciler.cli.plan import print_warnings
from reconciler.cli.plan_output import render_plan, to_json, write_json
from reconciler.config_file import STANDARD_INPUT, Loaded, load
from reconciler.errors import ExitCode
from reconciler.status import Attempt, ControllerStatus, write_status

if TYPE_CHECKING:
    from reconciler.instance import Outcome


@click.command()
@options.config_option
@click.option("--once", is_flag=True, help="Make one pass, then exit.")
@click.option("--dry-run", is_flag=True, help="With --once: show the plan, write nothing.")
@options.json_option
@options.json_out_option
@options.detailed_option
@options.allow_large_option
@options.lock_timeout_option
@options.pin_dir_option
@options.quiet_option
@options.verbose_option
@click.pass_context
def run(ctx: click.Context, /, **flags: Any) -> None:
    """Be the controller: watch the file and keep the kernel to it.

    SIGHUP looks at the file at once; SIGTERM ends the controller and leaves the
    data plane running. With --once, makes one pass and exits.
    """
    if flags["dry_run"] and not flags["once"]:
        raise click.UsageError("--dry-run goes with --once")
    path = options.choose_path(None, flags["config"])
    start_log(quiet=flags["quiet"], verbose=flags["verbose"])
    loaded = load(path)
    if flags["once"]:
        ctx.exit(run_once(loaded, flags))
    run_daemon(path, loaded, flags)


def run_once(loaded: Loaded, flags: dict[str, Any]) -> ExitCode:
    """Make one pass and print what it did; return the exit code."""
    from reconciler.instance import Instance, Outcome  # noqa: PLC0415  (BCC: only where needed)

    instance = Instance(loaded.config.name, flags["pin_dir"])
    if flags["dry_run"]:
        outcome = Outcome(instance.propose(loaded.config))
    else:
        with instance.held(timeout_s=flags["lock_timeout"]):
            outcome = instance.reconcile(
                loaded.config, allow_large_change=flags["allow_large_change"]
            )
            tell_outcome(loaded, outcome)
    warnings = (*loaded.warnings, *outcome.advice)
    document = to_json(outcome.proposal, warnings)
    document |= {"applied": outcome.is_changed, "writes": outcome.writes}
    if flags["json_out"]:
        write_json(document, flags["json_out"])
    if flags["as_json"]:
        click.echo(json.dumps(document, indent=2))
    elif not flags["quiet"]:
        print_warnings(warnings, loaded)
        click.echo(render_plan(outcome.proposal))
        if outcome.is_changed:
            click.echo(f"applied and verified: generation {outcome.proposal.desired.generation}")
    if flags["dry_run"] and outcome.proposal.objection and not flags["allow_large_change"]:
        return ExitCode.BLOCKED
    has_changes = bool(outcome.proposal.changes)
    return ExitCode.CHANGES if flags["detailed_exitcode"] and has_changes else ExitCode.OK


def tell_outcome(loaded: Loaded, outcome: Outcome) -> None:
    """Leave an account for `xdplb status`."""
    from reconciler.loop import describe_outcome  # noqa: PLC0415

    attempt = Attempt(describe_outcome(outcome), time.time(), loaded.config.sha256)
    status = ControllerStatus(os.getpid(), loaded.config.path, attempt, attempt)
    try:
        write_status(loaded.config.name, status)
    except OSError as error:
        click.echo(f"xdplb: status.json is not written: {error}", err=True)


def run_daemon(path: str, loaded: Loaded, flags: dict[str, Any]) -> None:
    """Run the controller until a signal ends it."""
    from reconciler.instance import Instance  # noqa: PLC0415  (BCC: only where needed)
    from reconciler.loop import Loop, LoopOptions, log  # noqa: PLC0415

    if path == STANDARD_INPUT:
        raise click.UsageError("standard input can't be watched; use --once")
    instance = Instance(loaded.config.name, flags["pin_dir"])
    if not flags["quiet"]:
        print_warnings(loaded.warnings, loaded)
    with instance.held(timeout_s=flags["lock_timeout"]):
        loop = Loop(instance, path, loaded, LoopOptions(flags["allow_large_change"]))
        with loop.signals():
            log.info("controller=started pid=%d config=%s", os.getpid(), path)
            loop.run()
            log.info("controller=stopped dataplane=running")


def start_log(*, quiet: bool, verbose: bool) -> None:
    """Log to standard error, a line an event, key=value."""
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING,
        format="time=%(asctime)s level=%(levelname)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S%z",
    )
    logging.getLogger("xdplb").setLevel(level)
