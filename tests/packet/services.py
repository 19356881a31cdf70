"""The services that the cases are about; each once for TCP and once for UDP."""

from __future__ import annotations

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


def name_service(vip: str, protocol: Protocol) -> str:
    """The name of the service at a VIP."""
    return f"{vip.rpartition('.')[2]}-{protocol.name.lower()}"


def _make(vip: str, protocol: Protocol) -> Service:
    state = BackendState.MAINT if vip == EMPTY else BackendState.READY
    port = BACKEND_PORT[vip]
    backends = tuple(
        Backend(f"{name}-{protocol.name.lower()}", IPv4Address(address), port, state=state)
        for name, address in _BACKENDS[vip].items()
    )
    return Service(
        name_service(vip, protocol),
        IPv4Address(vip),
        VIP_PORT,
        protocol,
        Forwarding.NAT,
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
    services = [_make(vip, protocol) for vip in _BACKENDS for protocol in Protocol]
    wanted = [s for s in services if s.name != name_service(TCP_ONLY, Protocol.UDP)]
    return make_config(tuple(wanted), Limits(64, 128, 16_384, 2048))
