"""The directory of endpoints: a dict that lies in two arrays."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from reconciler import abi
from reconciler.directory import Directory, count_entries, count_groups, hash_endpoint
from reconciler.errors import Unavailable
from reconciler.model import Affinity, Forwarding, Limits, Protocol
from reconciler.tables import Endpoint, ReplyRow, ServiceRow

# Few, so that they come again, and share groups.
ENDPOINTS = [
    *(Endpoint(IPv4Address("192.0.2.1"), port, Protocol.TCP) for port in range(12)),
    *(Endpoint(IPv6Address("2001:db8::1") + n, 53, Protocol.UDP) for n in range(12)),
]
REPLY = ReplyRow(IPv4Address("192.0.2.9"), 80, 3, is_shared=False)


def make_service(number: int) -> ServiceRow:
    return ServiceRow(number, 0, 251, Forwarding.NAT, Affinity.FLOW, is_shared=False)


def make_directory(groups: int = 16, rows: int = 40) -> Directory:
    return Directory(np.zeros(groups, abi.GROUP), np.zeros(rows, abi.ENTRY), spare=1)


class DirectoryMachine(RuleBasedStateMachine):
    """Whatever is put and dropped, it reads like a dict, also when it is opened anew."""

    def __init__(self) -> None:
        super().__init__()
        self.groups, self.rows = np.zeros(16, abi.GROUP), np.zeros(40, abi.ENTRY)
        self.directory = Directory(self.groups, self.rows, spare=1)
        self.services: dict[Endpoint, ServiceRow] = {}
        self.replies: dict[Endpoint, ReplyRow] = {}

    @rule(key=st.sampled_from(ENDPOINTS), number=st.integers(1, 9))
    def put_service(self, key: Endpoint, number: int) -> None:
        self.services[key] = make_service(number)
        self.directory.put("services", key, self.services[key])

    @rule(key=st.sampled_from(ENDPOINTS), number=st.integers(1, 9))
    def put_reply(self, key: Endpoint, number: int) -> None:
        self.replies[key] = REPLY._replace(backend=number)
        self.directory.put("nat_replies", key, self.replies[key])

    @rule(key=st.sampled_from(ENDPOINTS))
    def drop_service(self, key: Endpoint) -> None:
        if key in self.services:
            del self.services[key]
            self.directory.drop("services", key)
        else:
            with pytest.raises(KeyError):
                self.directory.drop("services", key)

    @rule(key=st.sampled_from(ENDPOINTS))
    def drop_reply(self, key: Endpoint) -> None:
        if self.replies.pop(key, None):
            self.directory.drop("nat_replies", key)

    @rule()
    def open_anew(self) -> None:
        self.directory = Directory(self.groups, self.rows, spare=1)

    @invariant()
    def reads_like_a_dict(self) -> None:
        assert self.directory.read("services") == self.services
        assert self.directory.read("nat_replies") == self.replies


DirectoryMachine.TestCase.settings = settings(deadline=None, max_examples=40)
TestDirectory = DirectoryMachine.TestCase


def test_a_change_leads_to_another_row_and_leaves_the_old_one_as_it_was() -> None:
    """A packet may be reading it."""
    groups, rows = np.zeros(16, abi.GROUP), np.zeros(8, abi.ENTRY)
    directory = Directory(groups, rows, spare=1)
    directory.put("services", ENDPOINTS[0], make_service(1))
    before = rows[0].copy()
    directory.put("services", ENDPOINTS[0], make_service(2))
    assert rows[0] == before
    assert rows[1]["service"]["id"] == 2


def test_there_is_an_end_of_rows_and_of_places() -> None:
    directory = make_directory(rows=4)
    for key in ENDPOINTS[:3]:
        directory.put("services", key, make_service(1))
    with pytest.raises(Unavailable, match="all 3 endpoints are in use"):
        directory.put("services", ENDPOINTS[3], make_service(1))
    directory.put("services", ENDPOINTS[0], make_service(2))  # what is there can be changed


def test_a_group_that_is_full_refuses_another_endpoint_and_keeps_the_others() -> None:
    directory = make_directory(groups=1)
    for key in ENDPOINTS[:8]:
        directory.put("services", key, make_service(1))
    with pytest.raises(Unavailable, match="no place"):
        directory.put("services", ENDPOINTS[8], make_service(1))
    assert set(directory.read("services")) == set(ENDPOINTS[:8])


def test_default_limits_are_full_before_a_group_is() -> None:
    limits = Limits()
    shift = 64 - (count_groups(count_entries(limits)).bit_length() - 1)
    first = int(IPv4Address("10.0.0.0"))
    endpoints = (
        Endpoint(IPv4Address(first + n), 8080, Protocol.TCP) for n in range(count_entries(limits))
    )
    crowd = np.bincount([hash_endpoint(endpoint) >> shift for endpoint in endpoints])
    assert crowd.max() <= abi.GROUP_PLACES


def test_endpoints_are_read_in_an_order_that_their_rows_have_no_part_in() -> None:
    one, other = make_directory(groups=1024), make_directory(groups=1024)
    for directory, keys in ((one, ENDPOINTS), (other, ENDPOINTS[::-1])):
        for key in keys:
            directory.put("services", key, make_service(1))
    for key in ENDPOINTS[::3]:  # which takes another row
        other.put("services", key, make_service(2))
    assert list(one.read("services")) == list(other.read("services"))


def test_what_has_not_changed_is_read_as_the_same_object() -> None:
    directory = make_directory()
    directory.put("services", ENDPOINTS[0], make_service(1))
    first = directory.read("services")
    directory.put("nat_replies", ENDPOINTS[1], REPLY)
    assert directory.read("services") is first
    directory.put("services", ENDPOINTS[2], make_service(2))
    assert directory.read("services") == {**first, ENDPOINTS[2]: make_service(2)}
    assert list(first) == [ENDPOINTS[0]]
