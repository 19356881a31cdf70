"""The programs `xdplb` and `xdplb-reconcile`, and the one place where errors end."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem

from reconciler import __version__
from reconciler.cli.color import heed_no_color, paint
from reconciler.cli.say import find_loss, say
from reconciler.errors import ExitCode, XdplbError

# Verb: its help. A verb's module is imported when it is called, so that `validate`
# pays for neither BCC nor pyroute2.
VERBS = {
    "validate": "Check configuration files; needs no kernel and no root.",
    "plan": "Show what the file would change, and how many slots would move.",
    "apply": "Bring the kernel to the file, once, after a look at the plan.",
    "run": "Be the controller: watch the file and keep the kernel to it.",
    "status": "Show services, backends, verdicts and the last reload.",
    "top": "Watch how fast packets and flows go, and where.",
    "drain": "Give a backend no new flows; established ones stay.",
    "maint": "Give a backend nothing; its connections break at once.",
    "ready": "Give a backend flows again.",
    "wait": "Wait until a backend is drained or ready, or the kernel follows the file.",
    "lookup": "Show which slot and backend a client gets.",
    "export": "Print what the kernel holds as a canonical lb.yaml.",
    "doctor": "Say what is wrong with this machine, and what mends it.",
    "detach": "Take the data plane off the interfaces.",
    "completion": "Print the script by which a shell completes these commands.",
    "demo": "Balance real connections in a laboratory on this machine.",
}


class Verbs(click.Group):
    """A group whose commands are imported on demand."""

    def invoke(self, ctx: click.Context) -> object:
        """Run a verb; an error that has an exit code ends here, where --color still holds."""
        try:
            return _end(super().invoke(ctx))
        except click.exceptions.Exit as error:
            return _end(error.exit_code)
        except XdplbError as error:
            if loss := find_loss():
                say(f"xdplb: {loss}", err=True)
            return _report(error)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        """Return the verbs in the order of use."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return a verb's command."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"reconciler.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer the verbs without importing them, and the options."""
        verbs = [CompletionItem(verb, help=text) for verb, text in VERBS.items()]
        offered = [verb for verb in verbs if verb.value.startswith(incomplete)]
        return [*offered, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="xdplb")
@click.pass_context
def xdplb(ctx: click.Context) -> None:
    """An XDP layer-4 load balancer that is run from one file, lb.yaml."""
    heed_no_color(ctx)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `xdplb` and exit with its code."""
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


def main_reconcile(arguments: Sequence[str] | None = None) -> None:
    """Run `xdplb-reconcile`, which is `xdplb run`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(words if words == ["--version"] else ["run", *words]))


def run(arguments: list[str]) -> int:
    """Run a command line; return its exit code, whatever happens."""
    try:
        code = xdplb.main(arguments, prog_name="xdplb", standalone_mode=False)
    except click.UsageError as error:
        error.show()
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        return _interrupted()
    except SystemExit:
        # click's way out when the reader of a pipe has gone (EPIPE). Who writes more than
        # its output uses `say`, and does not come here.
        return ExitCode.OK
    except Exception as error:
        return _report_unexpected(error, arguments)
    return int(code) if isinstance(code, int) else ExitCode.OK


def _end(result: object) -> int:
    """Return the exit code of a verb that did its job: FAILED if it could not say so."""
    code = result if isinstance(result, int) else ExitCode.OK
    if code in (ExitCode.OK, ExitCode.CHANGES) and (loss := find_loss()):
        say(f"xdplb: {loss}; apart from that it is done", err=True)
        return ExitCode.FAILED
    return code


def _interrupted() -> int:
    say("xdplb: interrupted", err=True)
    return 128 + 2  # as a shell reports SIGINT


def _report(error: XdplbError) -> int:
    render = getattr(error, "render", None)
    if render is not None:
        say(render(paint), err=True)
    code = f" [{error.code}]" if error.code else ""
    say(f"xdplb: {error}{code}", err=True)
    return error.exit_code


def _report_unexpected(error: Exception, arguments: list[str]) -> int:
    if "-v" in arguments or "--verbose" in arguments:
        traceback.print_exception(error)
    what = f"{type(error).__name__}: {error}"
    say(f"xdplb: unexpected: {what}; run it with -v and report what it shows", err=True)
    return ExitCode.FAILED


if __name__ == "__main__":
    main()
