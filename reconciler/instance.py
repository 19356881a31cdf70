"""One running instance: the shell around propose, from the kernel and back to it."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from reconciler.apply import Outcome, apply
from reconciler.dataplane.bpffs import DEFAULT_PIN_ROOT, ensure_bpffs, require_writable
from reconciler.dataplane.kernel import KernelDataplane, read_program
from reconciler.desired import LastPass
from reconciler.disruption import FlowCounts
from reconciler.environment import Environment, describe_differences
from reconciler.errors import (
    Blocked,
    NoPermission,
    Unavailable,
)
from reconciler.health.effect import Judgement
from reconciler.health.follower import HealthFollower
from reconciler.health.store import HealthStore
from reconciler.lock import Hold, hold_lock
from reconciler.log import log_event
from reconciler.memory import Judge, Occupancy, needs_memory, needs_occupancy
from reconciler.model import Config, XdpMode
from reconciler.neighbours import nudge_neighbours
from reconciler.override_store import OverrideFollower, OverrideStore
from reconciler.overrides import Overrides, apply_overrides
from reconciler.plan import Plan, Put
from reconciler.privileges import require_privileges
from reconciler.proposal import Proposal, propose
from reconciler.status import name_state
from reconciler.tables import BackendRow, Tables, make_empty_tables


class Instance:
    """The instance `name`, pinned under `root`.

    Raises:
        NoPermission: this process may not look into the kernel.
        Unavailable: BCC is missing.
    """

    def __init__(self, name: str, root: Path | None = None) -> None:
        require_privileges()
        self.name = name
        self.root = root or DEFAULT_PIN_ROOT
        self.folder = self.root / name
        self.dataplane = KernelDataplane(self.folder)
        self.last_pass = LastPass()
        self.state_name = name_state(name, self.root)
        self.overrides = OverrideFollower(OverrideStore(self.state_name))
        self.health = HealthFollower(HealthStore(self.state_name).read_fresh)
        # Whether an interface may be gone where the program was: the controller goes on
        # with the others. Who makes a single pass is told.
        self.bears_absence = False
        self._hold: Hold | None = None
        self._has_memory = True  # one that ran before may have left some
        self._environment: Environment | None = None  # as the last pass saw it
        self._modes: dict[str, XdpMode] = {}

    @contextmanager
    def held(self, *, timeout_s: float = 0.0) -> Iterator[None]:
        """Be the one writer of this instance while the block runs; makes its folder.

        Raises:
            Locked: another controller is.
            NoPermission: this user may not make pins.
            Unavailable: there is no place to make them in.
        """
        self._make_folder()
        with hold_lock(self.folder, timeout_s=timeout_s) as hold:
            self._hold = hold
            try:
                yield
            finally:
                self.dataplane.close()
                self._hold = None
                self._forget_unused_folder()

    def _make_folder(self) -> None:
        try:
            if not ensure_bpffs(self.root):
                log_event(
                    logging.WARNING,
                    pins="fleeting",
                    reason="the BPF file system was mounted in a mount namespace of its own (ip"
                    " netns exec makes one a command): the data plane ends with its last process;"
                    " use nsenter --net instead, or mount one first and name it with --pin-dir",
                )
            self.folder.mkdir(mode=0o700, exist_ok=True)
        except PermissionError as error:
            raise NoPermission(
                f"cannot make {self.folder}: {error.strerror}", remedy="run as root"
            ) from error
        except OSError as error:
            raise Unavailable(
                f"cannot make {self.folder}: {error.strerror}",
                remedy="see xdplb doctor, or name another place with --pin-dir",
            ) from error
        require_writable(self.folder)

    def _keep_hold(self) -> None:
        """Make the folder again, and hold it, if somebody has removed it with all its pins."""
        if self._hold is None or self._hold.is_there():
            return
        log_event(logging.ERROR, pins="gone", folder=str(self.folder), reason="made anew")
        self.dataplane.close()
        self._make_folder()
        self._hold.renew()

    def _forget_unused_folder(self) -> None:
        with contextlib.suppress(FileNotFoundError):  # somebody else has removed it
            if not any(self.folder.iterdir()):
                self.folder.rmdir()

    def exists(self) -> bool:
        """Whether the instance has been applied and not been detached."""
        try:
            return self.dataplane.exists()
        except PermissionError as error:
            raise NoPermission(
                f"cannot read {self.folder}: {error.strerror}", remedy="run as root"
            ) from error

    # --- looking ---

    def observe(self, ring_slots: int) -> Tables:
        """Return what the kernel holds; empty tables where there is no instance."""
        return self.dataplane.read() if self.exists() else make_empty_tables(ring_slots)

    def look_around(self, interfaces: Iterable[str], observed: Tables) -> Environment:
        """Return what the machine is like, as far as the tables depend on it.

        Raises:
            Unavailable: an interface does not exist, or the program was not built.
        """
        self._modes = {name: one.mode for name, one in observed.attachments.items() if one.ifindex}
        may_be_gone = observed.attachments if self.bears_absence else ()
        environment = self._read_environment(interfaces, may_be_gone)
        if self._environment:
            for fields in describe_differences(self._environment, environment):
                log_event(logging.INFO, **fields)
        self._environment = environment
        return environment

    def have_interfaces_changed(self, config: Config) -> bool:
        """Whether the machine is another than the last pass saw."""
        return self._environment != self._read_environment(config.interfaces, config.interfaces)

    def _read_environment(
        self, interfaces: Iterable[str], may_be_gone: Collection[str]
    ) -> Environment:
        from reconciler import netlink  # noqa: PLC0415  (who only reads maps does not wait for it)

        _, program_sha256 = read_program()
        return netlink.read_environment(interfaces, self._modes, program_sha256, may_be_gone)

    def propose(self, config: Config, overrides: Overrides | None = None) -> Proposal:
        """Compare the file, under the overrides in force, with the kernel; writes nothing.

        `overrides` are those to go by, instead of those that are kept.

        Raises:
            Unavailable: an interface is missing, or pinned maps don't fit.
            XdplbError: the overrides can't be read.
        """
        if overrides is None:
            overrides = self.overrides.take(time.time())
        if self.exists():  # before they are read: maps of another ABI mean something else
            self.dataplane.check_maps(config.limits)
        observed = self.observe(config.limits.ring_slots)
        judgement = self.health.take(apply_overrides(config, overrides), time.time())
        return self._propose(config, observed, overrides, judgement, self._find_occupancy(observed))

    def _propose(
        self,
        config: Config,
        observed: Tables,
        overrides: Overrides,
        judgement: Judgement,
        occupancy: Occupancy | None = None,
    ) -> Proposal:
        return propose(
            config,
            self.look_around(config.interfaces, observed),
            observed,
            now_ns=time.monotonic_ns(),
            last_pass=self.last_pass,
            occupancy=occupancy,
            overrides=overrides,
            judgement=judgement,
        )

    def _find_occupancy(self, observed: Tables) -> Occupancy | None:
        """Look for remembered flows only where there is something to end.

        Once a pass: a slot that it pins may settle in the next one.
        """
        if not needs_occupancy(observed):
            return None
        judge = Judge(observed, time.monotonic_ns())
        return judge.find_occupancy(self.dataplane.read_memory())

    def count_flows(self, observed: Tables) -> FlowCounts:
        """Return how many open flows are remembered, by backend id, shape (65536,)."""
        if not needs_memory(observed):
            return np.zeros(1 << 16, np.int64)
        return self.dataplane.count_flows(observed, time.monotonic_ns())

    # --- doing ---

    def nudge_neighbours(self, backends: Iterable[BackendRow]) -> None:
        """Have the kernel look for the backends' neighbours: XDP never asks for one."""
        nudge_neighbours(row.address for row in backends)

    def reconcile(
        self,
        config: Config,
        *,
        allow_large_change: bool = False,
        verify: bool = True,
        review: Callable[[Proposal], None] | None = None,
    ) -> Outcome:
        """Bring the kernel to the file, verify it, or put back what was.

        The caller holds the instance.

        Args:
            config: what the file says.
            allow_large_change: do what the guard refuses.
            verify: read back what was written, and compare.
            review: looks at the proposal before anything is written, and may raise.

        Raises:
            Blocked: the guard refused; nothing was changed.
            RolledBack: it failed, and the state before it is back.
            Degraded: it failed, and so did putting things back.
            Unavailable: an interface is missing, or pinned maps don't fit.
        """
        self._keep_hold()
        proposal = self.propose(config)
        if review:
            review(proposal)
        if self.exists():
            self._forget_flows(proposal.observed)
        if proposal.objection and not allow_large_change:
            raise Blocked(
                proposal.objection, remedy="if that is what you want: --allow-large-change"
            )
        if not proposal.operations:
            self.nudge_neighbours(proposal.desired.backends.values())
            return Outcome(proposal)
        # Who is new is asked for before anything leads there; for the others nothing changes.
        self.nudge_neighbours(_list_new_backends(proposal.operations))

        def propose_again(observed: Tables) -> Proposal:
            return self._propose(proposal.config, observed, proposal.overrides, proposal.judgement)

        outcome = apply(self.dataplane, proposal, propose_again, verify=verify)
        self.nudge_neighbours(proposal.desired.backends.values())
        return outcome

    def _forget_flows(self, tables: Tables) -> None:
        """Make room in the flow table, until nobody needs it and nothing is left there."""
        needs, forgotten = needs_memory(tables), 0
        if needs or self._has_memory:
            forgotten = self.dataplane.forget_flows(tables, time.monotonic_ns())
        self._has_memory = needs or forgotten > 0

    def detach(self) -> None:
        """Take the program off the interfaces and remove every pin.

        The caller holds the instance.
        """
        self.dataplane.remove()


def _list_new_backends(operations: Plan) -> list[BackendRow]:
    puts = (each for each in operations if isinstance(each, Put) and each.table == "backends")
    return [put.row for put in puts]
