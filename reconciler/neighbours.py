"""Keeps the backends' next hops resolved: thousands of short questions to the kernel.

A question and its answer take the kernel some microseconds, and a netlink library a
thousand; so these two messages are written and read here. Numbers and structs are those
of include/uapi/linux/netlink.h, rtnetlink.h and neighbour.h.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from itertools import count, islice
from typing import NamedTuple

from reconciler.model import IPAddress

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_RTMSG = struct.Struct("=8BI")  # rtmsg: family, dst_len, 3 bytes, scope, type, ...
_NDMSG = struct.Struct("=BxxxiHBB")  # ndmsg: family, ifindex, state, flags, type
_ATTRIBUTE = struct.Struct("=HH")  # rtattr: length, type
_TYPE_OFFSET = _HEADER.size + 7  # of rtm_type

_NLMSG_ERROR = 2
_RTM_NEWROUTE, _RTM_GETROUTE, _RTM_NEWNEIGH = 24, 26, 28
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_REPLACE, _NLM_F_CREATE = 0x1, 0x4, 0x100, 0x400
_RTN_UNICAST = 1
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_VIA = 1, 4, 5, 18
_NDA_DST, _NTF_USE = 1, 1

# Each answer takes a page of the socket's buffer, which holds 212,992 bytes where nobody
# has set net.core.rmem_default; more would be lost.
_AT_ONCE = 32
_LONGEST = 8192
# The kernel answers before it returns from the question.
_TIMEOUT_S = 10.0
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


class Hop(NamedTuple):
    """Whose MAC a frame needs, and on which interface."""

    ifindex: int
    address: IPAddress


def nudge_neighbours(addresses: Iterable[IPAddress]) -> None:
    """Have the kernel resolve, or confirm, the next hop of each address.

    XDP reads the neighbour table but never asks for an entry, and frames it sends
    confirm none: without this an entry would grow stale and an answer late.
    Addresses without a route are left to whoever asks for them, and so are those that
    the kernel refuses (no ARP there, a link that went meanwhile): what is missing then
    is a hint, and the first packet waits for its neighbour.

    Raises:
        OSError: the kernel takes no questions at all.
    """
    nudge_hops(find_hops(addresses))


def find_hops(addresses: Iterable[IPAddress]) -> set[Hop]:
    """Return the next hops of the addresses that have one."""
    wanted = list(dict.fromkeys(addresses))
    answers = _ask(map(_encode_question, wanted), _RTM_GETROUTE, _NLM_F_REQUEST)
    hops = (_decode_hop(answer, to) for answer, to in zip(answers, wanted, strict=True))
    return {hop for hop in hops if hop}


def nudge_hops(hops: Iterable[Hop]) -> None:
    """Have the kernel resolve, or confirm, neighbours; those that it refuses are left."""
    flags = _NLM_F_REQUEST | _NLM_F_ACK | _NLM_F_CREATE | _NLM_F_REPLACE
    for _ in _ask(map(_encode_neighbour, sorted(hops, key=_rank_hop)), _RTM_NEWNEIGH, flags):
        pass


def _rank_hop(hop: Hop) -> tuple[int, int, int]:
    return hop.ifindex, hop.address.version, int(hop.address)


def _encode_question(address: IPAddress) -> bytes:
    head = (_FAMILIES[address.version], address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
    return _RTMSG.pack(*head) + _encode_attribute(_RTA_DST, address.packed)


def _encode_neighbour(hop: Hop) -> bytes:
    head = _NDMSG.pack(_FAMILIES[hop.address.version], hop.ifindex, 0, _NTF_USE, 0)
    return head + _encode_attribute(_NDA_DST, hop.address.packed)


def _encode_attribute(kind: int, data: bytes) -> bytes:
    # Addresses are multiples of four bytes, as attributes must be.
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind) + data


def _ask(bodies: Iterable[bytes], kind: int, flags: int) -> Iterator[bytes]:
    """Yield the kernel's answer to each message, header included, in order."""
    bodies = iter(bodies)
    numbers = count(1)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(_TIMEOUT_S)
        kernel.bind((0, 0))
        while some := list(islice(bodies, _AT_ONCE)):
            heads = (
                _HEADER.pack(_HEADER.size + len(body), kind, flags, next(numbers), 0)
                for body in some
            )
            kernel.send(b"".join(head + body for head, body in zip(heads, some, strict=True)))
            for _ in some:
                yield kernel.recv(_LONGEST)


def _decode_hop(answer: bytes, address: IPAddress) -> Hop | None:
    """Where a route leads; None where there is none, or none to a machine."""
    _, kind, _, _, _ = _HEADER.unpack_from(answer)
    if kind != _RTM_NEWROUTE or answer[_TYPE_OFFSET] != _RTN_UNICAST:
        return None
    found = dict(_decode_attributes(answer, _HEADER.size + _RTMSG.size))
    if _RTA_OIF not in found:
        return None
    ifindex = int.from_bytes(found[_RTA_OIF], sys.byteorder)
    # A gateway of the other family stands behind its family's number (struct rtvia).
    gateway = found.get(_RTA_GATEWAY) or found.get(_RTA_VIA, b"")[2:]
    return Hop(ifindex, ip_address(gateway) if gateway else address)


def _decode_attributes(answer: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    while offset + _ATTRIBUTE.size <= len(answer):
        length, kind = _ATTRIBUTE.unpack_from(answer, offset)
        if length < _ATTRIBUTE.size:
            return
        yield kind, answer[offset + _ATTRIBUTE.size : offset + length]
        offset += -(-length // 4) * 4
