"""Why a check failed, in one short line."""

from __future__ import annotations

import errno
import os
import ssl

_WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EPIPE: "connection reset",
    errno.ETIMEDOUT: "connection timed out",
    errno.EHOSTUNREACH: "no route to host",
    errno.ENETUNREACH: "network unreachable",
    errno.EHOSTDOWN: "host is down",
}
# What this machine lacks says nothing about a backend.
_OWN = frozenset(
    (
        *(errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM),
        *(errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPERM, errno.EACCES),
    )
)
_MAX_DETAIL = 120


class CheckFailed(Exception):
    """The backend did not answer as it should. The message is the detail of the result."""


class CheckImpossible(Exception):
    """This machine could not ask: nothing is known about the backend."""


def describe_error(error: OSError) -> str:
    """Return what a backend did wrong, for people.

    Raises:
        CheckImpossible: the fault is this machine's.
    """
    if isinstance(error, ssl.SSLError):
        return shorten(f"TLS: {_describe_tls(error)}")
    number = error.errno or 0
    words = _WORDS.get(number) or (os.strerror(number).lower() if number else str(error))
    if number in _OWN:
        raise CheckImpossible(words) from error
    return shorten(words)


def _describe_tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return (error.reason or "failed").lower().replace("_", " ")


def shorten(text: str) -> str:
    """Return a text that others have a part in as one line of bounded length."""
    line = "".join(c if c.isprintable() else "?" for c in text[: _MAX_DETAIL + 1])
    return line if len(line) <= _MAX_DETAIL else f"{line[: _MAX_DETAIL - 3]}..."
