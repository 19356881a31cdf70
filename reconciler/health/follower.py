"""Which health a pass goes by, and when another pass is asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from reconciler.health.effect import NO_JUDGEMENT, Judgement, judge_services
from reconciler.health.standing import Standing
from reconciler.log import log_event
from reconciler.model import Config
from reconciler.overrides import BackendName


class HealthFollower:
    """Judges what is known of the backends' health, for passes.

    Attributes:
        read: returns what is known now; it may be set anew.
        taken: what the last pass went by.
        speaks: whether changes are logged, as the running controller wants it.
    """

    def __init__(self, read: Callable[[], Mapping[BackendName, Standing]]) -> None:
        self.read = read
        self.taken: Judgement = NO_JUDGEMENT
        self.speaks = False
        self._config: Config | None = None

    def take(self, config: Config, now: float) -> Judgement:
        """Return what the backends' health asks for, for a pass with this configuration."""
        standings = self.read()
        judgement = judge_services(config, standings, now)
        if self.speaks:
            self._tell(judgement, standings)
        self.taken, self._config = judgement, config
        return judgement

    def have_changed(self, now: float) -> bool:
        """Whether it asks for something else than the last pass went by."""
        if self._config is None:
            return False
        return judge_services(self._config, self.read(), now) != self.taken

    def measure_rest_s(self, now: float) -> float:
        """Return how long what was taken stays as it is, unless a check says otherwise."""
        due = self.taken.next_step
        return float("inf") if due is None else max(due - now, 0.0)

    def _tell(self, judgement: Judgement, standings: Mapping[BackendName, Standing]) -> None:
        for name in sorted(judgement.down - self.taken.down):
            detail = standings[name].detail
            log_event(logging.WARNING, backend="/".join(name), health="down", reason=detail)
        for name in sorted(self.taken.down - judgement.down):
            if name in standings:
                log_event(logging.INFO, backend="/".join(name), health="up")
        for service in sorted(judgement.panics - self.taken.panics):
            reason = "too few backends are up, all stay in the ring"
            log_event(logging.ERROR, service=service, panic="on", reason=reason)
        for service in sorted(self.taken.panics - judgement.panics):
            log_event(logging.INFO, service=service, panic="off")
