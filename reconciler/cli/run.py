"""`xdplb run`, also `xdplb-reconcile`: the controller."""

from __future__ import annotations

import logging
import os
from typing import Any

import click

from reconciler.cli import options
from reconciler.cli.one_pass import OnePass, PassOptions
from reconciler.cli.plan import print_warnings
from reconciler.cli.say import say
from reconciler.config_file import STANDARD_INPUT, Loaded, load
from reconciler.dataplane.bpffs import DEFAULT_PIN_ROOT
from reconciler.errors import ExitCode
from reconciler.log import log_event, start_log


@click.command()
@options.config_option
@click.option("--once", is_flag=True, help="Make one pass, then exit.")
@click.option(
    "--reload",
    is_flag=True,
    help="Have the running controller take the file now, wait for it, and end as it did.",
)
@click.option(
    "--probe", is_flag=True, help="With --once: check every backend once first, and go by that."
)
@click.option("--dry-run", is_flag=True, help="With --once: show the plan, write nothing.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How the log's lines are written: key=value, or a JSON object each.",
)
@options.pass_options
@click.pass_context
def run(ctx: click.Context, /, **flags: Any) -> None:
    """Be the controller: watch the file and keep the kernel to it.

    SIGHUP looks at the file at once; SIGTERM ends the controller and leaves the
    data plane running. With --once, makes one pass and exits.
    """
    if flags["dry_run"] and not flags["once"]:
        raise click.UsageError("--dry-run goes with --once")
    if flags["probe"] and not flags["once"]:
        raise click.UsageError("--probe goes with --once: the running controller checks anyway")
    if flags["reload"] and flags["once"]:
        raise click.UsageError("--reload speaks to a running controller: not with --once")
    path = options.choose_path(None, flags["config"])
    if flags["reload"]:
        reload_controller(path, flags)
        return
    as_json = flags["log_format"] == "json"
    start_log(quiet=flags["quiet"], verbose=flags["verbose"], as_json=as_json)
    loaded = load(path, takes_pipe=flags["once"] or path == STANDARD_INPUT)
    if flags["once"]:
        ctx.exit(run_once(loaded, flags))
    run_daemon(path, loaded, flags)


def reload_controller(path: str, flags: dict[str, Any]) -> None:
    """Have the running controller take the file, and say what came of it."""
    from reconciler.reload import reload  # noqa: PLC0415  (only where needed)

    root = flags["pin_dir"] or DEFAULT_PIN_ROOT
    name = options.choose_name(None, flags["config"], flags["pin_dir"])
    attempt = reload(root / name, path)
    if not flags["quiet"]:
        say(f"reloaded {name}: {attempt.result} ({attempt.sha256[:12]})")


def run_once(loaded: Loaded, flags: dict[str, Any]) -> ExitCode:
    """Make one pass and print what it did; return the exit code."""
    one = OnePass(loaded, PassOptions.read(flags))
    return one.preview() if flags["dry_run"] else one.apply()


def run_daemon(path: str, loaded: Loaded, flags: dict[str, Any]) -> None:
    """Run the controller until a signal ends it."""
    from reconciler.footprint import release_compiler, return_large_blocks  # noqa: PLC0415
    from reconciler.instance import Instance  # noqa: PLC0415  (BCC: only where needed)
    from reconciler.loop import Loop  # noqa: PLC0415
    from reconciler.notify import Notifier  # noqa: PLC0415

    if path == STANDARD_INPUT:
        raise click.UsageError("standard input can't be watched; use --once")
    return_large_blocks()
    instance = Instance(loaded.config.name, flags["pin_dir"])
    release_compiler()
    if not flags["quiet"]:
        print_warnings(loaded.warnings, loaded)
    with instance.held(timeout_s=flags["lock_timeout"]):
        loop = Loop(
            instance,
            path,
            loaded,
            allow_large_change=flags["allow_large_change"],
            notifier=Notifier(os.environ),
        )
        with loop.signals():
            log_event(logging.INFO, controller="started", pid=os.getpid(), config=path)
            loop.run()
            log_event(logging.INFO, controller="stopped", dataplane="running")
