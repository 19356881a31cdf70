"""`xdplb doctor`: what is wrong with this machine and this file, and what mends it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from reconciler.cli import options
from reconciler.cli.doctor_output import print_findings, print_summary, to_json
from reconciler.cli.say import show, showing
from reconciler.config import ConfigInvalid
from reconciler.config_file import load
from reconciler.dataplane.bpffs import DEFAULT_PIN_ROOT
from reconciler.dataplane.pins import list_instances
from reconciler.diagnosis import choose_exit_code, diagnose
from reconciler.diagnosis.facts import Checkup, FileTrouble
from reconciler.diagnosis.finding import Severity
from reconciler.errors import NoInput
from reconciler.model import DEFAULT_NAME


@click.command()
@click.argument("file", required=False)
@options.config_option
@options.json_option
@options.pin_dir_option
@options.quiet_option
@click.option("-v", "--verbose", is_flag=True, help="Show what is well too, and tracebacks.")
@options.color_option
@click.pass_context
def doctor(
    ctx: click.Context,
    *,
    file: str | None,
    config: str | None,
    as_json: bool,
    pin_dir: Path | None,
    quiet: bool,
    verbose: bool,
) -> None:
    """Look at this machine, and at what FILE needs of it; changes nothing.

    Each finding names the command that mends it. Without a FILE, and without one
    in the usual places, only the machine is looked at. TCP backends are connected
    to, once each; nothing is waited for longer than a few seconds.

    Exits 0 without errors, 77 if missing capabilities are the only error, 78 if an
    invalid file is, and 69 with any other.
    """
    checkup = _inspect(options.choose_path(file, config), bool(file or config), pin_dir)
    findings = diagnose(checkup)
    if as_json:
        show(json.dumps(to_json(findings, checkup), indent=2))
    else:
        shown = [Severity.ERROR] if quiet else [s for s in Severity if s is not Severity.OK]
        with showing():
            print_findings(findings, Severity if verbose else shown)
            if not quiet:
                print_summary(findings)
    ctx.exit(choose_exit_code(findings))


def _inspect(path: str, is_named: bool, pin_dir: Path | None) -> Checkup:
    from reconciler.inspection import inspect  # noqa: PLC0415  (BCC: only where needed)

    root, words = pin_dir or DEFAULT_PIN_ROOT, [path] if is_named else []
    try:
        loaded = load(path)
    except ConfigInvalid as error:
        trouble = FileTrouble(path, error.message)
        return inspect(_guess_name(root), root, file=trouble, words=words)
    except NoInput:
        if is_named:
            raise
        return inspect(_guess_name(root), root, words=words)
    config = loaded.config
    return inspect(config.name, root, config=config, warnings=len(loaded.warnings), words=words)


def _guess_name(root: Path) -> str:
    """The one instance that there is, if no file says which is meant."""
    instances = list_instances(root)
    return instances[0] if len(instances) == 1 else DEFAULT_NAME
