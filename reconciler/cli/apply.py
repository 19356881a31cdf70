"""`xdplb apply`: bring the kernel to the file, once, with a look at the plan before."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from reconciler.cli import options
from reconciler.cli.one_pass import OnePass, PassOptions
from reconciler.cli.plan_report import PlanReport
from reconciler.cli.saved_plan import SavedPlan, read_saved_plan
from reconciler.cli.say import find_loss
from reconciler.config_file import STANDARD_INPUT, STANDARD_INPUT_NAME, load
from reconciler.errors import Declined, XdplbError


@click.command()
@click.argument("file", required=False)
@options.config_option
@click.option(
    "--plan",
    "saved_plan",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PLAN",
    help="Apply just this saved plan (plan --json-out), or nothing.",
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@options.pass_options
@click.pass_context
def apply(ctx: click.Context, /, **flags: Any) -> None:
    """Bring the kernel to FILE: plan, guard, ask, write, verify.

    All of it under the lock, so what is shown is what is done. If a write fails or
    the kernel reads back otherwise, the state before it is put back (exit 3). While
    a controller runs it holds the lock; then edit the file that it follows instead.
    """
    saved = read_saved_plan(flags["saved_plan"]) if flags["saved_plan"] else None
    path = _choose_path(flags, saved)
    if not flags["yes"]:
        _require_somebody(path, is_quiet=flags["quiet"])
    loaded = load(path)
    if saved:
        saved.require_same_file(loaded.config)

    def ask(report: PlanReport) -> None:
        if saved:
            saved.require_same_plan(report)
        if report.proposal.changes and not report.is_blocked and not flags["yes"]:
            if loss := find_loss():
                raise XdplbError(f"{loss}, so nobody sees what is asked; nothing was changed")
            _ask()

    ctx.exit(OnePass(loaded, PassOptions.read(flags, asks=ask)).apply())


def _choose_path(flags: dict[str, Any], saved: SavedPlan | None) -> str:
    """Return the configuration's path: as named, else the planned one, else the default."""
    if saved is None or flags["file"] or flags["config"]:
        return options.choose_path(flags["file"], flags["config"])
    if saved.config_path == STANDARD_INPUT_NAME:
        raise click.UsageError(f"{saved.path} was planned from standard input: name the file")
    return saved.config_path


def _require_somebody(path: str, *, is_quiet: bool) -> None:
    """See that there is somebody to ask, who sees what is asked about."""
    if path == STANDARD_INPUT or not sys.stdin.isatty():
        raise click.UsageError("standard input is no terminal, so nobody can be asked: add --yes")
    if is_quiet:
        raise click.UsageError("--quiet does not show what would be asked about: add --yes")


def _ask() -> None:
    if not click.confirm("Apply this?", err=True):
        raise Declined("not applied, as you said; nothing was changed")
