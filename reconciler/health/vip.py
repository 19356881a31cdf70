"""Checks that go to the VIP, by the service's forwarding, to one backend.

They find what a check of the backend's own address can't: a tunnel that is broken, a VIP
that the backend does not hold, a server that does not listen there. The packets are made
here, since the kernel would send what is for a VIP to this machine itself, or to no
backend in particular; no route and no device has to be made for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_address

from reconciler.health.checks import Check, Passage
from reconciler.health.datagram import require_answer
from reconciler.health.dns import encode_query, read_rcode, require_rcode
from reconciler.health.failure import CheckFailed, CheckImpossible
from reconciler.health.packet import (
    ACK,
    RST,
    SYN,
    Call,
    Reply,
    make_datagram,
    make_segment,
)
from reconciler.health.surroundings import Lookout
from reconciler.health.tap import FIRST_PORT, LAST_PORT, Tap
from reconciler.model import Forwarding, HealthType, IPAddress, Protocol

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
# What an outer header says is inside (IANA, "Protocol Numbers").
_CARRIED = {4: socket.IPPROTO_IPIP, 6: socket.IPPROTO_IPV6}
_IPV6_TRANSPARENT = 75  # include/uapi/linux/in6.h
_ETHERTYPES = {4: 0x0800, 6: 0x86DD}
_NONBLOCKING = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
_PORT_TRIES = 16

Send = Callable[[bytes], object]


class VipAsker:
    """Asks by VIPs. All of it belongs to one event loop."""

    def __init__(self) -> None:
        self._tap = Tap()
        self._lookout = Lookout()
        self._link: socket.socket | None = None

    def close(self) -> None:
        """Hear and send nothing more."""
        self._tap.close()
        if self._link:
            self._link.close()

    def prepare(self, check: Check, passage: Passage) -> Callable[[], Awaitable[str]]:
        """Return what asks by the VIP. It answers as a check of the backend itself does."""
        match check.health.type:
            case HealthType.UDP:
                return lambda: self._ask_udp(check, passage)
            case HealthType.DNS:
                return lambda: self._ask_dns(check, passage)
            case _:
                return lambda: self._ask_tcp(check, passage)

    async def _ask_tcp(self, check: Check, passage: Passage) -> str:
        sequence = secrets.randbits(32)
        async with self._call(check, passage, Protocol.TCP) as (call, send, replies):
            send(make_segment(call, SYN, sequence))
            while True:
                reply = await replies.get()
                if reply.acknowledged != (sequence + 1) % 2**32 or not reply.flags & ACK:
                    continue
                if reply.flags & RST:
                    raise CheckFailed("connection refused")
                if reply.flags & SYN:
                    send(make_segment(call, RST, reply.acknowledged))
                    return "connected by the VIP"

    async def _ask_udp(self, check: Check, passage: Passage) -> str:
        async with self._call(check, passage, Protocol.UDP) as (call, send, replies):
            send(make_datagram(call, check.health.send))
            return require_answer((await replies.get()).payload, check.health)

    async def _ask_dns(self, check: Check, passage: Passage) -> str:
        query = encode_query(check.health)
        async with self._call(check, passage, Protocol.UDP) as (call, send, replies):
            send(make_datagram(call, query))
            while True:
                rcode = read_rcode((await replies.get()).payload, query)
                if rcode is not None:
                    return require_rcode(rcode, check.health)

    @contextlib.asynccontextmanager
    async def _call(
        self, check: Check, passage: Passage, protocol: Protocol
    ) -> AsyncIterator[tuple[Call, Send, asyncio.Queue[Reply]]]:
        """Yield a question's ports, what sends for it, and where answers arrive."""
        source = await self._choose_source(check.address, passage)
        with contextlib.ExitStack() as stack:
            call = self._choose_port(source, check, protocol, stack)
            send = await self._open_outlet(check.address, passage, stack)
            yield call, send, stack.enter_context(self._tap.hear(call))

    async def _choose_source(self, vip: IPAddress, passage: Passage) -> IPAddress:
        """The address that this machine has on the way to a backend, else one of its interfaces.

        Never a VIP: a backend that holds it would take our packets for its own.
        """
        if passage.backend.version == vip.version:
            with socket.socket(_FAMILIES[vip.version], socket.SOCK_DGRAM | _NONBLOCKING) as sock:
                sock.connect((str(passage.backend), 9))  # discard; nothing is sent
                source = ip_address(sock.getsockname()[0])
            if source not in passage.vips:
                return source
        return await self._lookout.find_own(vip.version, passage.interfaces, passage.vips)

    def _choose_port(
        self, source: IPAddress, check: Check, protocol: Protocol, stack: contextlib.ExitStack
    ) -> Call:
        """Find a free port, and hold it, or a datagram to it is answered with an error."""
        kind = socket.SOCK_DGRAM if protocol is Protocol.UDP else socket.SOCK_STREAM
        for _ in range(_PORT_TRIES):
            port = random.randint(FIRST_PORT, LAST_PORT)
            call = Call(source, port, check.address, check.port, protocol)
            holder = socket.socket(_FAMILIES[source.version], kind | _NONBLOCKING)
            with contextlib.suppress(OSError):
                holder.bind((str(source), port))
                stack.enter_context(holder)
                return call
            holder.close()
        raise CheckImpossible("no free port")

    async def _open_outlet(
        self, vip: IPAddress, passage: Passage, stack: contextlib.ExitStack
    ) -> Send:
        if passage.forwarding is Forwarding.L2DSR:
            ifindex, mac = await self._lookout.find_neighbour(passage.backend)
            sock = self._open_link()
            name = socket.if_indextoname(ifindex)
            frame = (name, _ETHERTYPES[vip.version], 0, 0, mac)
            return lambda packet: sock.sendto(packet, frame)
        sock = stack.enter_context(_open_tunnel(vip, passage))
        port = passage.gue_port if passage.forwarding is Forwarding.GUE else 0
        return lambda packet: sock.sendto(packet, (str(passage.backend), port))

    def _open_link(self) -> socket.socket:
        """The one socket that sends by MAC: closing one waits for every CPU."""
        if self._link is None:
            self._link = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | _NONBLOCKING, 0)
        return self._link


def _open_tunnel(vip: IPAddress, passage: Passage) -> socket.socket:
    """A socket that puts the outer header before a packet: IP alone, or IP and UDP."""
    family = _FAMILIES[passage.backend.version]
    is_gue = passage.forwarding is Forwarding.GUE
    kind = socket.SOCK_DGRAM if is_gue else socket.SOCK_RAW
    protocol = 0 if is_gue else _CARRIED[vip.version]
    sock = socket.socket(family, kind | _NONBLOCKING, protocol)
    try:
        if passage.tunnel_source:
            # It need not be an address of this machine.
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
            else:
                sock.setsockopt(socket.SOL_IP, socket.IP_TRANSPARENT, 1)
            sock.bind((str(passage.tunnel_source), 0))
    except OSError:
        sock.close()
        raise
    return sock
