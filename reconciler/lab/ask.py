"""Ask the laboratory's servers one question."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address

from reconciler.lab import http
from reconciler.lab.host import Host

_CHUNK_BYTES = 65_536


def fetch(
    host: Host,
    address: IPv4Address | IPv6Address | str,
    port: int = 8080,
    path: str = "/",
    *,
    timeout_s: float = 3.0,
) -> http.Answer:
    """Make a new connection from a host and send one HTTP request.

    Raises:
        OSError: no connection, or no answer within `timeout_s` seconds for each
            step (TimeoutError).
        http.BadMessage: the answer is not one of the laboratory's servers.
    """
    with host.socket(_family(address)) as connection:
        connection.settimeout(timeout_s)
        connection.connect((str(address), port))
        return fetch_again(connection, path)


def fetch_again(connection: socket.socket, path: str = "/") -> http.Answer:
    """Send one HTTP request on an open connection, which stays open.

    Raises:
        OSError: the connection broke, or its timeout ran out.
        http.BadMessage: the answer is not one of the laboratory's servers.
    """
    connection.sendall(http.write_request(path))
    buffer = bytearray()
    while (answer := http.read_answer(buffer)) is None:
        chunk = connection.recv(_CHUNK_BYTES)
        if not chunk:
            raise ConnectionResetError("closed before the answer was whole")
        buffer += chunk
    return answer


def ask_datagram(
    host: Host,
    address: IPv4Address | IPv6Address | str,
    port: int,
    payload: bytes = b"?",
    *,
    timeout_s: float = 3.0,
) -> tuple[str, bytes]:
    """Send one datagram and return who echoed it, and what.

    Only an answer from the very address that was asked counts.

    Raises:
        OSError: no answer within `timeout_s` seconds (TimeoutError), or an ICMP error.
    """
    with host.socket(_family(address), socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(timeout_s)
        datagrams.connect((str(address), port))
        datagrams.send(payload)
        backend, _, echo = datagrams.recv(_CHUNK_BYTES).partition(b" ")
        return backend.decode(), echo


def _family(address: IPv4Address | IPv6Address | str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in str(address) else socket.AF_INET
