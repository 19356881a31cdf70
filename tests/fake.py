"""An instance whose kernel is `plan.step`: every pass of the controller, and no machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from reconciler.desired import LastPass
from reconciler.environment import Environment, imagine_environment
from reconciler.health.follower import HealthFollower
from reconciler.instance import Instance
from reconciler.memory import Part
from reconciler.model import Config, Limits
from reconciler.override_store import OverrideFollower, OverrideStore
from reconciler.overrides import Overrides
from reconciler.plan import Operation, step
from reconciler.proposal import Proposal
from reconciler.tables import BackendRow, Tables, make_empty_tables


class FakeDataplane:
    """Stands for `KernelDataplane`. `write` may be replaced by something that fails."""

    def __init__(self) -> None:
        self.tables: Tables | None = None

    def exists(self) -> bool:
        return self.tables is not None

    def create(self, limits: Limits) -> None:
        if self.tables is None:
            self.tables = make_empty_tables(limits.ring_slots)

    def check_maps(self, limits: Limits) -> None:
        assert self.tables is not None
        assert len(self.tables.slots) == limits.ring_slots

    def read(self) -> Tables:
        assert self.tables is not None
        return self.tables

    def write(self, operation: Operation) -> None:
        assert self.tables is not None
        self.tables = step(self.tables, operation)

    def remove(self) -> None:
        self.tables = None

    def read_memory(self) -> Iterator[Part]:
        yield from ()

    def count_flows(self, _tables: Tables, _now_ns: int) -> Any:
        return np.zeros(1 << 16, np.int64)

    def forget_flows(self, _tables: Tables, _now_ns: int) -> int:
        return 0

    def forget_old_programs(self) -> None:
        pass

    def close(self) -> None:
        pass


class FakeInstance(Instance):
    """`Instance` as it is, on a fake data plane and a machine that has what is asked for."""

    def __init__(self, dataplane: FakeDataplane, name: str = "default") -> None:
        self.name = self.state_name = name
        self.root = self.folder = Path("/nowhere")
        self.dataplane = dataplane  # type: ignore[assignment]
        self.last_pass = LastPass()
        self.overrides = OverrideFollower(OverrideStore(name, self.root))
        self.health = HealthFollower(dict)
        self._has_memory = True
        self._hold = None
        self.config: Config | None = None

    @contextmanager
    def held(self, *, timeout_s: float = 0.0) -> Iterator[None]:  # noqa: ARG002
        yield

    def propose(self, config: Config, overrides: Overrides | None = None) -> Proposal:
        self.config = config
        return super().propose(config, overrides)

    def nudge_neighbours(self, backends: Iterable[BackendRow]) -> None:
        pass

    def look_around(self, _interfaces: Any, _observed: Tables) -> Environment:
        assert self.config is not None
        return imagine_environment(self.config)
