"""Checks by HTTP and HTTPS: one request, and what its answer must be."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol

import h11

from reconciler.config.values import format_address_port
from reconciler.health.checks import Check
from reconciler.health.connection import READ_BYTES, connect_tcp
from reconciler.health.failure import CheckFailed, shorten
from reconciler.health.tls import TlsStream
from reconciler.model import HealthType

# What of an answer is looked at: its headers, and the start of its body.
MAX_HEADER_BYTES = 16_384
MAX_BODY_BYTES = 65_536

_USUAL_PORTS = {HealthType.HTTP: 80, HealthType.HTTPS: 443}


class Stream(Protocol):
    """What carries a request and its answer."""

    async def send(self, data: bytes) -> None:
        """Send all of it."""

    async def receive(self) -> bytes:
        """Return what has come, at least a byte; nothing when the other side has ended."""


class PlainStream:
    """A connected socket as it is."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        await self._loop.sock_sendall(self._sock, data)

    async def receive(self) -> bytes:
        """Return what has come, at least a byte; nothing when the other side has ended."""
        return await self._loop.sock_recv(self._sock, READ_BYTES)


def prepare_http(check: Check) -> Callable[[], Awaitable[str]]:
    """Return what asks by HTTP."""
    request = _make_request(check)

    async def ask() -> str:
        async with connect_tcp(check) as sock:
            return await _exchange(PlainStream(sock), request, check)

    return ask


def prepare_https(check: Check, context: ssl.SSLContext) -> Callable[[], Awaitable[str]]:
    """Return what asks by HTTPS."""
    request = _make_request(check)

    async def ask() -> str:
        async with connect_tcp(check) as sock:
            stream = TlsStream(sock, context, check)
            await stream.shake_hands()
            return await _exchange(stream, request, check)

    return ask


def _make_request(check: Check) -> h11.Request:
    health = check.health
    address = format_address_port(check.address, check.port)
    if check.port == _USUAL_PORTS[health.type]:
        address = address.rpartition(":")[0]
    return h11.Request(
        method=health.method,
        target=health.path,
        headers=[
            ("Host", health.host or health.tls_name or address),
            ("User-Agent", "xdplb"),
            ("Accept", "*/*"),
            ("Connection", "close"),
        ],
    )


async def _exchange(stream: Stream, request: h11.Request, check: Check) -> str:
    """Ask and judge the answer; return what came.

    Raises:
        CheckFailed: the answer is none, or not one that passes.
    """
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADER_BYTES)
    sent = (connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b"")
    await stream.send(sent)
    try:
        status = await _read_status(connection, stream)
        if not any(first <= status <= last for first, last in check.health.status):
            raise CheckFailed(f"HTTP {status}")
        if check.health.body:
            await _find_text(connection, stream, check.health.body.encode(), status)
    except h11.RemoteProtocolError as error:
        raise CheckFailed(shorten(f"not HTTP: {error}")) from error
    return f"HTTP {status}"


async def _read_status(connection: h11.Connection, stream: Stream) -> int:
    while True:
        event = await _read_event(connection, stream)
        # An interim answer (RFC 9110, section 15.2) comes before the real one.
        if isinstance(event, h11.Response):
            return event.status_code
        if isinstance(event, h11.ConnectionClosed):
            raise CheckFailed("closed without an answer")


async def _find_text(connection: h11.Connection, stream: Stream, text: bytes, status: int) -> None:
    body = bytearray()
    while len(body) < MAX_BODY_BYTES:
        event = await _read_event(connection, stream)
        if not isinstance(event, h11.Data):
            break
        body += event.data
        if text in body[:MAX_BODY_BYTES]:
            return
    raise CheckFailed(f"HTTP {status}, and its body does not hold what it should")


async def _read_event(connection: h11.Connection, stream: Stream) -> h11.Event | type[h11.PAUSED]:
    while True:
        event = connection.next_event()
        if event is not h11.NEED_DATA:
            return event
        connection.receive_data(await stream.receive())
