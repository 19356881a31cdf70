"""Tables as people see them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.config import parse
from reconciler.desired import compile_tables
from reconciler.environment import imagine_environment
from reconciler.model import Config
from reconciler.resources import backend_address, changed_attributes, count_slots, list_resources
from reconciler.tables import Tables, make_empty_tables

TEXT = """
interface: [eth1, eth0]
services:
  - name: web
    vip: 192.0.2.1
    port: 443
    ring_size: 251
    backends: [{name: b, address: 10.0.0.1, weight: 50}, {name: a.b, address: 10.0.0.2}]
  - {name: dns, vip: 192.0.2.2, port: 53, protocol: udp, affinity: client, ring_size: 251,
     backends: [10.0.0.3]}
"""


def read(text: str) -> Config:
    config = parse(text.encode(), "lb.yaml").config
    assert config is not None
    return config


def compile_text(text: str, observed: Tables | None = None) -> Tables:
    config = read(text)
    before = make_empty_tables(2_048) if observed is None else observed
    config = replace(config, limits=replace(config.limits, ring_slots=2_048))
    return compile_tables(config, imagine_environment(config), before, now_ns=1)


def test_resources_and_their_order() -> None:
    resources = list_resources(compile_text(TEXT))
    assert list(resources) == [
        "interface.eth0",
        "interface.eth1",
        "settings",
        "service.dns",
        "service.web",
        "service.dns.backend.10.0.0.3:53",
        "service.web.backend.a.b",
        "service.web.backend.b",
    ]
    assert resources["interface.eth0"] == {"mode": "auto", "program": ""}
    assert resources["service.dns"] == {
        "name": "dns",
        "vips": ["192.0.2.2"],
        "port": 53,
        "protocol": "udp",
        "forwarding": "nat",
        "affinity": "client",
        "ring_size": 251,
        "drain_timeout_ms": 300_000,
        "flow_tracking": "on_change",
        "flow_idle_timeout_ms": 120_000,
        "shared": False,
    }
    assert resources["service.web.backend.b"] == {
        "address": "10.0.0.1",
        "port": 443,
        "weight": 50,
        "state": "ready",
        "health": "up",
    }


def test_nothing_is_nothing() -> None:
    assert list_resources(make_empty_tables(4)) == {}
    assert count_slots(make_empty_tables(4)) == {}


def test_a_backend_that_has_left_is_not_listed_and_has_no_slots() -> None:
    shorter = TEXT.replace("{name: b, address: 10.0.0.1, weight: 50}, ", "")
    tables = compile_text(shorter, compile_text(TEXT))
    assert backend_address("web", "b") not in list_resources(tables)
    assert count_slots(tables)["web"] == {"a.b": 251, "b": 0}


def test_slots_are_counted_by_weight() -> None:
    assert count_slots(compile_text(TEXT)) == {
        "dns": {"10.0.0.3:53": 251},
        "web": {"a.b": 167, "b": 84},
    }


def test_half_rows_are_not_shown() -> None:
    tables = compile_text(TEXT)
    without_names = replace(tables, backend_info={}, service_info={})
    assert set(list_resources(without_names)) == {"interface.eth0", "interface.eth1", "settings"}
    assert count_slots(without_names) == {}
    assert "service.web" not in list_resources(replace(tables, services={}))


@pytest.mark.parametrize(
    ("before", "after", "keys"),
    [
        ({}, {}, []),
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1, "b": 2}, {"a": 2, "b": 2}, ["a"]),
        ({"a": 1}, {"b": 1}, ["a", "b"]),
    ],
)
def test_what_has_changed(before: dict[str, int], after: dict[str, int], keys: list[str]) -> None:
    assert changed_attributes(before, after) == keys
