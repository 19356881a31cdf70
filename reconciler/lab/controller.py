"""xdplb itself, run on the laboratory's balancer as its users run it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.errors import Overdue, XdplbError
from reconciler.lab import process
from reconciler.lab.lab import Lab
from reconciler.lab.phase import RingMove
from reconciler.lab.waiting import wait_until

_LAST_LINES = 12


@dataclass(frozen=True, slots=True)
class PlanReport:
    """What `xdplb plan --json` says, as far as the laboratory asks.

    Attributes:
        in_sync: whether the kernel follows the file.
        changes: address and actions of each change, in the plan's order.
        moves: slots moved, a ring each.
    """

    in_sync: bool
    changes: tuple[tuple[str, str], ...]
    moves: tuple[RingMove, ...]

    @classmethod
    def parse(cls, document: dict[str, Any]) -> PlanReport:
        """Read the document of a plan.

        Raises:
            KeyError: a key that plans promise is missing.
        """
        changes = tuple(
            (each["address"], ", ".join(each["actions"])) for each in document["changes"]
        )
        moves = tuple(
            RingMove(ring["service"], ring["size"], ring["slots_moved"], ring["slots_moved_min"])
            for ring in document["rings"]
        )
        return cls(document["in_sync"], changes, moves)


class Controller:
    """`xdplb-reconcile` as a daemon, and the commands that look at what it does.

    Attributes:
        config: the lb.yaml that it watches.
        log: where its words go.
    """

    def __init__(self, lab: Lab, config: Path) -> None:
        """Start it. `config` is an absolute path outside /run and /var/lib."""
        self.lab, self.config = lab, config
        self.log = lab.directory / "controller.log"
        with self.log.open("w", encoding="utf-8") as log:
            self._process = lab.balancer.popen(
                [*find_program("xdplb-reconcile", "run"), "-c", str(config)],
                stdout=log,
                stderr=subprocess.STDOUT,
                environment=process.python_environment(),
            )

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run an `xdplb` command on the balancer, whatever it ends with."""
        command = [*find_program("xdplb"), *words]
        environment = process.python_environment()
        return self.lab.balancer.run(command, check=False, environment=environment)

    def plan(self, config: Path | None = None) -> PlanReport:
        """Ask what a file would change now; the controller's own file by default.

        Raises:
            XdplbError: the command failed.
        """
        done = self.run("plan", "-c", str(config or self.config), "--json")
        if done.returncode != 0:
            raise XdplbError(f"xdplb plan ended with {done.returncode}: {done.stderr.strip()}")
        return PlanReport.parse(json.loads(done.stdout))

    def save(self, text: str) -> None:
        """Replace the file in one step, as editors and pipelines do."""
        beside = self.config.with_name(f".{self.config.name}.new")
        beside.write_text(text, encoding="utf-8")
        beside.replace(self.config)

    def wait_in_sync(self, timeout_s: float = 30.0) -> None:
        """Return when the kernel follows the file.

        Raises:
            Overdue: it did not in time; with its last words.
            XdplbError: the controller has ended; with its last words.
        """
        try:
            wait_until(self._is_in_sync, "the controller applies lb.yaml", timeout_s)
        except Overdue as error:
            raise Overdue(f"{error}; its last words:\n{self._last_words()}") from None

    def stop(self) -> None:
        """End it as a service manager would; traffic goes on."""
        process.end([self._process])

    def _is_in_sync(self) -> bool:
        if self._process.poll() is not None:
            code = self._process.returncode
            raise XdplbError(f"the controller ended with {code}:\n{self._last_words()}")
        return self.plan().in_sync

    def _last_words(self) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8").splitlines()[-_LAST_LINES:])


def find_program(name: str, *verb: str) -> list[str]:
    """The words that run one of our programs: the installed one, or this package's.

    Args:
        name: of the installed program.
        verb: what `xdplb` is told to do the same.
    """
    installed = Path(sys.executable).with_name(name)
    if installed.is_file():
        return [str(installed)]
    return [sys.executable, "-m", "reconciler.cli.main", *verb]
