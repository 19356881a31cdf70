"""Serves metrics where the file says, as long as it says so."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.config.values import format_address_port
from reconciler.log import log_event
from reconciler.metrics.lookout import Lookout
from reconciler.metrics.recorder import Recorder
from reconciler.model import Config, Metrics
from reconciler.survey import Health
from reconciler.surveyor import Surveyor

if TYPE_CHECKING:
    from reconciler.metrics.server import MetricsServer


class MetricsService:
    """The server of one instance's metrics, which follows the configuration.

    It never takes the data plane down: where it can't listen, it says so once, and tries
    again whenever it is told to follow.

    Args:
        name: the instance.
        root: where instances are pinned.
        recorder: what the controller tells.
        find_health: says what checks have found.
        state_root: where controllers leave their accounts.

    Attributes:
        problem: why nothing is served; empty if it is, or is not to be.
    """

    def __init__(
        self,
        name: str,
        root: Path | None,
        recorder: Recorder,
        *,
        find_health: Callable[[], Health] | None = None,
        state_root: Path | None = None,
    ) -> None:
        surveyor = Surveyor(name, root, state_root=state_root, find_health=find_health)
        self._name = name
        self._lookout = Lookout(surveyor.take, surveyor.close)
        self._recorder = recorder
        self._server: MetricsServer | None = None
        self._place: Metrics | None = None  # where the server listens
        self.problem = ""

    def follow(self, config: Config) -> None:
        """Serve where this configuration says, from now on."""
        wanted = config.metrics
        if self._server is not None and self._place == wanted:
            return
        if wanted.address is None:
            self.close()
            return
        if self._server is not None and _is_same_place(self._place, wanted):
            self._place = wanted
            return
        self._stop()
        self._start(wanted)

    def _start(self, wanted: Metrics) -> None:
        from reconciler.metrics.server import Answers, MetricsServer  # noqa: PLC0415  (heavy)

        assert wanted.address is not None
        place = format_address_port(wanted.address, wanted.port)
        answers = Answers(self._name, self._lookout, self._recorder.list_facts)
        try:
            self._server = MetricsServer(wanted.address, wanted.port, answers)
        except OSError as error:
            self._complain(f"cannot listen on {place}: {error.strerror or error}", wanted)
            return
        self._server.start()
        self._place = wanted
        self.problem = ""
        log_event(logging.INFO, metrics="on", listen=place)

    def _complain(self, problem: str, wanted: Metrics) -> None:
        if problem == self.problem:
            return
        self.problem = problem
        if wanted.is_named:
            log_event(logging.ERROR, metrics="off", reason=problem)
        else:
            hint = "another instance? give this one a place of its own: metrics.listen"
            log_event(logging.WARNING, metrics="off", reason=problem, hint=hint)

    def close(self) -> None:
        """Serve nothing any more."""
        if self._server is not None:
            log_event(logging.INFO, metrics="off")
        self._stop()
        self.problem = ""

    def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._lookout.close()
        self._server = self._place = None


def _is_same_place(one: Metrics | None, other: Metrics) -> bool:
    return one is not None and (one.address, one.port) == (other.address, other.port)
