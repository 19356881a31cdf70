"""The programs themselves, on a balancer of a laboratory, and clocks beside them."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.control.figures import Figure
from bench.control.fleet import BACKENDS_ROUTE, Fleet
from reconciler.dataplane.kernel import KernelDataplane
from reconciler.errors import XdplbError
from reconciler.lab import Lab, Topology
from reconciler.lab import process as processes
from reconciler.lab.controller import find_program
from reconciler.lab.waiting import wait_until
from reconciler.override_store import OverrideStore
from reconciler.overrides import Overrides
from reconciler.tables import ring_extents

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_TIMEOUT_S = 120.0
_POLL_S = 0.0005


class Balancer:
    """A laboratory's balancer with an lb.yaml, and its controller while one runs.

    Attributes:
        lab: the laboratory.
        config: the lb.yaml.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.config = lab.directory / "lb.yaml"
        self._controller: subprocess.Popen[str] | None = None
        gateway = str(lab.backends[0].address)
        lab.balancer.run(["ip", "route", "replace", BACKENDS_ROUTE, "via", gateway])

    @property
    def _mounts(self) -> Path:
        return Path(f"/proc/{self.lab.balancer.mounts_pid}/root")

    # --- the file ---

    def write(self, text: str) -> int:
        """Replace lb.yaml in one step; return when, in ns of CLOCK_MONOTONIC."""
        return replace_file(self.config, text)

    # --- programs ---

    def measure(self, figure: Figure, *words: str) -> None:
        """Run `xdplb` to its end, and add how long that took to a figure.

        Raises:
            XdplbError: it failed.
        """
        command = [*find_program("xdplb"), *words]
        cpu_s, begun = _read_children_cpu_s(), time.perf_counter()
        done = self.lab.balancer.run(
            command, check=False, timeout_s=_TIMEOUT_S, environment=processes.python_environment()
        )
        figure.values.append(time.perf_counter() - begun)
        figure.cpu_s.append(_read_children_cpu_s() - cpu_s)
        if done.returncode:
            raise XdplbError(f"{' '.join(command)}: {done.stderr[-2000:]}")

    @contextlib.contextmanager
    def controller(self, text: str) -> Iterator[float]:
        """Run the controller while the block does, on a machine without an instance.

        Gives the seconds from its start to the end of its first pass.
        """
        self.write(text)
        log = self.lab.directory / "controller.log"
        with log.open("w", encoding="utf-8") as words:
            begun = time.perf_counter()
            self._controller = self.lab.balancer.popen(
                [*find_program("xdplb-reconcile", "run"), "-c", str(self.config)],
                stdout=words,
                stderr=subprocess.STDOUT,
                environment=processes.python_environment(),
            )
        try:
            wait_until(self._has_passed, f"the first pass ends ({log})", _TIMEOUT_S)
            yield time.perf_counter() - begun
        finally:
            processes.end([self._controller], grace_s=30)
            self._controller = None
            self._take_down()

    def _has_passed(self) -> bool:
        if self._controller is None or self._controller.poll() is not None:
            log = self.lab.directory / "controller.log"
            raise XdplbError(f"the controller ended:\n{log.read_text(encoding='utf-8')[-4000:]}")
        return self.read_account().get("pid") == self._controller.pid

    def _take_down(self) -> None:
        self.measure(Figure("detach", "s"), "detach", "--name", "default")
        with contextlib.suppress(FileNotFoundError):
            self._account_path.unlink()

    # --- the controller's own account ---

    @property
    def _account_path(self) -> Path:
        return self._mounts / "run/xdplb/default/status.json"

    def override(self, overrides: Overrides) -> None:
        """Have these overrides in force, and no others."""
        OverrideStore("default", self._mounts / "run/xdplb").change(
            lambda _: overrides, time.time()
        )

    def read_account(self) -> dict[str, Any]:
        """Return status.json; empty before the first pass."""
        with contextlib.suppress(FileNotFoundError):
            document: dict[str, Any] = json.loads(self._account_path.read_text(encoding="utf-8"))
            return document
        return {}

    def await_pass(self, before_ns: int) -> int:
        """Return when the account was next written after `before_ns`; both CLOCK_REALTIME."""
        deadline = time.monotonic() + _TIMEOUT_S
        while (written_ns := self._read_written_ns()) <= before_ns:
            if time.monotonic() > deadline:
                raise XdplbError("no pass has ended")
            time.sleep(_POLL_S)
        return written_ns

    def _read_written_ns(self) -> int:
        return self._account_path.stat().st_mtime_ns

    def time_reload(self) -> float:
        """Have it read the file and make a pass; return the seconds that took."""
        before_ns = self._read_written_ns()
        begun = time.perf_counter()
        os.kill(self.pid, signal.SIGHUP)
        self.await_pass(before_ns)
        return time.perf_counter() - begun

    def time_resync(self, resync_s: float) -> float:
        """Return the seconds of a pass that the clock has begun, `resync_s` after another."""
        first_ns = self.await_pass(self._read_written_ns())
        return (self.await_pass(first_ns) - first_ns) / 1e9 - resync_s

    @property
    def pid(self) -> int:
        """The controller's process."""
        assert self._controller is not None
        return self._controller.pid

    def read_memory_mb(self, key: str = "VmRSS") -> float:
        """Return the controller's memory, in MB of 10^6 bytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024 / 1e6
        raise XdplbError(f"no {key} of process {self.pid}")

    def read_cpu_s(self) -> float:
        """Return how long the controller has computed."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2]
        return sum(map(int, fields.split()[11:13])) * _TICK_S

    # --- the kernel ---

    @contextlib.contextmanager
    def slots(self, service: str) -> Iterator[SlotWatch]:
        """Give what a service's slots are, as they change."""
        dataplane = KernelDataplane(self._mounts / "sys/fs/bpf/xdplb/default")
        with contextlib.closing(dataplane):
            tables = dataplane.read()
            names = {info.name: number for number, info in tables.service_info.items()}
            yield SlotWatch(dataplane.slots[ring_extents(tables)[names[service]]])


class SlotWatch:
    """Live slots of one ring, shape (n,)."""

    def __init__(self, live: NDArray[np.uint32]) -> None:
        self._live = live
        self._before = live.copy()

    def await_change(self) -> int:
        """Return when the last of the slots was written, in ns of CLOCK_MONOTONIC.

        A change begins when some slot differs from what was seen last, and has ended when
        two looks see the same.
        """
        deadline_ns = time.monotonic_ns() + int(_TIMEOUT_S * 1e9)
        seen_ns, seen = 0, self._before
        while time.monotonic_ns() < deadline_ns:
            now_ns, now = time.monotonic_ns(), self._live.copy()
            if seen_ns and np.array_equal(now, seen):
                self._before = now
                return seen_ns
            if not np.array_equal(now, self._before):
                seen_ns, seen = now_ns, now
            time.sleep(_POLL_S)
        raise XdplbError("no slot has changed")


def _read_children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def replace_file(path: Path, text: str) -> int:
    """Put a file in the place of another; return when, in ns of CLOCK_MONOTONIC."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text, encoding="utf-8")
    begun_ns = time.monotonic_ns()
    beside.replace(path)
    return begun_ns


@contextlib.contextmanager
def make_balancer() -> Iterator[Balancer]:
    """Give a balancer in a laboratory of its own."""
    with Lab(Topology(arms=2, backends=1)) as lab:
        yield Balancer(lab)


def save_fleet(folder: Path, fleet: Fleet, name: str = "lb.yaml") -> Path:
    """Write a fleet's lb.yaml into a folder; return its path."""
    path = folder / name
    path.write_text(fleet.render(), encoding="utf-8")
    return path
