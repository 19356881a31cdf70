"""What commands that write say: a reader that went away decides nothing.

Such a command does what it was asked for, whoever listens, and ends with FAILED if it
could not say so. Commands that only print end with their reader, as click has it.
"""

from __future__ import annotations

import os
import sys

import click

_LOST = "reconciler.cli.say.lost"


def say(text: str, *, err: bool = False) -> None:
    """Print a line; if that fails, go on and let `find_loss` tell."""
    try:
        click.echo(text, err=err)
    except OSError as error:
        _discard_output(sys.stderr.fileno() if err else sys.stdout.fileno())
        note_loss(f"cannot write standard {'error' if err else 'output'}: {error.strerror}")


def note_loss(message: str) -> None:
    """Keep in mind what was not written, and why, until the command ends."""
    context = click.get_current_context(silent=True)
    if context is not None:  # else it has ended already
        context.meta[_LOST] = message


def find_loss() -> str | None:
    """Return what this command could not say, and why; None if it said everything."""
    loss: str | None = click.get_current_context().meta.get(_LOST)
    return loss


def _discard_output(number: int) -> None:
    """Let what is still buffered go nowhere: at the process's end it would fail again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, number)
    finally:
        os.close(nowhere)
