"""`xdplb drain`: take a backend out for maintenance: no new flows, established ones stay."""

from __future__ import annotations

from reconciler.cli.override import make_command
from reconciler.model import BackendState

_HELP = """Give BACKEND no new flows; established ones stay until they end.

    It overrides lb.yaml until `ready` takes it away, or for the time that --for says. A
    running controller puts it on at once; without one, this command makes the pass. The
    file's safety limits apply (exit 5).
    """

drain = make_command(BackendState.DRAIN, _HELP)
