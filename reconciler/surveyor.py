"""Takes surveys: reads the pins of an instance, and what its controller left of itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reconciler import memory
from reconciler.dataplane.bpffs import DEFAULT_PIN_ROOT
from reconciler.dataplane.kernel import KernelDataplane
from reconciler.dataplane.libbpf import KernelRefused
from reconciler.dataplane.pins import Pins
from reconciler.errors import NoPermission, XdplbError
from reconciler.fingerprint import Fingerprints, fingerprint_rings
from reconciler.health.store import HealthStore
from reconciler.history import History
from reconciler.lock import find_holder
from reconciler.override_store import OverrideStore
from reconciler.overrides import Overrides
from reconciler.status import RUN_ROOT, name_state, read_status
from reconciler.survey import (
    Controller,
    Fill,
    Findings,
    Health,
    Survey,
    compose_survey,
    measure_fills,
)
from reconciler.tables import Tables

_READ_FROM = ("service_info", "backends", "endpoints")
_MEMORY = ("flows", "strays")


class Surveyor:
    """Takes surveys of the instance `name`, pinned under `root`.

    It has descriptors of its own, so that surveys may be taken beside the thread that
    writes, by any thread, one at a time. They are kept until the instance is taken down:
    what has not changed is then not read out of its bytes again.

    Args:
        name: the instance.
        root: where instances are pinned.
        state_root: where controllers leave their accounts, by instance.
        find_health: says what checks have found; by itself, what a controller that runs
            has written down.
    """

    def __init__(
        self,
        name: str,
        root: Path | None = None,
        *,
        state_root: Path | None = None,
        find_health: Callable[[], Health] | None = None,
    ) -> None:
        self.name = name
        self.folder = (root or DEFAULT_PIN_ROOT) / name
        self._state_root = state_root or RUN_ROOT
        self._state_name = name if state_root else name_state(name, self.folder.parent)
        self._find_health = find_health or self._read_health
        self._dataplane: KernelDataplane | None = None
        self._pinned = (0, 0)  # what the descriptors are of
        self._tables, self._fingerprints = Tables(), fingerprint_rings(Tables())

    def close(self) -> None:
        """Give back every descriptor; another survey takes new ones."""
        if self._dataplane is not None:
            self._dataplane.close()
        self._dataplane = None

    def take(self) -> Survey | None:
        """Return what the instance is like now; None where there is none.

        Raises:
            NoPermission: this process may not look into the kernel.
            XdplbError: the kernel does not let itself be read.
        """
        try:
            dataplane = self._open()
            return compose_survey(self._look(dataplane)) if dataplane else None
        except PermissionError as error:
            raise NoPermission(
                f"cannot read {self.folder}: {error.strerror}", remedy="run as root"
            ) from error
        except (KernelRefused, OSError) as error:
            self.close()
            if not Pins(self.folder).maps.exists():  # it was taken down meanwhile
                return None
            raise XdplbError(f"cannot read instance {self.name}: {error}") from error

    def _open(self) -> KernelDataplane | None:
        """The pins as they are now: an instance may have been made anew."""
        dataplane = self._dataplane or KernelDataplane(self.folder)
        try:
            pinned = dataplane.pins.maps.stat()
        except FileNotFoundError:
            self.close()
            return None
        place = pinned.st_dev, pinned.st_ino
        if place != self._pinned:
            self.close()
            dataplane, self._pinned = KernelDataplane(self.folder), place
        self._dataplane = dataplane
        return dataplane

    def _fingerprint(self, tables: Tables) -> Fingerprints:
        """Digest the rings, if they are not as they were: that takes a while."""
        if not _are_same_rings(self._tables, tables):
            self._tables, self._fingerprints = tables, fingerprint_rings(tables)
        return self._fingerprints

    def _look(self, dataplane: KernelDataplane) -> Findings:
        tables, now_ns = dataplane.read(), time.monotonic_ns()
        overrides, problem = self._read_overrides()
        connections, remembered = _read_memory(dataplane, tables, now_ns)
        capacities = {name: dataplane.read_capacity(name) for name in (*_READ_FROM, *_MEMORY)}
        fills = measure_fills(tables, capacities)
        fills |= {name: Fill(remembered[name], capacities[name]) for name in _MEMORY}
        return Findings(
            name=self.name,
            at=time.time(),
            now_ns=now_ns,
            tables=tables,
            fingerprints=self._fingerprint(tables),
            backend_stats=dataplane.read_counters("backend_stats"),
            verdicts=dataplane.read_counters("verdicts"),
            flow_events=dataplane.read_counters("flow_events"),
            connections=connections,
            fills=fills,
            controller=self._find_controller(),
            overrides=overrides,
            overrides_problem=problem,
            health=self._find_health(),
            history=tuple(History(self._state_name).read()),
        )

    def _find_controller(self) -> Controller:
        account = read_status(self._state_name, self._state_root)
        conditions = account.conditions if account else ()
        return Controller(find_holder(self.folder), account, conditions)

    def _read_health(self) -> Health:
        stored = HealthStore(self._state_name, self._state_root).read()
        return Health(stored.standings) if stored.is_fresh(time.time()) else Health()

    def _read_overrides(self) -> tuple[Overrides, str | None]:
        """Those that are kept; or the problem."""
        try:
            return OverrideStore(self._state_name, self._state_root).read(), None
        except XdplbError as error:
            return (), str(error)


def _are_same_rings(one: Tables, other: Tables) -> bool:
    """Whether two tables have the same in everything that a fingerprint is of."""
    names = ("settings", "services", "backends", "backend_info")
    return all(one.rows(name) == other.rows(name) for name in names) and np.array_equal(
        one.slots, other.slots
    )


def _read_memory(
    dataplane: KernelDataplane, tables: Tables, now_ns: int
) -> tuple[NDArray[np.int64], dict[str, int]]:
    """Open flows by backend id, and entries by map: the maps are large, and read once."""
    entries = dict.fromkeys(_MEMORY, 0)

    def read_parts() -> Iterator[memory.Part]:
        for part in dataplane.read_memory():
            entries["strays" if part.are_strays else "flows"] += len(part.flows)
            yield part

    return memory.Judge(tables, now_ns).count_open(read_parts()), entries
