"""`xdplb ready`: let a backend take flows again."""

from __future__ import annotations

from reconciler.cli.override import make_command
from reconciler.model import BackendState

_HELP = """Give BACKEND flows again, and take an override of it away.

    Where lb.yaml itself says drain or maint, this is an override; ask for the state that
    the file says (`xdplb drain`) to take it away.
    """

ready = make_command(BackendState.READY, _HELP)
