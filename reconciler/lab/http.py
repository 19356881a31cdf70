"""As much of HTTP/1.1 as the laboratory speaks: GET, keep-alive, Content-Length.

The answers say which backend gave them and whom it saw as the client, in the
headers `X-Backend` and `X-Client` and again in the body.
"""

from __future__ import annotations

from typing import NamedTuple

_END = b"\r\n\r\n"
MAX_HEAD_BYTES = 8192


class BadMessage(ValueError):
    """What arrived is not what the laboratory's servers and clients say."""


class Answer(NamedTuple):
    """A response, and what of the buffer was it.

    `client` is the address and port that the backend saw, as `format_peer` writes them.
    """

    backend: str
    client: str
    body: bytes
    size: int


def format_peer(peer: tuple[str, int]) -> str:
    """An address and port as the servers report them."""
    return f"{peer[0]} {peer[1]}"


def write_request(path: str = "/") -> bytes:
    """A request that leaves the connection open."""
    return f"GET {path} HTTP/1.1\r\nHost: xdplb\r\n\r\n".encode()


def write_answer(backend: str, peer: str, body: bytes) -> bytes:
    """A response to one request."""
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
        f"X-Backend: {backend}\r\nX-Client: {peer}\r\n\r\n"
    )
    return head.encode() + body


def read_request(buffer: bytes | bytearray) -> tuple[str, int] | None:
    """The path of the first request in a buffer and its length, or None if it is not whole.

    Raises:
        BadMessage: it is no GET request, or too long.
    """
    head = _read_head(buffer)
    if head is None:
        return None
    words = head.split(b"\r\n", 1)[0].split(b" ")
    if len(words) != 3 or words[0] != b"GET":
        raise BadMessage(f"not a GET request: {bytes(head[:40])!r}")
    return words[1].decode("ascii", "replace"), len(head) + len(_END)


def read_answer(buffer: bytes | bytearray) -> Answer | None:
    """The first response in a buffer, or None if it is not whole.

    Raises:
        BadMessage: it is not a response of the laboratory's servers.
    """
    head = _read_head(buffer)
    if head is None:
        return None
    status, *lines = head.decode("latin-1").split("\r\n")
    if status != "HTTP/1.1 200 OK":
        raise BadMessage(f"not a good answer: {status[:40]!r}")
    headers = dict(line.split(": ", 1) for line in lines if ": " in line)
    try:
        backend, client = headers["X-Backend"], headers["X-Client"]
        length = int(headers["Content-Length"])
    except (KeyError, ValueError) as error:
        raise BadMessage(f"a header is missing or wrong: {error}") from error
    start = len(head) + len(_END)
    if len(buffer) < start + length:
        return None
    return Answer(backend, client, bytes(buffer[start : start + length]), start + length)


def _read_head(buffer: bytes | bytearray) -> bytes | None:
    end = buffer.find(_END)
    if end > MAX_HEAD_BYTES or (end < 0 and len(buffer) > MAX_HEAD_BYTES):
        raise BadMessage("the head of the message is too long")
    return None if end < 0 else bytes(buffer[:end])
