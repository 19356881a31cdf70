"""A stretch of time in which one lb.yaml stood, and what the load should have seen in it."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.lab.samples import Samples


@dataclass(frozen=True, slots=True)
class RingMove:
    """What a plan says of a ring; all in slots."""

    service: str
    size: int
    moved: int
    least: int


@dataclass(frozen=True, slots=True)
class Phase:
    """One file's time.

    Attributes:
        title: the edit that began it.
        weights: of the backends in the file, by address.
        saved_s: when the file was written, on the monotonic clock, in seconds.
        settled_s: when the kernel was seen to follow it.
        end_s: when the next file was written, or the load stopped.
        moves: what the plan announced, a ring each; empty for the first phase.
    """

    title: str
    weights: dict[str, int]
    saved_s: float
    settled_s: float
    end_s: float
    moves: tuple[RingMove, ...] = ()

    @property
    def expected(self) -> dict[str, float]:
        """Share of new connections that each backend should get, as parts of one."""
        total = sum(self.weights.values())
        return {backend: weight / total for backend, weight in self.weights.items()}

    def measured(self, samples: Samples) -> dict[str, float]:
        """Share of new connections that each backend got while the file stood."""
        return samples.new.between(self.settled_s, self.end_s).shares()
