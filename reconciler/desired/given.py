"""What one pass starts from."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.environment import Environment
from reconciler.memory import Occupancy
from reconciler.model import Config, Service
from reconciler.tables import Tables


@dataclass(frozen=True)
class Given:
    """All that desired tables follow from.

    Attributes:
        config: what the file says.
        environment: what the machine is like.
        observed: what the kernel holds; its slots have shape (limits.ring_slots,).
        now_ns: CLOCK_MONOTONIC.
        occupancy: where remembered flows live; None if nobody has looked.
    """

    config: Config
    environment: Environment
    observed: Tables
    now_ns: int
    occupancy: Occupancy | None


def timeout_ns(service: Service) -> int:
    """Return the service's `drain_timeout`."""
    return int(service.drain_timeout_s * 1e9)
