"""TLS over a socket of a check, in memory that is bounded.

asyncio's own TLS keeps a buffer of 256 KiB for each connection; OpenSSL's memory BIOs
hold what has come and nothing more.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import TypeVar

from reconciler.health.checks import Check
from reconciler.health.wire import Wire
from reconciler.model import Health

T = TypeVar("T")

_RECORD_BYTES = 16_384  # RFC 8446, section 5.1


def make_context(health: Health) -> ssl.SSLContext:
    """Return what https goes by.

    Raises:
        OSError: `ca_file` can't be read, or holds no certificate (`ssl.SSLError`).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not health.tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif health.ca_file:
        context.load_verify_locations(health.ca_file)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


class TlsStream:
    """One TLS connection over a connected socket."""

    def __init__(self, wire: Wire, context: ssl.SSLContext, check: Check) -> None:
        self._wire = wire
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_hostname=check.health.tls_name or str(check.address),
        )

    async def shake_hands(self) -> None:
        """Agree on keys, and judge the certificate if that is asked for.

        Raises:
            ssl.SSLError: the other side is not what it should be.
        """
        await self._drive(self._tls.do_handshake)

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        await self._drive(lambda: self._tls.write(data))

    async def receive(self) -> bytes:
        """Return what has come, at least a byte; nothing when the other side has ended."""
        try:
            return await self._drive(lambda: self._tls.read(_RECORD_BYTES))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    async def _drive(self, step: Callable[[], T]) -> T:
        """Do a step of TLS, with as many bytes from the other side as it takes."""
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                await self._flush()
                if data := await self._wire.receive():
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            else:
                await self._flush()
                return done

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._wire.send(self._outgoing.read())
