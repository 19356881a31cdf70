"""From the results of checks to whether a backend is up.

Nothing here reads a clock; times are in seconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from reconciler.model import Health


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one check: whether it passed, one short line on why, and how long it took."""

    is_ok: bool
    detail: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of one backend's health.

    Attributes:
        is_up: whether it is up.
        since: since when it has been so, as far as is known.
        streak: how many results in a row, the last one included, say otherwise.
        detail: what came of the last check.
        transitions: how often it has changed between up and down.
        server: the backend's address and port; empty if that is not known.
    """

    is_up: bool
    since: float
    streak: int
    detail: str
    transitions: int
    server: str = ""


def judge(standing: Standing | None, result: Result, health: Health, now: float) -> Standing:
    """Return what is known of a backend after one more result.

    Only results in a row count: one that agrees with the standing makes those before it
    forgotten. A backend without a standing was never checked and counts as up.

    Args:
        standing: what was known before.
        result: what came of the check.
        health: how many in a row it takes (`rise`, `fall`).
        now: when the check ended.
    """
    before = standing or Standing(is_up=True, since=now, streak=0, detail="", transitions=0)
    if result.is_ok == before.is_up:
        return replace(before, streak=0, detail=result.detail)
    streak = before.streak + 1
    if streak < (health.fall if before.is_up else health.rise):
        return replace(before, streak=streak, detail=result.detail)
    return replace(
        before,
        is_up=result.is_ok,
        since=now,
        streak=0,
        detail=result.detail,
        transitions=before.transitions + 1,
    )


def judge_once(result: Result, now: float) -> Standing:
    """Return what is known of a backend of which there is this one result."""
    return Standing(result.is_ok, since=now, streak=0, detail=result.detail, transitions=0)


def resume(standing: Standing) -> Standing:
    """Return a standing that is remembered from before a pause: no result is next to another."""
    return replace(standing, streak=0)


def choose_interval_s(standing: Standing | None, health: Health) -> float:
    """Return the longest time from the last check of a backend to its next.

    It is shorter while a backend that counts as up fails: so the last of `fall` checks
    ends within `fall` intervals, though it runs into its timeout. Where one failure is
    enough there is no check to hurry.
    """
    if standing is None or not standing.is_up or not standing.streak:
        return health.interval_s
    saved_s = health.timeout_s / max(health.fall - 1, 1)
    return max(health.interval_s - saved_s, health.timeout_s)
