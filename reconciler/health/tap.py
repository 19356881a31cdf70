"""Hears what VIPs send back to this machine: the answers to checks that went by them.

One packet socket a family, with a filter in the kernel, for all checks together. It
hears them before routing does, so that it does not matter whether the VIP is one of this
machine's own addresses, from which routing takes nothing that comes from outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import socket
import struct
from collections.abc import Iterator, Sequence

from reconciler.health.packet import Call, Reply, read_reply
from reconciler.log import log_event

# The source ports of such checks, above those that Linux gives out by itself
# (net.ipv4.ip_local_port_range).
FIRST_PORT, LAST_PORT = 61_000, 65_535

_ETH_P_IP, _ETH_P_IPV6 = 0x0800, 0x86DD  # include/uapi/linux/if_ether.h
_SO_ATTACH_FILTER = 26  # include/uapi/asm-generic/socket.h
_TCP, _UDP, _FRAGMENT_OFFSET = 6, 17, 0x1FFF
_PACKET_BYTES = 2048
_PACKETS_AT_ONCE = 64
_REPLIES_KEPT = 16

_Instruction = tuple[int, int, int, int]
# Classic BPF (include/uapi/linux/bpf_common.h). Offsets count from the IP header.
_LOAD_BYTE, _LOAD_HALF, _LOAD_HALF_AT_X, _LOAD_X_HEADER = 0x30, 0x28, 0x48, 0xB1
_IF_EQUAL, _IF_AT_LEAST, _IF_ABOVE, _IF_ANY_OF, _RETURN = 0x15, 0x35, 0x25, 0x45, 0x06
_IPV4_FILTER: tuple[_Instruction, ...] = (
    (_LOAD_BYTE, 0, 0, 9),
    (_IF_EQUAL, 1, 0, _TCP),
    (_IF_EQUAL, 0, 7, _UDP),
    (_LOAD_HALF, 0, 0, 6),
    (_IF_ANY_OF, 5, 0, _FRAGMENT_OFFSET),
    (_LOAD_X_HEADER, 0, 0, 0),  # the size of the IP header
    (_LOAD_HALF_AT_X, 0, 0, 2),
    (_IF_AT_LEAST, 0, 2, FIRST_PORT),
    (_IF_ABOVE, 1, 0, LAST_PORT),
    (_RETURN, 0, 0, _PACKET_BYTES),
    (_RETURN, 0, 0, 0),
)
_IPV6_FILTER: tuple[_Instruction, ...] = (
    (_LOAD_BYTE, 0, 0, 6),
    (_IF_EQUAL, 1, 0, _TCP),
    (_IF_EQUAL, 0, 4, _UDP),
    (_LOAD_HALF, 0, 0, 42),
    (_IF_AT_LEAST, 0, 2, FIRST_PORT),
    (_IF_ABOVE, 1, 0, LAST_PORT),
    (_RETURN, 0, 0, _PACKET_BYTES),
    (_RETURN, 0, 0, 0),
)
_PROGRAMS = {4: (_ETH_P_IP, _IPV4_FILTER), 6: (_ETH_P_IPV6, _IPV6_FILTER)}


class Tap:
    """Gives each question its answers. All of it belongs to one event loop."""

    def __init__(self) -> None:
        self._sockets: dict[int, socket.socket] = {}
        self._waiting: dict[Call, asyncio.Queue[Reply]] = {}

    @contextlib.contextmanager
    def hear(self, call: Call) -> Iterator[asyncio.Queue[Reply]]:
        """Yield where the answers to a question arrive; more than a few are thrown away.

        Raises:
            OSError: this process may not hear packets.
        """
        if call.vip.version not in self._sockets:
            self._open(call.vip.version)
        replies = self._waiting[call] = asyncio.Queue(_REPLIES_KEPT)
        try:
            yield replies
        finally:
            del self._waiting[call]

    def close(self) -> None:
        """Hear nothing more."""
        loop = asyncio.get_running_loop()
        for sock in self._sockets.values():
            loop.remove_reader(sock)
            sock.close()
        self._sockets.clear()

    def _open(self, version: int) -> None:
        sock = self._sockets[version] = open_tap(version)
        asyncio.get_running_loop().add_reader(sock, self._read, sock)

    def _read(self, sock: socket.socket) -> None:
        for _ in range(_PACKETS_AT_ONCE):
            try:
                packet = sock.recv(_PACKET_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                # The interface that it was bound to has gone, or so; there are others.
                log_event(logging.WARNING, check="deaf", reason=error.strerror)
                return
            if reply := read_reply(packet):
                self._give(reply)

    def _give(self, reply: Reply) -> None:
        replies = self._waiting.get(reply.call)
        if replies and not replies.full():
            replies.put_nowait(reply)


def open_tap(version: int) -> socket.socket:
    """Return a socket that hears what comes in over IPv4 or IPv6 for the ports of checks.

    Raises:
        OSError: this process may not (CAP_NET_RAW).
    """
    protocol, instructions = _PROGRAMS[version]
    kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    sock = socket.socket(socket.AF_PACKET, kind, socket.htons(protocol))
    try:
        # What comes before the filter is there answers nobody.
        _attach(sock, instructions)
    except OSError:
        sock.close()
        raise
    return sock


def _attach(sock: socket.socket, instructions: Sequence[_Instruction]) -> None:
    """Have the kernel hand over only what the program accepts."""
    code = b"".join(struct.pack("=HBBI", *one) for one in instructions)
    buffer = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: a count, and after padding a pointer.
    program = struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
