"""What commands say, and what becomes of it where it can't be written.

A command that writes does what it was asked for, whoever listens, and ends with FAILED
if it could not `say` so. One that only prints ends with its reader, as click has it, and
with an error where `show` finds another reason.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from reconciler.errors import XdplbError

_LOST = "reconciler.cli.say.lost"


def say(text: str, *, err: bool = False) -> None:
    """Print a line; if that fails, go on and let `find_loss` tell."""
    try:
        click.echo(text, err=err)
    except OSError as error:
        note_loss(_lose_output(error, err=err))


def show(text: str, *, nl: bool = True) -> None:
    """Print what a command that only prints was asked for.

    Raises:
        BrokenPipeError, XdplbError: as `showing`.
    """
    with showing():
        click.echo(text, nl=nl)


@contextmanager
def showing() -> Iterator[None]:
    """Have a standard output that can't be written end the command.

    Raises:
        BrokenPipeError: the reader has gone: no more is wanted.
        XdplbError: it can't be written.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        remedy = "make room there, or send it elsewhere"
        raise XdplbError(_lose_output(error, err=False), remedy=remedy) from None


def note_loss(message: str) -> None:
    """Keep in mind what was not written, and why, until the command ends."""
    context = click.get_current_context(silent=True)
    if context is not None:  # else it has ended already
        context.meta[_LOST] = message


def find_loss() -> str | None:
    """Return what this command could not say, and why; None if it said everything."""
    loss: str | None = click.get_current_context().meta.get(_LOST)
    return loss


def _lose_output(error: OSError, *, err: bool) -> str:
    _discard_output(sys.stderr.fileno() if err else sys.stdout.fileno())
    return f"cannot write standard {'error' if err else 'output'}: {error.strerror}"


def _discard_output(number: int) -> None:
    """Let what is still buffered go nowhere: at the process's end it would fail again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, number)
    finally:
        os.close(nowhere)
