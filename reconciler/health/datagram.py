"""Checks by UDP: what is sent, and what must come back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from reconciler.health.checks import Check
from reconciler.health.connection import READ_BYTES, connect_udp
from reconciler.health.failure import CheckFailed


def prepare_udp(check: Check) -> Callable[[], Awaitable[str]]:
    """Return what asks by UDP. Silence lasts until whoever waits has had enough."""

    async def ask() -> str:
        loop = asyncio.get_running_loop()
        with connect_udp(check) as sock:
            await loop.sock_sendall(sock, check.health.send)
            answer = await loop.sock_recv(sock, READ_BYTES)
        if check.health.expect not in answer:
            raise CheckFailed(f"an answer of {len(answer)} bytes, but not the one expected")
        return f"answered with {len(answer)} bytes"

    return ask
