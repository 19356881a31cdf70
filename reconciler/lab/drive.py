"""Drive a load from one of the laboratory's hosts, and read its samples while it runs."""

from __future__ import annotations

import sys
import threading
from dataclasses import asdict
from types import TracebackType

from reconciler.errors import XdplbError
from reconciler.lab import process
from reconciler.lab.host import Host
from reconciler.lab.load import LoadPlan
from reconciler.lab.sample import Sample, parse_sample
from reconciler.lab.samples import Samples


class Drive:
    """A running load. It stops at the end of its `with` block, if not before."""

    def __init__(self, host: Host, plan: LoadPlan) -> None:
        """Start it.

        Args:
            host: who makes the connections.
            plan: how many, and to whom.
        """
        self.plan = plan
        command = [sys.executable, "-m", "reconciler.lab.load", *_options(plan)]
        self._process = host.popen(command, environment=process.python_environment())
        self._samples: list[Sample] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Drive:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        process.end([self._process], grace_s=self._grace_s)
        self._reader.join()

    @property
    def is_running(self) -> bool:
        """Whether the load still goes on."""
        return self._process.poll() is None

    def samples(self) -> Samples:
        """What is known by now; a tenth of a second may be still on its way."""
        return Samples.collect(tuple(self._samples))

    def wait(self, timeout_s: float) -> Samples:
        """Wait for a load that is bounded by count or duration; all its samples.

        Raises:
            subprocess.TimeoutExpired: it was not ready after `timeout_s` seconds.
            XdplbError: it failed.
        """
        self._process.wait(timeout_s)
        return self._finish()

    def stop(self) -> Samples:
        """Stop the load, wait for the answers that are still out; all its samples.

        Raises:
            XdplbError: it failed.
        """
        process.end([self._process], grace_s=self._grace_s)
        return self._finish()

    @property
    def _grace_s(self) -> float:
        return self.plan.timeout_s + 2.0

    def _finish(self) -> Samples:
        self._reader.join()
        if self._process.returncode != 0:
            raise XdplbError(f"the load ended with {self._process.returncode}")
        return self.samples()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._samples.append(parse_sample(line))


def _options(plan: LoadPlan) -> list[str]:
    values = asdict(plan)
    words = [str(values.pop("address")), str(values.pop("port"))]
    for name, value in values.items():
        if value is not None:
            words.append(f"--{name.replace('_', '-')}={value}")
    return words
