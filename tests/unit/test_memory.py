"""Who may go on, who is asked for, and what slots and backends wait for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler import abi
from reconciler.memory import (
    CLOSING_NS,
    Flows,
    Judge,
    Part,
    needs_memory,
    needs_occupancy,
)
from reconciler.model import Affinity, BackendState, FlowTracking, Forwarding, Protocol
from reconciler.tables import (
    BackendInfo,
    BackendRow,
    Endpoint,
    ServiceInfo,
    ServiceRow,
    Tables,
    pack_slots,
)

S = 1_000_000_000
NOW = 1_000_000 * S
VIP = IPv4Address("192.0.2.1")
MARKER = ServiceRow(0, 0, 0, Forwarding.NAT, Affinity.FLOW, is_shared=False)

# Service 1 is web, slots 4 to 8; service 2 is dns, slots 10 to 14; the rest is nobody's.
WEB, DNS = slice(4, 8), slice(10, 14)
SLOTS = 16
ALIVE, TOO, DRAINED, IN_MAINT, GONE = 1, 2, 3, 4, 5
BORN = 7
STATES = {
    ALIVE: BackendState.READY,
    TOO: BackendState.READY,
    DRAINED: BackendState.DRAIN,
    IN_MAINT: BackendState.MAINT,
}


def make_tables(
    words: Mapping[int, tuple[int, int]] | None = None,
    *,
    window_end_s: float = 0,
    leaves: Iterable[int] = (),
    tracked: Iterable[int] = (),
) -> Tables:
    """Both services; their slots say {1, 0} unless `words` has something else."""
    backend, previous = np.zeros(SLOTS, np.uint16), np.zeros(SLOTS, np.uint16)
    for extent in (WEB, DNS):
        backend[extent] = ALIVE
    for index, (now, before) in (words or {}).items():
        backend[index], previous[index] = now, before
    services, infos = {}, {}
    for number, extent, protocol, idle_s in (
        (1, WEB, Protocol.TCP, 7200),
        (2, DNS, Protocol.UDP, 120),
    ):
        row = ServiceRow(
            number,
            extent.start,
            extent.stop - extent.start,
            Forwarding.NAT,
            Affinity.FLOW,
            is_shared=False,
            is_tracked=number in tracked,
        )
        services |= {Endpoint(VIP, 53, protocol): row, Endpoint(VIP, 0, protocol): MARKER}
        end_ns, timeout_ms = int(window_end_s * S), 300_000
        infos[number] = ServiceInfo(
            f"s{number}", timeout_ms, False, end_ns, FlowTracking.ON_CHANGE, idle_s * 1000
        )
    return Tables(
        services=services,
        service_info=infos,
        backends={
            number: BackendRow(VIP + number, 80, 1, Forwarding.NAT, state, BORN)
            for number, state in STATES.items()
        },
        backend_info={
            number: BackendInfo(f"b{number}", 100, NOW if number in leaves else 0)
            for number in STATES
        },
        slots=pack_slots(backend, previous),
    )


def make_flows(*fields: Mapping[str, int]) -> Flows:
    """Flows of slot 4 on backend 1 that were heard of just now, but for `fields`."""
    flows = np.zeros(len(fields), abi.FLOW)
    for flow, each in zip(flows, fields, strict=True):
        whole = {"slot": 4, "backend": ALIVE, "born": BORN, "kind": abi.FlowKind.BACKEND, **each}
        whole["last_seen_ns"] = NOW - whole.pop("silent_s", 0) * S
        for name, value in whole.items():
            flow[name] = value
    return flows


def both(flows: Flows, strays: Flows) -> list[Part]:
    return [Part(strays, are_strays=True), Part(flows)]


NOBODY = make_flows()


def judge(tables: Tables | None = None) -> Judge:
    return Judge(tables or make_tables(), NOW)


# --- who may go on ---


@pytest.mark.parametrize(
    ("flow", "may_go_on"),
    [
        ({}, True),
        ({"silent_s": -1}, True),  # heard of since the clock was read
        ({"silent_s": 7199}, True),
        ({"silent_s": 7200}, False),
        ({"slot": 13, "silent_s": 119}, True),
        ({"slot": 13, "silent_s": 120}, False),
        ({"closing": 1, "silent_s": CLOSING_NS // S - 1}, True),
        ({"closing": 1, "silent_s": CLOSING_NS // S}, False),
        ({"slot": 9, "silent_s": 7199}, True),  # between the rings
        ({"slot": 14, "silent_s": 7200}, False),
        ({"slot": 2**32 - 1, "silent_s": 7199}, True),  # of an array that was larger
        ({"backend": DRAINED}, True),
        ({"backend": IN_MAINT}, False),
        ({"backend": GONE}, False),
        ({"backend": 65_535}, False),
        ({"born": BORN - 1}, False),
        ({"born": BORN + 1}, False),
        ({"kind": abi.FlowKind.VIP}, False),
        ({"kind": abi.FlowKind.DIRECT}, False),
        ({"kind": 0}, False),
    ],
)
def test_who_may_go_on(flow: dict[str, int], may_go_on: bool) -> None:
    assert judge().find_living(make_flows(flow)).tolist() == [may_go_on]


@pytest.mark.parametrize(
    ("stray", "may_go_on"),
    [
        ({"silent_s": 299}, True),
        ({"silent_s": 300}, False),
        ({"slot": 12, "silent_s": 29}, True),
        ({"slot": 12, "silent_s": 30}, False),  # the longest window of datagrams
        ({"closing": 1, "silent_s": CLOSING_NS // S}, False),
        ({"slot": 12, "closing": 1, "silent_s": 30}, False),
    ],
)
def test_a_stray_counts_for_one_window(stray: dict[str, int], may_go_on: bool) -> None:
    assert judge().find_living(make_flows(stray), are_strays=True).tolist() == [may_go_on]


def test_a_short_idle_timeout_is_shorter_than_a_goodbye() -> None:
    tables = make_tables()
    infos = {1: tables.service_info[1]._replace(flow_idle_timeout_ms=5_000)}
    flows = make_flows({"closing": 1, "silent_s": 4}, {"closing": 1, "silent_s": 5})
    living = judge(replace(tables, service_info={**tables.service_info, **infos}))
    assert living.find_living(flows).tolist() == [True, False]


def test_without_a_service_flows_are_nobodys() -> None:
    backends = make_tables().backends
    flows = make_flows({"silent_s": 7199}, {"silent_s": 7200})
    for tables in (Tables(backends=backends), replace(make_tables(), service_info={})):
        assert judge(tables).find_living(flows).tolist() == [True, False]
        assert judge(tables).find_needless(flows).shape == (2,)
        assert judge(tables).find_occupancy(both(flows, flows)).slots.sum() == 0


def test_nobody_at_all() -> None:
    assert judge().find_living(NOBODY).size == 0
    assert judge().find_needless(NOBODY).size == 0
    assert judge().find_occupancy(both(NOBODY, NOBODY)).slots.sum() == 0


# --- who is asked for ---

UNSETTLED = {4: (TOO, ALIVE), 5: (TOO, TOO), 10: (TOO, ALIVE)}


@pytest.mark.parametrize(
    ("flow", "is_asked_for"),
    [
        ({"slot": 4}, True),
        ({"slot": 5}, True),
        ({"slot": 6}, False),
        ({"slot": 10}, True),
        ({"slot": 11}, False),
        ({"slot": 9}, True),  # of a ring that was: who goes on says its slot anew
        ({"slot": 10**6}, True),
        ({"slot": 6, "kind": abi.FlowKind.VIP}, True),  # slots are none of its business
        ({"slot": 6, "kind": abi.FlowKind.DIRECT}, True),
    ],
)
def test_settled_slots_ask_for_nobody(flow: dict[str, int], is_asked_for: bool) -> None:
    tables = make_tables(UNSETTLED, window_end_s=1)
    assert judge(tables).find_unasked(make_flows(flow)).tolist() == [not is_asked_for]


def test_tracked_services_always_ask() -> None:
    tables = make_tables(tracked=[1])
    flows = make_flows({"slot": 6}, {"slot": 11})
    assert judge(tables).find_unasked(flows).tolist() == [False, True]


def test_needless_is_who_has_ended_or_is_not_asked_for() -> None:
    tables = make_tables(UNSETTLED, window_end_s=1)
    flows = make_flows({}, {"silent_s": 7200}, {"slot": 6}, {"slot": 6, "silent_s": 7200})
    assert judge(tables).find_needless(flows).tolist() == [False, True, True, True]


# --- what is waited for ---


def test_a_slot_is_occupied_by_who_lives_elsewhere() -> None:
    flows = make_flows(
        {"slot": 4, "backend": TOO},
        {"slot": 5, "backend": ALIVE},
        {"slot": 6, "backend": TOO, "silent_s": 7200},
        {"slot": 7, "backend": IN_MAINT},
        {"slot": 10**6, "backend": TOO},
    )
    strays = make_flows(
        {"slot": 10, "backend": TOO},
        {"slot": 11, "backend": TOO, "silent_s": 30},
        {"slot": 12, "backend": TOO, "kind": abi.FlowKind.VIP},
    )
    occupancy = judge().find_occupancy(both(flows, strays))
    assert np.flatnonzero(occupancy.slots).tolist() == [4, 10]
    assert occupancy.flows is not None
    assert {i: int(n) for i, n in enumerate(occupancy.flows) if n} == {ALIVE: 1, TOO: 2}


def test_open_flows_are_counted_by_backend() -> None:
    flows = make_flows({}, {"backend": TOO}, {"backend": TOO, "closing": 1}, {"silent_s": 7200})
    strays = make_flows({}, {"closing": 1}, {"silent_s": 300}, {"backend": DRAINED})
    counts = judge().count_open(both(flows, strays))
    assert counts.shape == (65_536,)
    assert {i: int(n) for i, n in enumerate(counts) if n} == {ALIVE: 2, TOO: 1, DRAINED: 1}


@pytest.mark.parametrize(
    ("tables", "memory", "occupancy"),
    [
        (Tables(), False, False),
        (make_tables(), False, False),
        (make_tables({4: (TOO, ALIVE)}, window_end_s=1), True, False),
        (make_tables({4: (TOO, TOO)}, window_end_s=1), True, True),
        (make_tables({4: (0, ALIVE)}, window_end_s=1), True, False),
        (make_tables(leaves=[TOO]), True, True),
        (make_tables(tracked=[2]), True, False),
    ],
)
def test_what_needs_a_look(tables: Tables, memory: bool, occupancy: bool) -> None:
    assert (needs_memory(tables), needs_occupancy(tables)) == (memory, occupancy)


# --- laws ---

flow_fields = st.fixed_dictionaries(
    {
        "slot": st.integers(0, SLOTS + 2),
        "backend": st.integers(0, 6),
        "born": st.sampled_from([BORN, BORN, BORN - 1]),
        "kind": st.sampled_from([*abi.FlowKind, abi.FlowKind.BACKEND]),
        "closing": st.integers(0, 1),
        "silent_s": st.sampled_from([0, 29, 30, 119, 120, 299, 300, 7199, 7200]),
    }
)
some_flows = st.lists(flow_fields, max_size=20)
some_words = st.dictionaries(
    st.sampled_from([*range(4, 8), *range(10, 14)]),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
)


@given(some_words, some_flows)
def test_nobody_who_lives_and_is_asked_for_is_forgotten(
    words: dict[int, tuple[int, int]], fields: list[dict[str, int]]
) -> None:
    tables = make_tables(words, window_end_s=1)
    flows, here = make_flows(*fields), judge(tables)
    previous = tables.slots.view(np.uint16).reshape(-1, 2)[:, 1]
    inside = flows["slot"] < SLOTS
    is_unsettled = inside & (previous[np.where(inside, flows["slot"], 0)] != 0)
    assert not np.any(here.find_needless(flows) & here.find_living(flows) & is_unsettled)


@given(some_words, some_flows, some_flows)
def test_no_slot_settles_under_who_lives_elsewhere(
    words: dict[int, tuple[int, int]], fields: list[dict[str, int]], more: list[dict[str, int]]
) -> None:
    tables = make_tables(words, window_end_s=1)
    flows, strays, here = make_flows(*fields), make_flows(*more), judge(tables)
    occupied = here.find_occupancy(both(flows, strays)).slots
    backend = tables.slots.view(np.uint16).reshape(-1, 2)[:, 0]
    expected = {
        int(flow["slot"])
        for group, are_strays in ((flows, False), (strays, True))
        for flow in group[here.find_living(group, are_strays=are_strays)]
        if flow["slot"] < SLOTS and flow["backend"] != backend[flow["slot"]]
    }
    assert set(np.flatnonzero(occupied).tolist()) == expected


@given(some_words, some_flows, st.integers(0, 20))
def test_parts_are_judged_as_the_whole(
    words: dict[int, tuple[int, int]], fields: list[dict[str, int]], cut: int
) -> None:
    flows, here = make_flows(*fields), judge(make_tables(words, window_end_s=1))
    parts = [here.find_needless(part) for part in (flows[:cut], flows[cut:])]
    assert np.array_equal(np.concatenate(parts), here.find_needless(flows))
