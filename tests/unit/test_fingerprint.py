"""`fingerprint`: one value that is known, and tables that are not whole."""

from dataclasses import replace

import numpy as np
import pytest

from reconciler.cli.plan import compile_offline
from reconciler.config import parse
from reconciler.fingerprint import fingerprint_rings
from reconciler.tables import make_empty_tables

FILE = b"""
interface: eth0
services:
  - {name: dns, vip: "2001:db8::53", port: 53, protocol: udp, backends: ["2001:db8:1::1"]}
  - {name: web, vip: 192.0.2.10, port: 80, ring_size: 251,
     backends: [{name: one, address: 10.0.0.1, port: 80}, {name: two, address: 10.0.0.2, port: 80}]}
"""


def compile_file(text):
    config = parse(text, "lb.yaml").config
    assert config is not None
    return compile_offline(config)


@pytest.fixture(scope="module")
def tables():
    return compile_file(FILE)


def name_fingerprints(tables):
    found = fingerprint_rings(tables).services
    return {tables.service_info[number].name: digest for number, digest in found.items()}


def test_releases_that_choose_alike_print_the_same(tables):
    """Another value tells operators that the release chooses otherwise: see _PERSON."""
    assert fingerprint_rings(tables).whole == "dd95fbe87d1ecb61"
    assert name_fingerprints(tables) == {"dns": "191f2de7ea080c54", "web": "8c828f1fe0da91a9"}


@pytest.mark.parametrize(
    ("part", "edit"),
    [
        (b"interface", b"hash_seed: 0x5eed\ninterface"),
        (b"192.0.2.10", b"192.0.2.11"),
        (b"port: 80, ring", b"port: 81, ring"),
        (b"port: 80, ring", b"port: 80, protocol: udp, ring"),
        (b"port: 80, ring", b"port: 80, forwarding: l2dsr, ring"),
        (b"port: 80, ring", b"port: 80, affinity: client, ring"),
        (b"251", b"257"),
        (b"name: two", b"name: three"),
        (b"10.0.0.2", b"10.0.0.3"),
        (b"port: 80}]", b"port: 8080}]"),
        (b"port: 80}]", b"port: 80, weight: 90}]"),
        (b"port: 80}]", b"port: 80}, 10.0.0.3]"),
    ],
)
def test_what_sends_a_flow_elsewhere_is_seen(tables, part, edit):
    edited = compile_file(edit.join(FILE.rsplit(part, 1)))
    before, after = name_fingerprints(tables), name_fingerprints(edited)
    assert before["web"] != after["web"]
    assert (before["dns"] == after["dns"]) == (part != b"interface")
    assert fingerprint_rings(edited).whole != fingerprint_rings(tables).whole


def test_another_server_behind_a_name_is_seen(tables):
    moved = compile_file(FILE.replace(b"10.0.0.2", b"10.0.0.3"))
    assert np.array_equal(moved.slots, tables.slots)
    assert fingerprint_rings(moved).whole != fingerprint_rings(tables).whole


@pytest.mark.parametrize(
    ("part", "edit"),
    [
        (b"interface: eth0", b"interface: [eth1, eth2]\nxdp_mode: generic"),
        (b"name: web", b"name: shop, drain_timeout: 1s"),
        (b"port: 80}]", b"port: 80, weight: 100}]"),
        (b"251", b"251, affinity: flow"),
    ],
)
def test_what_sends_no_flow_elsewhere_is_not_seen(tables, part, edit):
    edited = compile_file(FILE.replace(part, edit))
    assert fingerprint_rings(edited).whole == fingerprint_rings(tables).whole


def test_the_order_of_backends_is_not_seen(tables):
    one, other = (
        b"{name: %s, address: 10.0.0.%d, port: 80}" % e for e in ((b"one", 1), (b"two", 2))
    )
    swapped = compile_file(FILE.replace(one + b", " + other, other + b", " + one))
    assert fingerprint_rings(swapped).whole == fingerprint_rings(tables).whole


def test_a_backend_that_is_not_there_is_nobody(tables):
    """So a table that a killed writer left behind has a fingerprint too."""
    torn = replace(tables, backends={})
    empty = replace(tables, slots=np.zeros_like(tables.slots))
    assert fingerprint_rings(torn) == fingerprint_rings(empty)


def test_an_instance_without_services_has_a_fingerprint(tables):
    nothing = fingerprint_rings(make_empty_tables(1_024))
    assert nothing.services == {}
    assert len(nothing.whole) == 16
    assert fingerprint_rings(replace(tables, services={})) == nothing
