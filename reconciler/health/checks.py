"""What is asked of which backend."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.config.values import format_address_port
from reconciler.model import (
    Backend,
    BackendState,
    Config,
    Forwarding,
    Health,
    IPAddress,
    Protocol,
    Service,
)
from reconciler.overrides import BackendName


@dataclass(frozen=True, slots=True)
class Passage:
    """How a question to a VIP gets to one backend: as clients' packets do.

    Attributes:
        forwarding: the service's.
        backend: the backend's own address.
        tunnel_source: the outer source, if the file names one.
        gue_port: where gue goes.
        vips: what this machine must not ask from.
        interfaces: where it has addresses to ask from.
    """

    forwarding: Forwarding
    backend: IPAddress
    tunnel_source: IPAddress | None
    gue_port: int
    vips: frozenset[IPAddress]
    interfaces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """One question: where it goes, and how it is asked.

    Attributes:
        address: the address that is asked.
        port: the port that is asked.
        protocol: the service's protocol, over which dns asks.
        health: how it is asked.
        server: the address and port at which the backend serves; another one there is
            another server, of which nothing is known.
        passage: how it gets there, if `address` is a VIP.
    """

    address: IPAddress
    port: int
    protocol: Protocol
    health: Health
    server: str
    passage: Passage | None = None


def list_checks(config: Config) -> dict[BackendName, Check]:
    """Return what is asked of each backend that is checked: not those in maint."""
    vips = frozenset(service.vip for service in config.services if service.vip)
    return {
        (service.name, backend.name): _make_check(service, service.health, backend, config, vips)
        for service in config.services
        if service.health
        for backend in service.backends
        if backend.state is not BackendState.MAINT
    }


def _make_check(
    service: Service,
    health: Health,
    backend: Backend,
    config: Config,
    vips: frozenset[IPAddress],
) -> Check:
    server = format_address_port(backend.address, backend.port)
    tunnel = config.tunnel
    if health.via_vip and service.vip:
        source = tunnel.source_ipv4 if backend.address.version == 4 else tunnel.source_ipv6
        return Check(
            address=service.vip,
            port=backend.health_port or health.port or service.port,
            protocol=service.protocol,
            health=health,
            server=server,
            # Of a network, one address stands for all; its first may be the network's own.
            passage=Passage(
                service.forwarding,
                backend.address,
                source[min(1, source.num_addresses - 1)] if source else None,
                tunnel.gue_port,
                vips,
                config.interfaces,
            ),
        )
    return Check(
        address=backend.health_address or backend.address,
        port=backend.health_port or health.port or backend.port,
        protocol=service.protocol,
        health=health,
        server=server,
    )
