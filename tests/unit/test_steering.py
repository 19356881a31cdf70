"""`steering`: the choice of a client, computed from tables."""

from dataclasses import replace
from ipaddress import ip_address

import numpy as np
import pytest

from reconciler.cli.plan import compile_offline
from reconciler.config import parse
from reconciler.steering import find_choices
from reconciler.tables import pack_slots

FILE = b"""
interface: eth0
services:
  - {name: dns, vip: "2001:db8::53", port: 53, protocol: udp, backends: ["2001:db8:1::1"]}
  - {name: web, vip: 192.0.2.10, port: 80, ring_size: 251, backends: [10.0.0.1, 10.0.0.2]}
  - {name: near, vip: 192.0.2.11, port: 80, ring_size: 251, affinity: client,
     backends: [10.0.0.1, 10.0.0.2]}
"""


@pytest.fixture(scope="module")
def tables():
    config = parse(FILE, "lb.yaml").config
    assert config is not None
    return compile_offline(config)


def test_a_client_reaches_the_services_of_its_own_family(tables):
    found = find_choices(tables, ip_address("192.0.2.7"), 4711)
    assert [choice.service for choice in found] == ["near", "web"]
    found = find_choices(tables, ip_address("2001:db8::7"), 4711)
    assert [choice.service for choice in found] == ["dns"]


def test_affinity_client_ignores_the_port(tables):
    ports = range(1, 200)
    found = [find_choices(tables, ip_address("192.0.2.7"), port) for port in ports]
    assert len({choices[0].slot for choices in found}) == 1  # near
    assert len({choices[1].slot for choices in found}) > 20  # web


def test_a_moved_slot_names_who_keeps_the_older_flows(tables):
    client = ip_address("192.0.2.7")
    choice = find_choices(tables, client, 4711)[1]
    row = next(r for e, r in tables.services.items() if str(e.address) == "192.0.2.10" and r.id)
    ids = {
        tables.backend_info[number].name: number
        for number, backend in tables.backends.items()
        if backend.service == row.id
    }
    other = next(name for name in ids if name != choice.backend)
    slots = tables.slots.copy()
    word = pack_slots(np.array([ids[other]], np.uint16), np.array([ids[choice.backend]], np.uint16))
    slots[row.ring_offset + choice.slot] = word[0]

    moved = find_choices(replace(tables, slots=slots), client, 4711)[1]

    assert (choice.previous, moved.backend, moved.previous) == (None, other, choice.backend)


def test_a_service_without_slots_has_no_backend(tables):
    empty = replace(tables, slots=np.zeros_like(tables.slots))
    choice = find_choices(empty, ip_address("192.0.2.7"), 4711)[1]
    assert choice.backend is None
    assert choice.address is None
