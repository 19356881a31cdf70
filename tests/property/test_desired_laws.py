"""Laws of `reconciler.desired`: what a file means does not depend on how it came about."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from itertools import pairwise
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler import maglev
from reconciler.config import parse
from reconciler.desired import LastPass, compile_tables
from reconciler.environment import Environment, InterfaceFacts
from reconciler.memory import Occupancy
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
from reconciler.tables import (
    BackendInfo,
    Meta,
    Tables,
    make_empty_tables,
    ring_extents,
    unpack_slots,
)

SECOND_NS = 1_000_000_000
RING_SLOTS = 8_192
LIMITS = Limits(services=16, backends=128, ring_slots=RING_SLOTS)
OWN = (IPv4Address("198.51.100.1"), IPv4Address("198.51.100.2"), IPv6Address("2001:db8::1"))
MACHINE = Environment({"eth0": InterfaceFacts(2, OWN, True, True)}, 250, "5a" * 32)

states = st.sampled_from([BackendState.READY] * 3 + [BackendState.DRAIN, BackendState.MAINT])


@st.composite
def services(draw: st.DrawFn, number: int) -> Service:
    """Service `number`: its port and family are its own, its backends' addresses are not."""
    is_v6 = number == 2
    vips = [IPv6Address(f"2001:db8::{n}") if is_v6 else IPv4Address(f"192.0.2.{n}") for n in (7, 8)]
    first = IPv6Address("2001:db8:1::") if is_v6 else IPv4Address("10.0.0.0")
    backends = tuple(
        Backend(f"b{n}", first + n, 80, draw(st.sampled_from([1, 50, 100])), draw(states))
        for n in sorted(draw(st.sets(st.integers(1, 6), min_size=1, max_size=5)))
    )
    return Service(
        name=f"s{number}",
        vip=draw(st.sampled_from([None, *vips])),
        port=8000 + number,
        protocol=draw(st.sampled_from([Protocol.TCP, Protocol.TCP, Protocol.UDP])),
        forwarding=draw(st.sampled_from([Forwarding.NAT, Forwarding.NAT, Forwarding.IPIP])),
        affinity=draw(st.sampled_from(Affinity)),
        ring_size=draw(st.sampled_from([251, 251, 509])),
        drain_timeout_s=draw(st.sampled_from([1.0, 20.0, 60.0])),
        backends=backends,
    )


@st.composite
def configs(draw: st.DrawFn) -> Config:
    numbers = sorted(draw(st.sets(st.integers(0, 2), min_size=1)))
    listed = tuple(draw(services(number)) for number in numbers)
    return Config("laws", ("eth0",), XdpMode.AUTO, 1, listed, limits=LIMITS)


steps = st.tuples(configs(), st.sampled_from([0, 5, 30, 90]))
histories = st.lists(steps, max_size=3)


def follow(history: list[tuple[Config, int]]) -> tuple[Tables, int]:
    """The tables after a history, each change some seconds after the one before; and the time."""
    tables, now_ns = make_empty_tables(RING_SLOTS), SECOND_NS
    for config, gap_s in history:
        now_ns += gap_s * SECOND_NS
        desired = compile_tables(config, MACHINE, tables, now_ns=now_ns)
        tables = replace(desired, meta={0: Meta(tables.generation + 1, "", "", "")})
    return tables, now_ns


def slot_names(tables: Tables) -> dict[str, list[str]]:
    """By service, the name of the backend in each slot; empty where nobody is."""
    names = {number: info.name for number, info in tables.backend_info.items()} | {0: ""}
    return {
        tables.service_info[number].name: [names[b] for b in unpack_slots(tables.slots[extent])[0]]
        for number, extent in ring_extents(tables).items()
    }


def backend_ids(tables: Tables) -> dict[tuple[str, str], int]:
    return {
        (tables.service_info[row.service].name, tables.backend_info[number].name): number
        for number, row in tables.backends.items()
    }


def service_ids(tables: Tables) -> dict[str, int]:
    return {info.name: number for number, info in tables.service_info.items()}


def deadlines(tables: Tables) -> list[int]:
    ends = [info.window_end_ns for info in tables.service_info.values()]
    return [t for t in ends + [info.leaves_ns for info in tables.backend_info.values()] if t]


@settings(deadline=None, max_examples=30)
@given(histories, configs())
def test_a_slot_is_named_by_the_file_alone(
    history: list[tuple[Config, int]], config: Config
) -> None:
    tables, _ = follow([*history, (config, 5)])
    for service in config.services:
        weights = {b.name: b.weight for b in service.backends if b.state is BackendState.READY}
        expected = [""] * service.ring_size
        if weights:
            listed = maglev.ring_names(weights)
            expected = [listed[i] for i in maglev.build_ring(weights, service.ring_size)]
        assert slot_names(tables)[service.name] == expected


@settings(deadline=None, max_examples=25)
@given(histories, histories, configs())
def test_two_balancers_of_different_pasts_agree(
    one: list[tuple[Config, int]], other: list[tuple[Config, int]], config: Config
) -> None:
    assert slot_names(follow([*one, (config, 5)])[0]) == slot_names(
        follow([*other, (config, 0)])[0]
    )


@settings(deadline=None, max_examples=30)
@given(histories, configs(), st.floats(0, 1, exclude_max=True))
def test_inside_the_window_a_second_pass_writes_nothing(
    history: list[tuple[Config, int]], config: Config, when: float
) -> None:
    tables, now_ns = follow([*history, (config, 5)])
    horizon_ns = min(deadlines(tables), default=now_ns + SECOND_NS)
    later_ns = now_ns + int(when * (horizon_ns - 1 - now_ns))
    assert compile_tables(config, MACHINE, tables, now_ns=later_ns) == tables


@settings(deadline=None, max_examples=30)
@given(histories, configs(), st.integers(0, 2**32 - 1))
def test_after_the_window_two_passes_settle_what_is_not_occupied(
    history: list[tuple[Config, int]], config: Config, seed: int
) -> None:
    tables, now_ns = follow([*history, (config, 5)])
    later_ns = max([now_ns, *deadlines(tables)]) + 1
    occupied = np.random.default_rng(seed).random(RING_SLOTS) < 0.3
    passes = [tables]
    for _ in range(3):
        passes.append(
            compile_tables(
                config, MACHINE, passes[-1], now_ns=later_ns, occupancy=Occupancy(occupied)
            )
        )
    assert passes[3] == passes[2]
    backend, previous = unpack_slots(passes[2].slots)
    is_pinned = (previous == backend) & (previous != 0)
    # A slot that leads nowhere waits for somebody to be pinned on.
    assert np.all(is_pinned[(previous != 0) & (backend != 0)])
    assert np.all(occupied[is_pinned])
    assert not any(info.leaves_ns for info in passes[2].backend_info.values())
    assert slot_names(passes[2]) == slot_names(tables)


@settings(deadline=None, max_examples=25)
@given(histories, configs(), st.randoms(use_true_random=False))
def test_the_order_of_the_file_names_the_same_slots(
    history: list[tuple[Config, int]], config: Config, random: Random
) -> None:
    shuffled = [
        replace(s, backends=tuple(random.sample(s.backends, len(s.backends))))
        for s in random.sample(config.services, len(config.services))
    ]
    other = replace(config, services=tuple(shuffled))
    assert slot_names(follow([*history, (config, 5)])[0]) == slot_names(
        follow([*history, (other, 5)])[0]
    )


@settings(deadline=None, max_examples=25)
@given(
    st.dictionaries(st.integers(1, 250), st.integers(1, 1000), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
)
def test_the_order_of_the_file_makes_the_same_tables(
    weights: dict[int, int], random: Random
) -> None:
    def compile_in_order(numbers: list[int]) -> Tables:
        backends = [{"address": f"10.0.0.{n}", "weight": weights[n]} for n in numbers]
        listed = [
            {"name": name, "vip": "192.0.2.1", "port": port, "ring_size": 251, "backends": backends}
            for name, port in random.sample([("a", 80), ("b", 81)], 2)
        ]
        document = {"interface": "eth0", "services": listed}
        config = parse(json.dumps(document).encode(), "lb.yaml").config
        assert config is not None
        return compile_tables(config, MACHINE, make_empty_tables(RING_SLOTS), now_ns=SECOND_NS)

    assert compile_in_order(sorted(weights)) == compile_in_order(
        random.sample(sorted(weights), len(weights))
    )


@settings(deadline=None, max_examples=30)
@given(st.lists(steps, min_size=2, max_size=4))
def test_ids_stay_with_their_names_and_rest_before_they_name_another(
    history: list[tuple[Config, int]],
) -> None:
    states_of_it = [follow(history[:count])[0] for count in range(1, len(history) + 1)]
    for before, after in pairwise(states_of_it):
        for ids in (backend_ids, service_ids):
            old, new = ids(before), ids(after)
            assert len(set(new.values())) == len(new)
            assert all(number > 0 for number in new.values())
            assert all(new[name] == old[name] for name in new.keys() & old.keys())
            newcomers = {new[name] for name in new.keys() - old.keys()}
            assert newcomers.isdisjoint(old.values())


@settings(deadline=None, max_examples=30)
@given(st.lists(steps, min_size=1, max_size=4))
def test_a_new_extent_overlaps_no_live_one(history: list[tuple[Config, int]]) -> None:
    before = follow(history[:-1])[0]
    after = follow(history)[0]
    live, extents = ring_extents(before), ring_extents(after)
    new = [e for number, e in extents.items() if live.get(number) != e]
    kept = [e for number, e in extents.items() if live.get(number) == e]
    for listed in ([*kept, *new], [*live.values(), *new]):
        owned = np.zeros(RING_SLOTS, np.int64)
        for extent in listed:
            owned[extent] += 1
        assert owned.max() == 1


@settings(deadline=None, max_examples=25)
@given(st.lists(steps, min_size=1, max_size=3))
def test_a_service_is_shared_exactly_when_it_shares_a_backend(
    history: list[tuple[Config, int]],
) -> None:
    tables, _ = follow(history)
    vips_of: dict[object, set[object]] = {}
    users: dict[object, set[int]] = {}
    for vip, row in tables.services.items():
        for backend in tables.backends.values():
            if row.ring_size and backend.service == row.id and backend.forwarding is Forwarding.NAT:
                server = (backend.address, backend.port, vip.protocol)
                vips_of.setdefault(server, set()).add(vip)
                users.setdefault(server, set()).add(row.id)
    shared = {server for server, vips in vips_of.items() if len(vips) > 1}
    tracked = {row.id for row in tables.services.values() if row.is_shared}
    assert tracked == {number for server in shared for number in users[server]}
    assert {tuple(e) for e, row in tables.nat_replies.items() if row.is_shared} == shared
    assert {tuple(e) for e in tables.nat_replies} == set(vips_of)


drifts = st.sampled_from(["", "", "slot", "backend", "info", "service", "stranger", "born"])
# As MACHINE, but with another number of addresses.
machines = st.sampled_from(
    [
        replace(MACHINE, interfaces={"eth0": InterfaceFacts(2, own, True, True)})
        for own in (OWN, OWN, OWN[1:], (*OWN, IPv4Address("198.51.100.3")))
    ]
)


def meddle(tables: Tables, kind: str, number: int) -> Tables:
    """The tables after somebody wrote to the maps: to one row or slot of some service."""
    if kind == "stranger" and tables.backends:
        last = max(tables.backends)
        return replace(
            tables,
            backends={**tables.backends, 120: tables.backends[last]._replace(port=9)},
            backend_info={**tables.backend_info, 120: BackendInfo("stranger", 1, 0)},
        )
    if kind == "slot":
        slots = tables.slots.copy()
        slots[number % 700] ^= 1
        return replace(tables, slots=slots)
    table = {
        "backend": "backends",
        "born": "backends",
        "info": "backend_info",
        "service": "services",
    }.get(kind)
    rows = dict(tables.rows(table)) if table else {}
    if not rows:
        return tables
    key = sorted(rows, key=str)[number % len(rows)]
    if kind == "backend":
        rows[key] = rows[key]._replace(port=9)
    elif kind == "born":
        rows[key] = rows[key]._replace(born=77)
    elif kind == "info":
        rows[key] = rows[key]._replace(weight=7)
    else:
        del rows[key]
    return replace(tables, **{table or "": rows})


@settings(deadline=None, max_examples=100)
@given(
    configs(),
    st.lists(
        st.tuples(st.none() | configs(), machines, drifts, st.integers(0, 999)),
        min_size=2,
        max_size=6,
    ),
)
def test_what_the_last_pass_made_makes_no_difference(
    config: Config, history: list[tuple[Config | None, Environment, str, int]]
) -> None:
    last_pass = LastPass()
    tables, now_ns = make_empty_tables(RING_SLOTS), SECOND_NS
    nobody = Occupancy(np.zeros(RING_SLOTS, np.bool_), np.zeros(1 << 16, np.int64))
    for edited, machine, drift, number in history:
        config = edited or config
        tables = meddle(tables, drift, number)
        for _ in range(3):  # windows end and slots settle
            now_ns += 100 * SECOND_NS
            # Twice, as where the first was only looked at.
            kept, again, afresh = (
                compile_tables(
                    config, machine, tables, now_ns=now_ns, occupancy=nobody, last_pass=memory
                )
                for memory in (last_pass, last_pass, None)
            )
            assert kept == again == afresh
            tables = replace(kept, meta={0: Meta(tables.generation + 1, "", "", "")})
