"""Which health a pass goes by."""

from __future__ import annotations

from reconciler.health.effect import NO_JUDGEMENT, Judgement
from reconciler.model import Config


class HealthFollower:
    """Nobody is checked yet."""

    def take(self, config: Config, now: float) -> Judgement:  # noqa: ARG002
        """Return what the backends' health asks for, for a pass with this configuration."""
        return NO_JUDGEMENT
