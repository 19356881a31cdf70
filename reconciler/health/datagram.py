"""Checks by UDP: what is sent, and what must come back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from reconciler.health.checks import Check
from reconciler.health.failure import CheckFailed
from reconciler.health.wire import Wire, open_udp
from reconciler.model import Health


def prepare_udp(check: Check) -> Callable[[], Awaitable[str]]:
    """Return what asks by UDP. Silence lasts until whoever waits has had enough."""

    async def ask() -> str:
        with open_udp(check) as sock:
            wire = Wire(sock)
            await wire.send(check.health.send)
            answer = await wire.receive()
        return require_answer(answer, check.health)

    return ask


def require_answer(answer: bytes, health: Health) -> str:
    """Return what has come, in words.

    Raises:
        CheckFailed: it does not hold what is expected.
    """
    if health.expect not in answer:
        raise CheckFailed(f"an answer of {len(answer)} bytes, but not the one expected")
    return f"answered with {len(answer)} bytes"
