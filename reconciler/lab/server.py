"""The servers of a backend: a program that answers with its own name.

    python -m reconciler.lab.server NAME --http 8080 --echo 9000 --udp 5353

- HTTP: any path answers `NAME CLIENT PORT`; `/bytes/N` answers N bytes.
- echo (TCP): every line comes back as `NAME line`, for as long as the client stays.
- UDP: every datagram comes back as `NAME datagram`.

It prints `ready` when everything listens and ends at SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

from reconciler.lab import http

_BACKLOG = 4096
_MAX_LINE_BYTES = 65_536
_MAX_BODY_BYTES = 16 * 1024 * 1024
_BYTES = re.compile(r"/bytes/(\d{1,8})")


class _Stream(asyncio.Protocol):
    """One connection, whose bytes are collected until they make a message."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.peer = http.format_peer(transport.get_extra_info("peername")[:2])

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        try:
            while (size := self.take()) > 0:
                del self.buffer[:size]
        except http.BadMessage:
            self.transport.abort()

    def take(self) -> int:
        """Answer the first message in the buffer; its length, or 0 if it is not whole."""
        raise NotImplementedError


class _Web(_Stream):
    def take(self) -> int:
        request = http.read_request(self.buffer)
        if request is None:
            return 0
        path, size = request
        self.transport.write(http.write_answer(self.name, self.peer, self._body(path)))
        return size

    def _body(self, path: str) -> bytes:
        wanted = _BYTES.fullmatch(path)
        if wanted:
            return bytes(min(int(wanted[1]), _MAX_BODY_BYTES))
        return f"{self.name} {self.peer}\n".encode()


class _Echo(_Stream):
    def take(self) -> int:
        end = self.buffer.find(b"\n") + 1
        if end == 0 and len(self.buffer) > _MAX_LINE_BYTES:
            raise http.BadMessage("the line is too long")
        if end > 0:
            self.transport.write(self.name.encode() + b" " + self.buffer[:end])
        return end


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, name: str) -> None:
        self.name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Python 3.10 and 3.11 give a transport that is none by its class.
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        self.transport.sendto(self.name.encode() + b" " + data, addr)


_STREAMS: dict[str, Callable[[str], _Stream]] = {"http": _Web, "echo": _Echo}


async def serve(name: str, addresses: Sequence[str], ports: dict[str, int]) -> None:
    """Listen, say so, and answer until SIGTERM.

    Args:
        name: what every answer names.
        addresses: IPv4 and IPv6 addresses to listen on.
        ports: by kind: `http`, `echo` and `udp`.

    Raises:
        OSError: an address or a port is not to be had.
    """
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    for address in addresses:
        for kind, port in ports.items():
            if kind == "udp":
                bound = _bind(address, port, socket.SOCK_DGRAM)
                await loop.create_datagram_endpoint(partial(_Datagrams, name), sock=bound)
            else:
                make = _STREAMS[kind]
                bound = _bind(address, port, socket.SOCK_STREAM)
                await loop.create_server(partial(make, name), sock=bound, backlog=_BACKLOG)
    print("ready", flush=True)
    await over.wait()


def _bind(address: str, port: int, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, kind)
    bound.setblocking(False)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    bound.bind((address, port))
    return bound


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description="the servers of a laboratory's backend")
    parser.add_argument("name")
    parser.add_argument("--address", action="append", help="default: every IPv4 address")
    for kind in ("http", "echo", "udp"):
        parser.add_argument(f"--{kind}", type=int, metavar="PORT")
    options = parser.parse_args()
    given = {kind: getattr(options, kind) for kind in ("http", "echo", "udp")}
    ports = {kind: port for kind, port in given.items() if port is not None}
    asyncio.run(serve(options.name, options.address or ["0.0.0.0"], ports))


if __name__ == "__main__":
    main()
