"""Apply: write what a proposal plans, read it back and compare, commit or roll back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from reconciler.dataplane.kernel import KernelDataplane
from reconciler.diagnostics import Diagnostic
from reconciler.errors import Degraded, ExitCode, RolledBack, XdplbError
from reconciler.model import XdpMode
from reconciler.plan import Operation, Plan, Store, diff
from reconciler.proposal import Proposal
from reconciler.tables import Endpoint, Tables

# Attaching can change what an interface can do; settled after one more look.
_ROUNDS = 3
# Differences that a message names; the others are counted.
_SHOWN = 3


@dataclass(frozen=True)
class Outcome:
    """What one pass found and did.

    `writes` counts the operations carried out, upkeep included. `last_look` is
    the proposal that verified them: nothing was left to do.
    """

    proposal: Proposal
    writes: int = 0
    last_look: Proposal | None = None

    @property
    def is_changed(self) -> bool:
        """Whether the pass brought the kernel to the file."""
        return bool(self.writes and self.proposal.changes)

    @property
    def result(self) -> Tables:
        """What the kernel holds after the pass, as far as anybody has looked."""
        if self.last_look:
            return self.last_look.observed
        return self.proposal.desired if self.writes else self.proposal.observed

    @property
    def advice(self) -> tuple[Diagnostic, ...]:
        """What about the machine will disappoint, as it is after the pass."""
        return (self.last_look or self.proposal).advice


def apply(
    dataplane: KernelDataplane,
    proposal: Proposal,
    propose_again: Callable[[Tables], Proposal],
    *,
    verify: bool,
) -> Outcome:
    """Carry out the proposal, verify it, or put back what was.

    Args:
        dataplane: where it is written to.
        proposal: what is planned, made from what the data plane holds.
        propose_again: makes a proposal for the same, from what the kernel holds now.
        verify: read back what was written, and compare.

    Raises:
        RolledBack: it failed, and the state before it is back.
        Degraded: it failed, and so did putting things back.
        XdplbError: it failed, and nothing stood before.
    """
    existed = dataplane.exists()
    try:
        dataplane.create(proposal.config.limits)
        writes, last_look = _converge(dataplane, proposal, propose_again, verify=verify)
    except XdplbError as error:
        _roll_back(dataplane, proposal.observed, existed, error)
        raise
    except OSError as error:
        failure = XdplbError(str(error))
        _roll_back(dataplane, proposal.observed, existed, failure)
        raise failure from error
    dataplane.forget_old_programs()
    return Outcome(proposal, writes, last_look)


def _converge(
    dataplane: KernelDataplane,
    proposal: Proposal,
    propose_again: Callable[[Tables], Proposal],
    *,
    verify: bool,
) -> tuple[int, Proposal | None]:
    """Carry out the plan and see that nothing is left to do.

    Returns the number of writes and the proposal that found nothing left, if it
    was looked for.
    """
    writes = _write(dataplane, proposal.operations)
    if not verify:
        return writes, None
    observed = dataplane.read()
    if differences := _describe_differences(proposal.desired, observed):
        raise XdplbError(f"read back, the kernel differs from the plan: {differences}")
    for _ in range(_ROUNDS):
        left = propose_again(observed)
        if left.changes:
            what = ", ".join(change.address for change in left.changes)
            raise XdplbError(f"read back, the kernel differs from the plan: {what}")
        if not left.operations:
            return writes, left
        writes += _write(dataplane, left.operations)
        observed = dataplane.read()
    rest = ", ".join(map(str, left.operations))
    raise XdplbError(f"read back, the tables do not settle; left to do: {rest}")


def _write(dataplane: KernelDataplane, operations: Plan) -> int:
    for operation in operations:
        dataplane.write(operation)
    return len(operations)


def _roll_back(
    dataplane: KernelDataplane, before: Tables, existed: bool, error: XdplbError
) -> None:
    """Put back what stood before; raise what the caller shall see.

    Returns where nothing stood before and the error says itself what is lacking here.
    """
    remaining: Plan = ()
    try:
        if existed:
            _write(dataplane, diff(before, dataplane.read()))
            remaining = diff(before, dataplane.read())
        else:
            dataplane.remove()
    except (XdplbError, OSError) as second:
        raise Degraded(
            f"{error.message}; putting the state before it back failed too: {second}",
            remedy="see xdplb status; run xdplb-reconcile --once again",
        ) from error
    if remaining:
        raise Degraded(f"{error.message}; the state before it is not wholly back") from error
    if existed:
        message = f"{error.message}; the state before it is back"
        raise RolledBack(message, remedy=error.remedy) from error
    if error.exit_code is ExitCode.FAILED:
        message = f"{error.message}; nothing of it is left"
        raise RolledBack(message, remedy=error.remedy) from error


def _describe_differences(desired: Tables, observed: Tables) -> str:
    """Return what the kernel holds otherwise than it was to be; empty if nothing."""
    granted = {
        name: one._replace(mode=observed.attachments[name].mode)
        if one.mode is XdpMode.AUTO and name in observed.attachments
        else one
        for name, one in desired.attachments.items()
    }
    operations = diff(replace(desired, attachments=granted), observed)
    shown = [_name_place(operation) for operation in operations[:_SHOWN]]
    more = len(operations) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _name_place(operation: Operation) -> str:
    if isinstance(operation, Store):
        return f"{len(operation.indexes)} slots"
    key = operation.key
    place = f"{key.address}:{key.port}" if isinstance(key, Endpoint) else key
    return f"{operation.table}.{place}"
