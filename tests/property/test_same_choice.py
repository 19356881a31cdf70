"""The controller and the loaded program choose the same backend for every client."""

from __future__ import annotations

import itertools
import random
from ipaddress import IPv4Address

import pytest

from reconciler.abi import Verdict
from reconciler.model import Affinity, Backend, Limits, Protocol, Service

from ..packet import network
from ..packet.balancer import running_balancer
from ..packet.packets import in_family, to_service
from ..packet.services import Mode, make_config

pytestmark = pytest.mark.root

CLIENTS = 200
SIZES = (251, 4093, 65_537)
BACKENDS = 7

# Every size by nat; what comes after the choice is the other modes' own.
KINDS = [
    *itertools.product(network.FAMILIES, [Mode.NAT], Affinity, SIZES, Protocol),
    *itertools.product(network.FAMILIES, list(Mode)[1:], Affinity, SIZES[:1], Protocol),
]


def name_vip(number):
    return f"192.0.3.{number}"


def make_service(number, kind):
    family, mode, affinity, size, protocol = kind
    name = f"ipv{family}-{mode.name}-{affinity.name}-{size}-{protocol.name}".lower()
    # Behind the default route, by the interface that packets come in on; l2dsr has neighbours.
    net = "10.0.0.{}" if mode is Mode.L2DSR else f"10.2.{number}.{{}}"
    backends = tuple(
        Backend(
            f"{name}-{n}",
            network.locate(net.format(9 + n), mode.outer_family(family)),
            80,
            weight=50 * n,
        )
        for n in range(1, BACKENDS + 1)
    )
    return Service(
        name,
        network.locate(name_vip(number), family),
        80,
        protocol,
        mode.forwarding,
        affinity,
        size,
        drain_timeout_s=60.0,
        backends=backends,
    )


SERVICES = tuple(make_service(number, kind) for number, kind in enumerate(KINDS))


@pytest.fixture(scope="module")
def balancer():
    limits = Limits(128, 1024, sum(service.ring_size for service in SERVICES), 1024)
    with running_balancer(make_config(SERVICES, limits)) as balancer:
        yield balancer


def read_backend(outcome, service, mode):
    """The name of the backend that a frame goes to."""
    if mode is Mode.L2DSR:
        last = outcome.frame[5]
        return f"{service.name}-{last - 9}"
    address, _ = outcome.destination
    return next(backend.name for backend in service.backends if backend.address == address)


@pytest.mark.parametrize("number", range(len(SERVICES)), ids=lambda n: SERVICES[n].name)
def test_same_choice(balancer, number):
    service = SERVICES[number]
    family, mode, *_ = KINDS[number]
    chance = random.Random(service.name)
    verdict = Verdict.FORWARD_REDIRECT if mode is Mode.L2DSR else Verdict.FORWARD_TRANSMIT
    found = set()
    with balancer.inside():
        for _ in range(CLIENTS):
            client = str(IPv4Address(chance.randrange(0x0B00_0000, 0x7F00_0000)))
            port = chance.randrange(65_536)
            packet = to_service(
                service.protocol, name_vip(number), client=client, client_port=port, port=80
            )
            outcome = balancer.run(bytes(in_family(packet, family)))
            assert outcome.verdict is verdict
            chosen = read_backend(outcome, service, mode)
            there = network.locate(client, family)
            assert chosen == balancer.choose_backend(service.name, there, port), (client, port)
            found.add(chosen)
    assert len(found) == BACKENDS
