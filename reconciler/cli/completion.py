"""`xdplb completion`: the script by which a shell completes our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from reconciler.cli import options
from reconciler.cli.say import show

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@options.verbose_option
@click.pass_context
def completion(
    ctx: click.Context,
    *,
    shell: str,
    verbose: bool,  # noqa: ARG001  (the error boundary looks for it)
) -> None:
    """Print the completion script of a shell.

    bash reads it from /etc/bash_completion.d/xdplb, zsh from a file _xdplb in a
    directory of its fpath, fish from ~/.config/fish/completions/xdplb.fish.
    """
    root = ctx.find_root()
    name = str(root.info_name)
    kind = get_completion_class(shell)
    assert kind is not None  # click knows all of SHELLS
    # The name of the variable is the one that click's `main` looks for.
    script = kind(root.command, {}, name, f"_{name}_COMPLETE".upper())
    show(script.source())
