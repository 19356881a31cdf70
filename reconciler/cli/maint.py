"""`xdplb maint`: take a backend out at once, and its connections with it."""

from __future__ import annotations

from reconciler.cli.override import make_command
from reconciler.model import BackendState

_HELP = """Give BACKEND nothing any more: its connections break at once.

    `drain` is the gentle way. Overrides, ends and limits are as there.
    """

maint = make_command(BackendState.MAINT, _HELP)
