"""Floods: many packets of strangers, made from one that scapy wrote.

A flood is an array of frames, shape (n, size). Their IPv4 checksums are those of the
first: nobody on the way looks at them.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scapy.packet import Packet

from . import services
from .clients import TCP, UDP
from .packets import from_backend, in_family, to_service
from .test_icmp import OUTWARD, at, error

Frames = NDArray[np.uint8]


class Places(NamedTuple):
    """Where a stranger's address (its last 4 bytes) and port lie."""

    address: int
    port: int


# Ethernet, then IPv4 or IPv6; an ICMP error has 8 bytes before what it quotes.
_SOURCE = {4: Places(26, 34), 6: Places(34, 54)}
_DESTINATION = {4: Places(30, 36), 6: Places(50, 56)}
_QUOTED = {4: Places(58, 64), 6: Places(98, 104)}
_SEQUENCE = {4: 38, 6: 58}


def make_flood(packet: Packet, count: int, family: int, places: dict[int, Places]) -> Frames:
    """The packet `count` times, each of another stranger. Equal calls have equal strangers."""
    frame = np.frombuffer(bytes(in_family(packet, family)), np.uint8)
    frames = np.tile(frame, (count, 1))
    random = np.random.default_rng(7)
    address, port = places[family]
    strangers = np.uint32(0x0B00_0000) + random.permutation(count).astype(np.uint32)
    _put(frames, address, strangers.astype(">u4"))
    _put(frames, port, random.integers(1, 65_536, count).astype(">u2"))
    return frames


def number_segments(frames: Frames, family: int, step: int = 0) -> Frames:
    """The segments with sequence numbers; `step` later ones of equal calls go on from them."""
    random = np.random.default_rng(11)
    numbers = random.integers(0, 2**32, len(frames), np.uint64) + np.uint64(step)
    _put(frames, _SEQUENCE[family], (numbers % 2**32).astype(">u4"))
    return frames


def _put(frames: Frames, place: int, values: NDArray[np.generic]) -> None:
    size = values.dtype.itemsize
    frames[:, place : place + size] = values.view(np.uint8).reshape(-1, size)


def alternate(*floods: Frames) -> Frames:
    """The first of each, then the second of each, and so on."""
    return np.stack(floods, axis=1).reshape(-1, floods[0].shape[1])


def flood_segments(
    count: int, family: int, flags: str, *, vip: str = services.TRIO, step: int = 0
) -> Frames:
    """Segments of strangers for a VIP."""
    packet = to_service(TCP, vip, flags=flags, payload=b"")
    return number_segments(make_flood(packet, count, family, _SOURCE), family, step)


def flood_datagrams(count: int, family: int, *, vip: str = services.TRIO) -> Frames:
    """Datagrams of strangers for a VIP."""
    return make_flood(to_service(UDP, vip), count, family, _SOURCE)


def flood_answers(count: int, family: int, flags: str = "") -> Frames:
    """What the shared backend says to the strangers; datagrams if there are no flags."""
    fields = {"flags": flags, "payload": b""} if flags else {}
    packet = from_backend(TCP if flags else UDP, services.SHARED_BACKEND, 8090, **fields)
    return make_flood(packet, count, family, _DESTINATION)


def flood_errors(count: int, family: int, *, vip: str = services.TRIO) -> Frames:
    """ICMP errors that quote what a VIP sent to strangers."""
    flow = dataclasses.replace(OUTWARD, src=vip)
    packet = at("front", error(family, TCP, flow, size=8))
    frame = np.frombuffer(bytes(packet), np.uint8)
    frames = np.tile(frame, (count, 1))
    strangers = make_flood(to_service(TCP, vip), count, family, _SOURCE)
    there, here = _QUOTED[family], _SOURCE[family]
    frames[:, there.address : there.address + 4] = strangers[:, here.address : here.address + 4]
    frames[:, there.port : there.port + 2] = strangers[:, here.port : here.port + 2]
    return frames


def flood_twice(n: int, family: int) -> Frames:
    """Strangers that know enough to prove themselves: the second segment fits the first."""
    return alternate(
        flood_segments(n // 2, family, "A"), flood_segments(n // 2, family, "A", step=1)
    )


def flood_handshakes(n: int, family: int) -> Frames:
    """The same with a SYN first."""
    return alternate(
        flood_segments(n // 2, family, "S"), flood_segments(n // 2, family, "A", step=1)
    )


def flood_backscatter(n: int, family: int) -> Frames:
    """SYNs in the name of hosts that exist: they refuse what they did not ask for."""
    return alternate(
        flood_segments(n // 2, family, "S"), flood_segments(n // 2, family, "R", step=1)
    )
