"""Conditions: what is true of an instance now, why, and since when.

Nothing here reads a clock; times are in seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from reconciler.model import XdpMode
from reconciler.tables import Attachment

READY = "Ready"
CONFIG_VALID = "ConfigValid"
SYNCED = "Synced"
ATTACHED = "Attached"
BACKENDS_HEALTHY = "BackendsHealthy"

# Names that a message lists; the others are counted.
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that should be true.

    `reason` is one word in CamelCase, for programs; `message` is for people. `since` is
    when `status` last changed.
    """

    type: str
    status: bool
    reason: str
    message: str = ""
    since: float = 0.0


Conditions: TypeAlias = tuple[Condition, ...]
"""At most one a type, in the order in which they are told."""


def renew_conditions(
    before: Iterable[Condition], fresh: Iterable[Condition], now: float
) -> Conditions:
    """Return the fresh conditions; those that were so before keep their `since`."""
    known = {each.type: each for each in before}

    def date(each: Condition) -> Condition:
        was = known.get(each.type)
        is_same = was is not None and was.status == each.status
        return replace(each, since=was.since if was and is_same else now)

    return tuple(map(date, fresh))


def judge_file(result: str, message: str) -> Condition:
    """Return whether the file that is there could be taken.

    Args:
        result: of the last attempt at it, see `reconciler.status.Attempt`.
        message: why it could not.
    """
    reason = {"rejected": "Rejected", "missing": "Missing"}.get(result)
    if reason is None:
        return Condition(CONFIG_VALID, status=True, reason="Valid")
    return Condition(CONFIG_VALID, status=False, reason=reason, message=message)


def judge_pass(result: str, message: str) -> Condition:
    """Return whether the kernel does what the last valid file says, by the last pass."""
    if result in ("applied", "in_sync"):
        reason = "Applied" if result == "applied" else "InSync"
        return Condition(SYNCED, status=True, reason=reason)
    return Condition(SYNCED, status=False, reason=result.title().replace("_", ""), message=message)


def judge_attachment(wanted: Collection[str], attached: Mapping[str, Attachment]) -> Condition:
    """Return whether the program runs on every interface of the file."""
    gone = [name for name in wanted if not _is_attached(attached.get(name))]
    if gone:
        message = f"not on {_list(gone)}"
        return Condition(ATTACHED, status=False, reason="InterfaceGone", message=message)
    generic = [name for name in wanted if attached[name].mode is XdpMode.GENERIC]
    if generic:
        message = f"in the stack on {_list(generic)}: slower than native"
        return Condition(ATTACHED, status=True, reason="Generic", message=message)
    return Condition(ATTACHED, status=True, reason="Native")


def judge_readiness(
    generation: int, wanted: Collection[str], attached: Mapping[str, Attachment]
) -> Condition:
    """Return whether traffic is balanced: something was applied, and the program runs."""
    if not generation:
        return Condition(READY, status=False, reason="NothingApplied")
    if not any(_is_attached(attached.get(name)) for name in wanted):
        message = "no interface of the file is there"
        return Condition(READY, status=False, reason="NotAttached", message=message)
    return Condition(READY, status=True, reason="Balancing")


def judge_backends(checked: int, down: Collection[str], panics: Collection[str]) -> Condition:
    """Return whether every backend that is checked is up.

    Args:
        checked: how many are.
        down: those that are not up, as `service/backend`.
        panics: services that keep backends that are down, since too few are up.
    """
    if panics:
        message = f"too few are up in {_list(panics)}: all of them stay in the ring"
        return Condition(BACKENDS_HEALTHY, status=False, reason="Panic", message=message)
    if down:
        message = f"{len(down)} of {checked} down: {_list(down)}"
        return Condition(BACKENDS_HEALTHY, status=False, reason="BackendsDown", message=message)
    reason = "AllUp" if checked else "NotChecked"
    return Condition(BACKENDS_HEALTHY, status=True, reason=reason)


def _is_attached(attachment: Attachment | None) -> bool:
    return attachment is not None and attachment.ifindex != 0


def _list(names: Collection[str]) -> str:
    ordered = sorted(names)
    more = len(ordered) - _SHOWN
    return ", ".join(ordered[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
