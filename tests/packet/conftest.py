from __future__ import annotations

from collections.abc import Iterator

import pytest

from reconciler.model import Protocol

from . import network
from .balancer import Balancer, running_balancer
from .services import make_test_config


@pytest.fixture(scope="session")
def _running() -> Iterator[Balancer]:
    with running_balancer(make_test_config()) as balancer:
        yield balancer


@pytest.fixture
def balancer(_running: Balancer) -> Balancer:
    """A balancer on which nothing has happened yet."""
    _running.family = 4
    _running.restore()
    return _running


@pytest.fixture(params=network.FAMILIES, ids=lambda family: f"ipv{family}")
def family(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(params=Protocol, ids=lambda protocol: protocol.name.lower())
def protocol(request: pytest.FixtureRequest) -> Protocol:
    return request.param
