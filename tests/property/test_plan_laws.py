"""Laws of `reconciler.plan`, on tables that a random past has left behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from ipaddress import IPv4Address
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.desired import compile_tables
from reconciler.environment import Environment, InterfaceFacts
from reconciler.model import (
    Affinity,
    Backend,
    BackendState,
    Config,
    Forwarding,
    Limits,
    Protocol,
    Service,
    XdpMode,
)
from reconciler.plan import Plan, Store, diff, step
from reconciler.tables import Endpoint, Meta, Tables, make_empty_tables, unpack_slots

SECOND_NS = 1_000_000_000
RING_SLOTS = 4_096
LIMITS = Limits(services=16, backends=128, ring_slots=RING_SLOTS)
MACHINE = Environment(
    {"eth0": InterfaceFacts(2, (IPv4Address("198.51.100.1"),), True, True)}, 250, "5a" * 32
)

vips = st.sampled_from([None, IPv4Address("192.0.2.7"), IPv4Address("192.0.2.8")])
states = st.sampled_from([BackendState.READY] * 4 + [BackendState.DRAIN, BackendState.MAINT])


@st.composite
def services(
    draw: st.DrawFn, name: str, port: int, kind: tuple[Protocol, Forwarding], is_calm: bool
) -> Service:
    numbers = sorted(draw(st.sets(st.integers(1, 5), min_size=1, max_size=4)))
    backends = [
        Backend(f"b{n}", IPv4Address(f"10.0.0.{n}"), 80, draw(st.sampled_from([1, 50])), state)
        for n, state in zip(numbers, draw(st.lists(states, min_size=4, max_size=4)), strict=False)
    ]
    if is_calm:
        backends[0] = replace(backends[0], state=BackendState.READY)
    return Service(
        name=name,
        vip=draw(vips),
        port=port,
        protocol=kind[0],
        forwarding=kind[1],
        affinity=Affinity.FLOW,
        ring_size=251 if is_calm else draw(st.sampled_from([251, 251, 509])),
        drain_timeout_s=draw(st.sampled_from([0.0, 30.0])),
        backends=tuple(backends),
    )


@st.composite
def configs(draw: st.DrawFn, *, is_calm: bool = False) -> Config:
    """Up to four services; calm ones keep their ring's size and somebody to lead to."""
    listed = [
        draw(services("s1", 81, (Protocol.TCP, Forwarding.NAT), is_calm)),
        draw(services("s2", 82, (Protocol.TCP, Forwarding.NAT), is_calm)),
        draw(services("s3", 83, (Protocol.UDP, Forwarding.NAT), is_calm)),
        draw(services("s4", 84, (Protocol.TCP, Forwarding.GUE), is_calm)),
    ]
    kept = draw(st.sampled_from([listed, listed[:2], listed[:1], listed[1:]]))
    seed = draw(st.sampled_from([1, 1, 2]))
    return Config("laws", ("eth0",), XdpMode.AUTO, seed, tuple(kept), limits=LIMITS)


gaps = st.sampled_from([0, 5, 40])
steps = st.tuples(configs(), gaps)
calm_steps = st.tuples(configs(is_calm=True), gaps)
pasts = st.lists(steps, max_size=3)


def compile_next(config: Config, observed: Tables, now_s: int) -> Tables:
    desired = compile_tables(config, MACHINE, observed, now_ns=now_s * SECOND_NS)
    return replace(desired, meta={0: Meta(observed.generation + 1, "", "", "")})


def live_through(past: list[tuple[Config, int]]) -> tuple[Tables, int]:
    tables, now_s = make_empty_tables(RING_SLOTS), 1
    for config, gap_s in past:
        now_s += gap_s
        tables = compile_next(config, tables, now_s)
    return tables, now_s


def follow(plan: Plan, tables: Tables) -> Tables:
    return reduce(step, plan, tables)


def prefixes(plan: Plan, tables: Tables) -> Iterator[Tables]:
    return accumulate(plan, step, initial=tables)


def services_without_backends(tables: Tables) -> set[int]:
    """Services of which some slot leads nowhere because there is nobody to lead to."""
    return {
        row.id
        for row in tables.services.values()
        if not np.all(unpack_slots(tables.slots[row.ring_offset :][: row.ring_size])[0])
    }


def find_fault(tables: Tables, may_lead_nowhere: set[int]) -> str:
    """Why these tables are no correct balancer; empty if they are one."""
    for vip, row in tables.services.items():
        words = tables.slots[row.ring_offset :][: row.ring_size]
        backend, previous = unpack_slots(words)
        if len(words) != row.ring_size:
            return f"{vip}: the ring ends early"
        if row.ring_size and not np.all(backend) and row.id not in may_lead_nowhere:
            return f"{vip}: a slot leads nowhere"
        for number in set(np.concatenate([backend, previous]).tolist()) - {0}:
            named = tables.backends.get(number)
            if named is None or named.service != row.id:
                return f"{vip}: a slot names backend {number}, which is {named}"
            server = Endpoint(named.address, named.port, vip.protocol)
            if named.forwarding is Forwarding.NAT and server not in tables.nat_replies:
                return f"{vip}: backend {number} has no way back"
    return ""


def assert_every_prefix_is_correct(desired: Tables, observed: Tables) -> None:
    may_lead_nowhere = services_without_backends(desired) | services_without_backends(observed)
    for tables in prefixes(diff(desired, observed), observed):
        assert find_fault(tables, may_lead_nowhere) == ""


@settings(deadline=None, max_examples=50)
@given(pasts, steps)
def test_following_the_plan_ends_at_what_was_desired(
    past: list[tuple[Config, int]], change: tuple[Config, int]
) -> None:
    observed, now_s = live_through(past)
    desired = compile_next(change[0], observed, now_s + change[1])
    assert follow(diff(desired, observed), observed) == desired
    # A rollback is the plan the other way round.
    assert follow(diff(observed, desired), desired) == observed


@settings(deadline=None, max_examples=40)
@given(pasts)
def test_nothing_is_to_be_done_for_what_is_there(past: list[tuple[Config, int]]) -> None:
    tables, _ = live_through(past)
    assert diff(tables, tables) == ()


@settings(deadline=None, max_examples=40)
@given(pasts, steps)
def test_the_same_input_gives_the_same_plan(
    past: list[tuple[Config, int]], change: tuple[Config, int]
) -> None:
    plans = []
    for _ in range(2):
        observed, now_s = live_through(past)
        plans.append(diff(compile_next(change[0], observed, now_s + change[1]), observed))
    assert plans[0] == plans[1]
    assert repr(plans[0]) == repr(plans[1])


@settings(deadline=None, max_examples=50)
@given(pasts, steps)
def test_every_prefix_of_a_plan_is_a_correct_balancer(
    past: list[tuple[Config, int]], change: tuple[Config, int]
) -> None:
    observed, now_s = live_through(past)
    assert_every_prefix_is_correct(compile_next(change[0], observed, now_s + change[1]), observed)


@settings(deadline=None, max_examples=50)
@given(st.lists(calm_steps, max_size=3), calm_steps, st.floats(0, 1), calm_steps)
def test_whoever_takes_over_from_a_killed_writer_converges_correctly(
    past: list[tuple[Config, int]],
    killed: tuple[Config, int],
    share: float,
    successor: tuple[Config, int],
) -> None:
    observed, now_s = live_through(past)
    now_s += killed[1]
    plan = diff(compile_next(killed[0], observed, now_s), observed)
    halfway = follow(plan[: round(share * len(plan))], observed)
    desired = compile_next(successor[0], halfway, now_s + successor[1])
    assert_every_prefix_is_correct(desired, halfway)
    assert follow(diff(desired, halfway), halfway) == desired


def web(address: str = "10.0.0.1") -> Service:
    return Service(
        name="web",
        vip=IPv4Address("192.0.2.7"),
        port=80,
        protocol=Protocol.TCP,
        forwarding=Forwarding.NAT,
        affinity=Affinity.FLOW,
        ring_size=251,
        drain_timeout_s=30.0,
        backends=(Backend("b1", IPv4Address(address), 80),),
    )


def compile_services(observed: Tables, *listed: Service) -> Tables:
    config = Config("laws", ("eth0",), XdpMode.AUTO, 1, listed, limits=LIMITS)
    return compile_next(config, observed, 1)


@pytest.mark.parametrize(
    "before", [web("10.0.0.2"), replace(web(), forwarding=Forwarding.GUE)], ids=["address", "nat"]
)
def test_a_live_backend_that_changes_always_has_a_way_back(before: Service) -> None:
    observed = compile_services(make_empty_tables(RING_SLOTS), before)
    assert_every_prefix_is_correct(compile_services(observed, web()), observed)


def test_a_killed_change_of_vip_and_ring_leaves_both_rings_alone() -> None:
    before = compile_services(make_empty_tables(RING_SLOTS), web())
    moved = replace(web(), vip=IPv4Address("192.0.2.8"), ring_size=509)
    plan = diff(compile_services(before, moved), before)
    puts = [number for number, one in enumerate(plan) if getattr(one, "table", "") == "services"]
    halfway = follow(plan[: puts[1] + 1], before)
    other = replace(web("10.0.0.2"), name="other", vip=IPv4Address("192.0.2.9"))
    assert_every_prefix_is_correct(compile_services(halfway, other), halfway)


def test_what_a_killed_writer_left_in_free_slots_is_no_part_of_a_new_ring() -> None:
    empty = make_empty_tables(RING_SLOTS)
    plan = diff(compile_services(empty, web()), empty)
    stored = next(number for number, one in enumerate(plan) if isinstance(one, Store))
    halfway = follow(plan[: stored + 1], empty)
    drained = replace(web().backends[0], state=BackendState.DRAIN)
    other = replace(web(), name="other", vip=IPv4Address("192.0.2.9"), backends=(drained,), port=81)
    assert_every_prefix_is_correct(compile_services(halfway, other), halfway)
