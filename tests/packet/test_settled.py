"""The steady state: whatever comes for a settled slot, no flow is looked up."""

from __future__ import annotations

import dataclasses

import pytest

from . import network, services
from .balancer import MEMORY
from .clients import TCP, count
from .packets import from_backend, to_service
from .services import Mode
from .test_icmp import INWARD_INSIDE, OUTWARD, at, error, of_mode

pytestmark = pytest.mark.root


@pytest.fixture
def balancer(balancer, family):
    balancer.family = family
    yield balancer
    assert balancer.read_events() == {}
    assert {name: count(balancer, name) for name in MEMORY} == dict.fromkeys(MEMORY, 0)


def list_fields(protocol):
    flags = ("S", "SA", "A", "PA", "FA", "R", "RA")
    return [{"flags": each} for each in flags] if protocol is TCP else [{}]


@pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.name.lower())
def test_clients_ask_nothing(balancer, mode, protocol):
    vip = services.in_mode(services.TRIO, mode)
    for port in range(1000, 1020):
        for fields in list_fields(protocol):
            balancer.send(to_service(protocol, vip, client_port=port, **fields))


@pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.name.lower())
def test_errors_of_clients_ask_nothing(balancer, mode, protocol, family):
    flow = of_mode(dataclasses.replace(OUTWARD, src=services.TRIO), mode)
    balancer.run(bytes(at(network.FRONT, error(family, protocol, flow))))


def test_backends_ask_nothing(balancer, protocol, family):
    for port in range(1000, 1020):
        for fields in list_fields(protocol):
            balancer.send(from_backend(protocol, client_port=port, **fields), network.BACK)
    balancer.run(bytes(at(network.BACK, error(family, protocol, INWARD_INSIDE))), network.BACK)


def test_who_is_no_client_asks_nothing(balancer, protocol):
    balancer.send(to_service(protocol, "203.0.113.5"))
    balancer.send(to_service(protocol, services.TRIO, port=22))
    balancer.send(from_backend(protocol, port=22), network.BACK)
