"""Metrics are served where the file says, and their absence holds nothing up."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from reconciler.config import parse
from reconciler.metrics.recorder import Recorder
from reconciler.metrics.service import MetricsService
from reconciler.model import Config, Metrics

from ..surveys import TEXT

HOST = "127.0.0.1"


def find_port() -> int:
    """A port that is free now."""
    with socket.create_server((HOST, 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def listen_on(port: int, *, is_named: bool = True) -> Config:
    config = parse(TEXT.encode(), "lb.yaml").config
    assert config is not None
    return replace(config, metrics=Metrics(ip_address(HOST), port, is_named=is_named))


def switch_off(config: Config) -> Config:
    return replace(config, metrics=Metrics(None))


def is_served(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=10) as response:
            return b"xdplb_dataplane_up 0" in response.read()
    except OSError:
        return False


@pytest.fixture
def service(tmp_path: Path) -> Iterator[MetricsService]:
    made = MetricsService("default", tmp_path, Recorder(), state_root=tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_the_file_is_followed(service: MetricsService) -> None:
    first, second = listen_on(find_port()), listen_on(find_port())
    service.follow(first)
    assert is_served(first.metrics.port)
    service.follow(first)
    assert is_served(first.metrics.port)
    service.follow(second)
    assert is_served(second.metrics.port)
    assert not is_served(first.metrics.port)
    service.follow(switch_off(second))
    assert not is_served(second.metrics.port)
    service.follow(second)
    assert is_served(second.metrics.port)


def test_a_place_that_is_named_now_is_the_same_place(service: MetricsService) -> None:
    config = listen_on(find_port(), is_named=False)
    service.follow(config)
    server = service._server
    service.follow(listen_on(config.metrics.port))
    assert service._server is server
    assert is_served(config.metrics.port)


@pytest.mark.parametrize(("is_named", "level"), [(False, logging.WARNING), (True, logging.ERROR)])
def test_a_place_that_is_taken_is_said_once_and_tried_again(
    service: MetricsService, caplog: pytest.LogCaptureFixture, is_named: bool, level: int
) -> None:
    with socket.create_server((HOST, 0)) as other:
        config = listen_on(other.getsockname()[1], is_named=is_named)
        for _ in range(3):
            service.follow(config)
        assert service.problem.startswith(f"cannot listen on {HOST}:{config.metrics.port}: ")
    (record,) = caplog.records
    assert record.levelno == level
    assert "metrics=off" in record.message
    service.follow(config)
    assert service.problem == ""
    assert is_served(config.metrics.port)


def test_nothing_heavy_is_imported_until_it_is_served() -> None:
    program = (
        "import sys; from reconciler.metrics.recorder import Recorder\n"
        "from reconciler.metrics.service import MetricsService\n"
        "assert 'prometheus_client' not in sys.modules and 'http.server' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
