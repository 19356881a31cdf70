"""The services that the cases are about: each for TCP and for UDP, over IPv4 and IPv6.

A VIP stands for what is behind it. `in_mode` is the VIP of the same by another mode.
"""

from __future__ import annotations

import enum
from ipaddress import IPv4Address

from reconciler.model import (
    Affinity,
    Backend,
    BackendState,
    Config,
    Forwarding,
    Limits,
    Protocol,
    Service,
    XdpMode,
)

from . import network

VIP_PORT = 80
RING_SIZE = 251
HASH_SEED = 0x5EED_0F_7E575


def _vip(number: int) -> str:
    return f"192.0.2.{number}"


PLAIN, STICKY, ONE_ARM, NARROW, UNRESOLVED, BLACKHOLE, HERE, DULL, EMPTY = map(_vip, range(80, 89))
SHARED, SHARED_TOO, TRIO, PROHIBITED, UNREACHABLE = map(_vip, range(90, 95))

# A TCP service only, so that UDP to its VIP is nobody's.
TCP_ONLY = _vip(95)


class Mode(enum.IntEnum):
    """How packets get to a backend; MIXED is a tunnel of the other family."""

    NAT = 0
    L2DSR = 1
    IPIP = 2
    IPIP_MIXED = 3
    GUE = 4
    GUE_MIXED = 5

    @property
    def forwarding(self) -> Forwarding:
        """What the configuration calls it."""
        return Forwarding[self.name.removesuffix("_MIXED")]

    def outer_family(self, family: int) -> int:
        """The family of the backend's address, for a VIP of `family`."""
        return 10 - family if self.name.endswith("_MIXED") else family


TUNNELS = (Mode.IPIP, Mode.IPIP_MIXED, Mode.GUE, Mode.GUE_MIXED)


def in_mode(vip: str, mode: Mode) -> str:
    """The VIP of the service that is like the one at `vip`, by another mode."""
    return str(IPv4Address(vip) + 256 * mode)


PLAIN_BACKEND = "10.0.0.11"
SHARED_BACKEND = "10.0.0.20"
TRIO_BACKENDS = {"a": "10.0.0.21", "b": "10.0.0.22", "c": "10.0.0.23"}
STICKY_BACKENDS = {name: f"10.0.0.{n}" for n, name in enumerate("defgh", start=31)}
BACKEND_PORT = {
    PLAIN: 8080,
    STICKY: 8081,
    ONE_ARM: 8082,
    NARROW: 8083,
    UNRESOLVED: 8084,
    BLACKHOLE: 8085,
    HERE: 8086,
    DULL: 8087,
    EMPTY: 8088,
    SHARED: 8090,
    SHARED_TOO: 8090,
    TRIO: 8092,
    PROHIBITED: 8093,
    UNREACHABLE: 8094,
    TCP_ONLY: 8095,
}
_BACKENDS = {
    PLAIN: {"plain": PLAIN_BACKEND},
    STICKY: STICKY_BACKENDS,
    ONE_ARM: {"one-arm": network.NEIGHBOUR},
    NARROW: {"narrow": network.NARROW},
    UNRESOLVED: {"unresolved": network.UNRESOLVED},
    BLACKHOLE: {"blackhole": network.BLACKHOLE},
    HERE: {"here": network.OWN_BACK},
    DULL: {"dull": network.DULL_BACKEND},
    EMPTY: {"empty": PLAIN_BACKEND},
    SHARED: {"shared": SHARED_BACKEND},
    SHARED_TOO: {"shared-too": SHARED_BACKEND},
    TRIO: TRIO_BACKENDS,
    PROHIBITED: {"prohibited": network.PROHIBITED},
    UNREACHABLE: {"unreachable": network.UNREACHABLE},
    TCP_ONLY: {"tcp-only": PLAIN_BACKEND},
}


# What there is by every mode; the rest is about what only nat does.
_IN_EVERY_MODE = (
    *(PLAIN, ONE_ARM, NARROW, UNRESOLVED, BLACKHOLE, HERE, DULL, EMPTY),
    *(TRIO, PROHIBITED, UNREACHABLE),
)


def name_service(vip: str, protocol: Protocol) -> str:
    """The name of the IPv4 service at a VIP."""
    return f"{vip.partition('.')[2].partition('.')[2]}-{protocol.name.lower()}"


def name_in_family(name: str, family: int) -> str:
    """The name of what has this one over IPv4."""
    return name if family == 4 else f"{name}-6"


def _make(vip: str, mode: Mode, protocol: Protocol, family: int) -> Service:
    state = BackendState.MAINT if vip == EMPTY else BackendState.READY
    suffix = protocol.name.lower() + ("" if mode is Mode.NAT else f"-{mode.name.lower()}")
    outer = mode.outer_family(family)
    backends = tuple(
        Backend(
            name_in_family(f"{name}-{suffix}", family),
            network.locate(address, outer),
            BACKEND_PORT[vip],
            state=state,
        )
        for name, address in _BACKENDS[vip].items()
    )
    there = in_mode(vip, mode)
    return Service(
        name_in_family(name_service(there, protocol), family),
        network.locate(there, family),
        VIP_PORT,
        protocol,
        mode.forwarding,
        Affinity.CLIENT if vip == STICKY else Affinity.FLOW,
        RING_SIZE,
        60.0,
        backends,
    )


def make_config(services: tuple[Service, ...], limits: Limits) -> Config:
    """A configuration of these services on both interfaces."""
    ordered = tuple(sorted(services, key=lambda service: service.name))
    interfaces = (network.FRONT, network.BACK)
    return Config("packet", interfaces, XdpMode.NATIVE, HASH_SEED, ordered, limits=limits)


def make_test_config() -> Config:
    """All of the above."""
    nowhere = (TCP_ONLY, Mode.NAT, Protocol.UDP)
    wanted = [
        (vip, mode, protocol)
        for mode in Mode
        for vip in (_BACKENDS if mode is Mode.NAT else _IN_EVERY_MODE)
        for protocol in Protocol
        if (vip, mode, protocol) != nowhere
    ]
    services = tuple(_make(*each, family) for family in network.FAMILIES for each in wanted)
    return make_config(services, Limits(512, 1024, 131_072, 1024))
