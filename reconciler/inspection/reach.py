"""The ways to the backends of a configuration, and whether they answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping

from reconciler import netlink
from reconciler.diagnosis.case import list_serving
from reconciler.diagnosis.facts import Reach, Way
from reconciler.errors import Overdue
from reconciler.inspection.questions import ask_backends
from reconciler.lab.waiting import wait_until
from reconciler.model import Config, IPAddress, Protocol

_ANSWER_TIMEOUT_S = 1.0
_ANSWERS_DEADLINE_S = 2.0
_NEIGHBOURS_DEADLINE_S = 1.0


def look_at_reach(config: Config) -> Reach:
    """Return how each backend is reached, whatever service it is of.

    Neighbours are asked for first, and looked at when the backends have answered: one
    that nobody needed until now is known by then.
    """
    serving = [(s, backend) for s in config.services for backend in list_serving(s)]
    ways = netlink.find_ways({backend.address for _, backend in serving})
    netlink.nudge_ways(ways)
    started_s = time.monotonic()
    answers = ask_backends(
        {(backend.address, backend.port) for s, backend in serving if s.protocol is Protocol.TCP},
        timeout_s=_ANSWER_TIMEOUT_S,
        deadline_s=_ANSWERS_DEADLINE_S,
    )
    left_s = started_s + _NEIGHBOURS_DEADLINE_S - time.monotonic()
    return Reach(ways, _find_neighbours(ways, left_s), answers, _ANSWER_TIMEOUT_S)


def _find_neighbours(ways: Mapping[IPAddress, Way], timeout_s: float) -> dict[IPAddress, bool]:
    """Who is still looked for gets the rest of the time to answer."""
    known: dict[IPAddress, bool] = {}

    def are_known() -> bool:
        known.update(netlink.find_neighbours(ways))
        return all(known.values())

    with contextlib.suppress(Overdue):  # who answers is what there is to find out
        wait_until(are_known, "every neighbour answers", timeout_s)
    return known
