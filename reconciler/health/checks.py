"""What is asked of which backend."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.config.values import format_address_port
from reconciler.model import Backend, BackendState, Config, Health, IPAddress, Protocol, Service
from reconciler.overrides import BackendName


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
    """

    address: IPAddress
    port: int
    protocol: Protocol
    health: Health
    server: str


def list_checks(config: Config) -> dict[BackendName, Check]:
    """Return what is asked of each backend that is checked: not those in maint."""
    return {
        (service.name, backend.name): _make_check(service, service.health, backend)
        for service in config.services
        if service.health
        for backend in service.backends
        if backend.state is not BackendState.MAINT
    }


def _make_check(service: Service, health: Health, backend: Backend) -> Check:
    return Check(
        address=backend.health_address or backend.address,
        port=backend.health_port or health.port or backend.port,
        protocol=service.protocol,
        health=health,
        server=format_address_port(backend.address, backend.port),
    )
