"""Checks by HTTP and HTTPS: one request, and what its answer must be."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol

import h11

from reconciler.config.values import format_address_port
from reconciler.health.checks import Check
from reconciler.health.failure import CheckFailed, shorten
from reconciler.health.tls import TlsStream
from reconciler.health.wire import Wire, connect, open_tcp
from reconciler.model import HealthType

# What of an answer is looked at: its headers, and the start of its body.
MAX_HEADER_BYTES = 16_384
MAX_BODY_BYTES = 65_536

_USUAL_PORTS = {HealthType.HTTP: 80, HealthType.HTTPS: 443}


class Stream(Protocol):
    """What carries a request and its answer: a `Wire`, or TLS over one."""

    async def send(self, data: bytes) -> None:
        """Send all of it."""

    async def receive(self) -> bytes:
        """Return what has come, at least a byte; nothing when the other side has ended."""


def prepare_http(check: Check) -> Callable[[], Awaitable[str]]:
    """Return what asks by HTTP."""
    request = _make_request(check)

    async def ask() -> str:
        with open_tcp(check) as sock:
            await connect(sock, check)
            return await _exchange(Wire(sock), request, check)

    return ask


def prepare_https(check: Check, context: ssl.SSLContext) -> Callable[[], Awaitable[str]]:
    """Return what asks by HTTPS."""
    request = _make_request(check)

    async def ask() -> str:
        with open_tcp(check) as sock:
            await connect(sock, check)
            stream = TlsStream(Wire(sock), context, check)
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
    event = await _read_event(connection, stream)
    # Interim answers (RFC 9110, section 15.2) come before the real one.
    while isinstance(event, h11.InformationalResponse):
        event = await _read_event(connection, stream)
    if not isinstance(event, h11.Response):
        raise CheckFailed("not HTTP")
    return event.status_code


async def _find_text(connection: h11.Connection, stream: Stream, text: bytes, status: int) -> None:
    body = bytearray()
    while len(body) < MAX_BODY_BYTES:
        event = await _read_event(connection, stream)
        if not isinstance(event, h11.Data):
            break
        # What has been looked through need not be again, but for a text that it cuts.
        start = max(len(body) - len(text) + 1, 0)
        body += event.data
        if body.find(text, start, MAX_BODY_BYTES) >= 0:
            return
    raise CheckFailed(f"HTTP {status}, and its body does not hold what it should")


async def _read_event(connection: h11.Connection, stream: Stream) -> object:
    while True:
        event = connection.next_event()
        if event is not h11.NEED_DATA:
            return event
        data = await stream.receive()
        if not data and connection.their_state is h11.SEND_RESPONSE:
            raise CheckFailed("closed without an answer")
        connection.receive_data(data)
