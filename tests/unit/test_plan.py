"""What each operation means, and in which order they come."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from ipaddress import IPv4Address, IPv6Address

import numpy as np
import pytest

from reconciler.model import Affinity, BackendState, Forwarding, Protocol, XdpMode
from reconciler.plan import Drop, Plan, Put, Store, diff, step
from reconciler.tables import (
    Attachment,
    BackendInfo,
    BackendRow,
    Endpoint,
    InterfaceRow,
    Meta,
    ReplyRow,
    ServiceInfo,
    ServiceRow,
    Settings,
    Tables,
    make_empty_tables,
)

VIP = Endpoint(IPv4Address("192.0.2.1"), 80, Protocol.TCP)
SERVER = Endpoint(IPv4Address("10.0.0.1"), 8080, Protocol.TCP)
EMPTY = make_empty_tables(4)
FULL = Tables(
    settings={0: Settings(250, 1)},
    interfaces={2: InterfaceRow(transmits=True, redirects=True)},
    service_info={1: ServiceInfo("web", 300_000, own_addresses=False, window_end_ns=0)},
    backend_info={1: BackendInfo("b1", 100, 0)},
    backends={
        1: BackendRow(SERVER.address, 8080, 1, Forwarding.NAT, BackendState.READY, 1),
    },
    nat_replies={SERVER: ReplyRow(VIP.address, 80, 1, is_shared=False)},
    services={VIP: ServiceRow(1, 0, 3, Forwarding.NAT, Affinity.FLOW, is_shared=False)},
    attachments={"eth0": Attachment(2, XdpMode.AUTO, "ab")},
    meta={0: Meta(1, "ab", "cd", "ef")},
    slots=np.array([1, 1, 1, 0], np.uint32),
)


def words(plan: Plan) -> list[str]:
    return [
        f"{type(one).__name__.lower()} {one.table if not isinstance(one, Store) else one}"
        for one in plan
    ]


def test_building_comes_from_the_ground_up() -> None:
    built = words(diff(FULL, EMPTY))
    assert sorted(built[:6]) == [
        "put backend_info",
        "put backends",
        "put interfaces",
        "put nat_replies",
        "put service_info",
        "put settings",
    ]
    assert built[6:] == [
        "store Store(3 slots)",
        "put services",
        "put attachments",
        "put meta",
    ]


def test_taking_down_goes_from_the_top() -> None:
    assert words(diff(EMPTY, FULL)) == [
        "drop attachments",
        "drop services",
        "store Store(3 slots)",
        "drop nat_replies",
        "drop backends",
        "drop backend_info",
        "drop service_info",
        "drop interfaces",
        "drop settings",
        "drop meta",
    ]


def test_live_slots_are_told_before_services_and_freed_ones_after() -> None:
    desired = replace(FULL, slots=np.array([0, 1, 2, 3], np.uint32), services={})
    assert diff(desired, FULL) == (
        Store(np.array([2, 3]), np.array([2, 3], np.uint32)),
        Drop("services", VIP),
        Store(np.array([0]), np.array([0], np.uint32)),
    )


def test_rows_that_are_there_are_left_alone() -> None:
    info = ServiceInfo("web", 60_000, own_addresses=False, window_end_ns=0)
    assert diff(replace(FULL, service_info={1: info}), FULL) == (Put("service_info", 1, info),)


def test_rows_come_in_the_order_of_their_keys() -> None:
    listed = [
        VIP,
        VIP._replace(address=IPv6Address("2001:db8::1")),
        VIP._replace(protocol=Protocol.UDP),
        VIP._replace(port=0),
    ]
    services = dict.fromkeys(listed, FULL.services[VIP])
    turned = dict.fromkeys(reversed(listed), FULL.services[VIP])
    plans = [diff(replace(FULL, services=one), EMPTY) for one in (services, turned)]
    assert plans[0] == plans[1]
    ids = dict.fromkeys((10, 9, 100), FULL.backend_info[1])
    puts = diff(replace(FULL, backend_info=ids), replace(FULL, backend_info={}))
    assert [one.key for one in puts if isinstance(one, Put)] == [9, 10, 100]


def test_slots_of_another_number_have_no_difference() -> None:
    with pytest.raises(ValueError, match=r"slot arrays differ in size: \(4,\) and \(6,\)"):
        diff(EMPTY, make_empty_tables(5))


@pytest.mark.parametrize(
    ("operation", "after"),
    [
        (Put("meta", 0, Meta(2, "", "", "")), replace(FULL, meta={0: Meta(2, "", "", "")})),
        (
            Put("interfaces", 3, InterfaceRow(transmits=False, redirects=False)),
            replace(
                FULL,
                interfaces={
                    **FULL.interfaces,
                    3: InterfaceRow(transmits=False, redirects=False),
                },
            ),
        ),
        (Drop("services", VIP), replace(FULL, services={})),
        (
            Store(np.array([3, 0]), np.array([7, 8], np.uint32)),
            replace(FULL, slots=np.array([8, 1, 1, 7], np.uint32)),
        ),
    ],
)
def test_one_step(operation: Put | Drop | Store, after: Tables) -> None:
    before = replace(FULL, slots=FULL.slots.copy())
    assert step(FULL, operation) == after
    assert before == FULL  # what was observed stays as it was seen


def test_dropping_what_is_not_there_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        step(EMPTY, Drop("services", VIP))


def test_there_and_back() -> None:
    assert reduce(step, diff(FULL, EMPTY), EMPTY) == FULL
    assert reduce(step, diff(EMPTY, FULL), FULL) == EMPTY


def test_stores_are_values() -> None:
    one = Store(np.array([1]), np.array([2], np.uint32))
    assert one == Store(np.array([1]), np.array([2], np.uint32))
    assert one != Store(np.array([1]), np.array([3], np.uint32))
    assert one != Store(np.array([2]), np.array([2], np.uint32))
    assert one != Drop("meta", 0)
    with pytest.raises(TypeError):
        hash(one)
