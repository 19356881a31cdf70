"""What is true of an instance, why, and since when."""

from __future__ import annotations

import pytest

from reconciler.conditions import (
    Condition,
    judge_attachment,
    judge_backends,
    judge_file,
    judge_pass,
    judge_readiness,
    renew_conditions,
)
from reconciler.model import XdpMode
from reconciler.tables import Attachment


def attach(**modes: XdpMode | None) -> dict[str, Attachment]:
    """Attachments by interface; None is one that is gone."""
    return {
        name: Attachment(7 if mode else 0, mode or XdpMode.NATIVE, "")
        for name, mode in modes.items()
    }


NATIVE, GENERIC = XdpMode.NATIVE, XdpMode.GENERIC


@pytest.mark.parametrize(
    ("condition", "status", "reason", "message"),
    [
        (judge_file("applied", ""), True, "Valid", ""),
        (judge_file("blocked", "too much"), True, "Valid", ""),
        (judge_file("rejected", "1 error"), False, "Rejected", "1 error"),
        (judge_file("missing", "no file"), False, "Missing", "no file"),
        (judge_pass("applied", ""), True, "Applied", ""),
        (judge_pass("in_sync", ""), True, "InSync", ""),
        (judge_pass("drifted", ""), False, "Drifted", ""),
        (judge_pass("blocked", "too much"), False, "Blocked", "too much"),
        (judge_pass("failed", "no room"), False, "Failed", "no room"),
        (judge_attachment(["a", "b"], attach(a=NATIVE, b=NATIVE)), True, "Native", ""),
        (
            judge_attachment(["a", "b"], attach(a=NATIVE, b=GENERIC)),
            *(True, "Generic", "in the stack on b: slower than native"),
        ),
        (
            judge_attachment(["a", "b"], attach(a=NATIVE, b=None)),
            False,
            "InterfaceGone",
            "not on b",
        ),
        (judge_attachment(["a"], {}), False, "InterfaceGone", "not on a"),
        (judge_readiness(0, ["a"], attach(a=NATIVE)), False, "NothingApplied", ""),
        (judge_readiness(1, ["a", "b"], attach(a=NATIVE, b=None)), True, "Balancing", ""),
        (
            judge_readiness(1, ["a"], attach(a=None)),
            *(False, "NotAttached", "no interface of the file is there"),
        ),
        (judge_backends(0, [], []), True, "NotChecked", ""),
        (judge_backends(3, [], []), True, "AllUp", ""),
        (judge_backends(3, ["w/b", "w/a"], []), False, "BackendsDown", "2 of 3 down: w/a, w/b"),
        (
            judge_backends(3, ["w/a", "w/b"], ["w"]),
            *(False, "Panic", "too few are up in w: all of them stay in the ring"),
        ),
    ],
)
def test_judgements(condition: Condition, status: bool, reason: str, message: str) -> None:
    assert (condition.status, condition.reason, condition.message) == (status, reason, message)


def test_many_names_are_counted() -> None:
    condition = judge_backends(100, [f"w/{number:02}" for number in range(50)], [])
    assert condition.message == "50 of 100 down: w/00, w/01, w/02, w/03, w/04 and 45 more"


def test_a_condition_is_dated_when_its_status_changes() -> None:
    fresh = judge_file("rejected", "1 error")
    (first,) = renew_conditions((), [fresh], 10.0)
    assert first.since == 10.0
    (same,) = renew_conditions([first], [judge_file("missing", "gone")], 20.0)
    assert (same.since, same.reason) == (10.0, "Missing")  # false all along
    (mended,) = renew_conditions([same], [judge_file("applied", "")], 30.0)
    assert (mended.since, mended.status) == (30.0, True)
