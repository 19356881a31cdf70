"""The controller and the loaded program choose the same backend for every client."""

from __future__ import annotations

import random
from ipaddress import IPv4Address

import pytest

from reconciler.abi import Verdict
from reconciler.model import Affinity, Backend, Forwarding, Limits, Protocol, Service

from ..packet.balancer import running_balancer
from ..packet.packets import to_service
from ..packet.services import make_config

pytestmark = pytest.mark.root

CLIENTS = 400
SIZES = (251, 4093, 65_537)
BACKENDS = 7


def make_service(number, affinity, size, protocol):
    name = f"{affinity.name.lower()}-{size}-{protocol.name.lower()}"
    backends = tuple(
        # Reached by the default route, by the interface that the packets came in on.
        Backend(f"{name}-{n}", IPv4Address(f"10.0.{100 + number}.{n}"), 80, weight=50 * n)
        for n in range(1, BACKENDS + 1)
    )
    vip = IPv4Address(f"192.0.2.{100 + number}")
    return Service(
        name,
        vip,
        80,
        protocol,
        Forwarding.NAT,
        affinity,
        size,
        drain_timeout_s=60.0,
        backends=backends,
    )


SERVICES = tuple(
    make_service(number, affinity, size, protocol)
    for number, (affinity, size, protocol) in enumerate(
        (affinity, size, protocol)
        for affinity in Affinity
        for size in SIZES
        for protocol in Protocol
    )
)


@pytest.fixture(scope="module")
def balancer():
    limits = Limits(64, 256, sum(service.ring_size for service in SERVICES), 1024)
    with running_balancer(make_config(SERVICES, limits)) as balancer:
        yield balancer


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_same_choice(balancer, service):
    chance = random.Random(service.name)
    names = balancer.backend_names
    found = set()
    with balancer.inside():
        for _ in range(CLIENTS):
            client = IPv4Address(chance.randrange(0x0B00_0000, 0x7F00_0000))
            port = chance.randrange(65_536)
            packet = to_service(
                service.protocol, str(service.vip), client=str(client), client_port=port
            )
            outcome = balancer.run(bytes(packet))
            assert outcome.verdict is Verdict.FORWARD_TRANSMIT
            chosen = names[outcome.destination, service.protocol]
            assert chosen == balancer.choose_backend(service.name, client, port), (client, port)
            found.add(chosen)
    assert len(found) == BACKENDS
