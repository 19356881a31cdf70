"""From a file to tables: the rows of each table, and when a window opens and ends."""

from __future__ import annotations

import time
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import numpy as np
import pytest

from reconciler.desired import LastPass, compile_tables
from reconciler.directory import count_entries, count_groups
from reconciler.environment import Environment, InterfaceFacts
from reconciler.errors import Unavailable
from reconciler.maglev import build_ring
from reconciler.memory import Occupancy
from reconciler.model import (
    Affinity,
    Backend,
    BackendState,
    Config,
    FlowTracking,
    Forwarding,
    Limits,
    Protocol,
    Service,
    XdpMode,
)
from reconciler.tables import (
    Attachment,
    BackendInfo,
    BackendRow,
    Endpoint,
    InterfaceRow,
    ReplyRow,
    ServiceInfo,
    ServiceRow,
    Settings,
    Tables,
    make_empty_tables,
    unpack_slots,
)

S = 1_000_000_000
SLOTS = 2_048
OWN = IPv4Address("198.51.100.1")
VIP = IPv4Address("192.0.2.1")
MACHINE = Environment({"eth0": InterfaceFacts(2, (OWN,), True, False)}, 250, "ab" * 32)
EMPTY = make_empty_tables(SLOTS)


def backend(number: int, weight: int = 100, state: BackendState = BackendState.READY) -> Backend:
    return Backend(f"b{number}", IPv4Address(f"10.0.0.{number}"), 8080, weight, state)


def service(*backends: Backend, name: str = "web", port: int = 80) -> Service:
    return Service(
        name=name,
        vip=VIP,
        port=port,
        protocol=Protocol.TCP,
        forwarding=Forwarding.NAT,
        affinity=Affinity.FLOW,
        ring_size=251,
        drain_timeout_s=60.0,
        backends=backends,
    )


def config(*services: Service) -> Config:
    limits = Limits(services=4, backends=8, ring_slots=SLOTS)
    return Config("t", ("eth0",), XdpMode.AUTO, 7, services, limits=limits)


def compile_at(
    now_s: float, wanted: Config, observed: Tables = EMPTY, machine: Environment = MACHINE
) -> Tables:
    return compile_tables(wanted, machine, observed, now_ns=int(now_s * S))


def slots_of(tables: Tables) -> set[tuple[int, int]]:
    """The different slots of the first ring."""
    backends, previous = unpack_slots(tables.slots[:251])
    return set(zip(backends.tolist(), previous.tolist(), strict=True))


def test_every_row_of_a_first_apply() -> None:
    tables = compile_at(1, config(service(backend(1), backend(2, 50))))
    row = ServiceRow(1, 0, 251, Forwarding.NAT, Affinity.FLOW, is_shared=False)
    marker = ServiceRow(0, 0, 0, Forwarding.NAT, Affinity.FLOW, is_shared=False)
    vip = next(iter(tables.services)).address
    assert tables.settings == {
        0: Settings(
            250,
            7,
            vip_filter=1 << (int(vip) % 2048),
            directory_places=8 * count_groups(count_entries(Limits(services=4, backends=8))),
            has_replies=True,
        )
    }
    own = IPv4Address("198.51.100.1")
    assert tables.interfaces == {2: InterfaceRow(transmits=True, redirects=False, ipv4=own)}
    assert tables.attachments == {"eth0": Attachment(2, XdpMode.AUTO, "ab" * 32)}
    info = ServiceInfo("web", 60_000, False, 0, FlowTracking.ON_CHANGE, 7_200_000)
    assert tables.service_info == {1: info}
    assert tables.services == {
        Endpoint(VIP, 80, Protocol.TCP): row,
        Endpoint(VIP, 0, Protocol.TCP): marker,
    }
    assert tables.backend_info == {1: BackendInfo("b1", 100, 0), 2: BackendInfo("b2", 50, 0)}
    assert tables.backends == {
        number: BackendRow(
            IPv4Address(f"10.0.0.{number}"), 8080, 1, Forwarding.NAT, BackendState.READY, 1
        )
        for number in (1, 2)
    }
    assert tables.nat_replies == {
        Endpoint(IPv4Address(f"10.0.0.{number}"), 8080, Protocol.TCP): ReplyRow(
            VIP, 80, number, is_shared=False
        )
        for number in (1, 2)
    }
    ring = build_ring({"b1": 100, "b2": 50}, 251)
    backends, previous = unpack_slots(tables.slots)
    assert np.array_equal(backends[:251], ring + 1)
    assert not backends[251:].any()
    assert not previous.any()
    assert tables.meta == {}


@pytest.mark.parametrize(
    ("changed", "slots", "leaves_s"),
    [
        ([backend(1), backend(2, 50)], {(1, 0), (2, 0), (1, 2)}, 0),
        # A slot goes from 2 to 1: the ring has no history, and pays a little for it.
        ([backend(1), backend(2), backend(3)], {(1, 0), (2, 0), (3, 1), (3, 2), (1, 2)}, 0),
        ([backend(1), backend(2, 100, BackendState.DRAIN)], {(1, 0), (1, 2)}, 0),
        ([backend(1), backend(2, 100, BackendState.MAINT)], {(1, 0)}, 0),  # nobody is waited for
        ([backend(1)], {(1, 0), (1, 2)}, 70),
        ([backend(1), replace(backend(2), address=IPv4Address("10.0.0.9"))], {(1, 0), (2, 0)}, 0),
    ],
    ids=["weight", "add", "drain", "maint", "remove", "address"],
)
def test_a_change_opens_a_window(
    changed: list[Backend], slots: set[tuple[int, int]], leaves_s: int
) -> None:
    before = compile_at(1, config(service(backend(1), backend(2))))
    tables = compile_at(10, config(service(*changed)), before)
    moves = any(previous for _, previous in slots)
    assert slots_of(tables) == slots
    assert tables.service_info[1].window_end_ns == (70 * S if moves else 0)
    assert tables.backend_info[2].leaves_ns == leaves_s * S


def test_a_removed_backend_drains_until_it_leaves_and_then_is_gone() -> None:
    before = compile_at(1, config(service(backend(1), backend(2))))
    wanted = config(service(backend(1)))
    tables = compile_at(10, wanted, before)
    gone = Endpoint(IPv4Address("10.0.0.2"), 8080, Protocol.TCP)
    assert tables.backends[2].state is BackendState.DRAIN
    assert tables.backend_info[2] == BackendInfo("b2", 0, 70 * S)
    assert gone in tables.nat_replies
    assert compile_at(69.9, wanted, tables) == tables
    after = compile_at(70, wanted, tables)
    assert set(after.backends) == set(after.backend_info) == {1}
    assert gone not in after.nat_replies
    assert slots_of(after) == {(1, 0), (1, 1)}


def test_a_removed_backend_that_comes_back_was_never_away() -> None:
    wanted = config(service(backend(1), backend(2)))
    before = compile_at(1, wanted)
    removed = compile_at(10, config(service(backend(1))), before)
    back = compile_at(20, wanted, removed)
    assert back.backends == before.backends
    assert back.backend_info == before.backend_info
    # New flows of b1 in the slots of b2 are remembered, so those are pinned and not settled.
    assert slots_of(back) == {(1, 0), (2, 2)}


def test_a_second_change_inside_the_window_keeps_the_first_owner() -> None:
    before = compile_at(1, config(service(backend(1))))
    once = compile_at(10, config(service(backend(1), backend(2))), before)
    twice = compile_at(20, config(service(backend(1), backend(2), backend(3))), once)
    assert slots_of(twice) == {(1, 0), (2, 1), (3, 1), (1, 1)}
    assert twice.service_info[1].window_end_ns == 80 * S


def test_a_window_ends_in_two_passes() -> None:
    wanted = config(service(backend(1), backend(2)))
    moved = compile_at(10, wanted, compile_at(1, config(service(backend(1)))))
    assert slots_of(moved) == {(1, 0), (2, 1)}
    assert compile_at(69.9, wanted, moved) == moved
    pinned = compile_at(70, wanted, moved)
    assert slots_of(pinned) == {(1, 0), (2, 2)}
    assert compile_at(80, wanted, pinned) == pinned  # nobody has looked
    occupied = np.zeros(SLOTS, np.bool_)
    occupied[np.flatnonzero(unpack_slots(pinned.slots)[1])[0]] = True
    half = compile_tables(wanted, MACHINE, pinned, now_ns=80 * S, occupancy=Occupancy(occupied))
    assert np.count_nonzero(unpack_slots(half.slots)[1]) == 1
    settled = compile_tables(
        wanted, MACHINE, half, now_ns=90 * S, occupancy=Occupancy(occupied & False)
    )
    assert slots_of(settled) == {(1, 0), (2, 0)}
    assert settled.service_info[1].window_end_ns == 0


def test_a_change_in_the_last_moment_of_a_window_opens_another() -> None:
    """The data plane may take the window for over before the change is written."""
    one, two, three = (config(service(*map(backend, range(1, n + 1)))) for n in (1, 2, 3))
    moved = compile_at(10, two, compile_at(1, one))
    assert compile_at(69.5, two, moved) == moved  # no change
    in_time, too_late = (compile_at(now_s, three, moved) for now_s in (68.5, 69.5))
    assert {(2, 1), (3, 1)} < slots_of(in_time)
    assert (2, 1) not in slots_of(too_late)
    assert {(2, 2), (3, 1), (3, 2)} < slots_of(too_late)
    assert too_late.service_info[1].window_end_ns == int(129.5 * S)


def test_a_short_window_is_open_for_most_of_its_time() -> None:
    def wanted(*numbers: int) -> Config:
        return config(replace(service(*map(backend, numbers)), drain_timeout_s=1.0))

    moved = compile_at(10, wanted(1, 2), compile_at(1, wanted(1)))
    assert (2, 1) in slots_of(compile_at(10.8, wanted(1, 2, 3), moved))


@pytest.mark.parametrize(
    ("protocol", "tracking", "slots", "window_s"),
    [
        (Protocol.TCP, FlowTracking.ON_CHANGE, (2, 1), 60),
        (Protocol.TCP, FlowTracking.ALWAYS, (2, 1), 60),
        (Protocol.TCP, FlowTracking.NEVER, (2, 0), 0),
        (Protocol.UDP, FlowTracking.ON_CHANGE, (2, 1), 30),
        (Protocol.UDP, FlowTracking.ALWAYS, (2, 0), 0),  # an unknown flow is a new one
        (Protocol.UDP, FlowTracking.NEVER, (2, 0), 0),
    ],
)
def test_what_moved_slots_remember(
    protocol: Protocol, tracking: FlowTracking, slots: tuple[int, int], window_s: int
) -> None:
    def wanted(*backends: Backend) -> Config:
        return config(replace(service(*backends), protocol=protocol, flow_tracking=tracking))

    tables = compile_at(10, wanted(backend(1), backend(2)), compile_at(1, wanted(backend(1))))
    assert slots_of(tables) == {(1, 0), slots}
    assert tables.service_info[1].window_end_ns == (10 + window_s) * S * bool(window_s)
    tracked = {row.is_tracked for row in tables.services.values() if row.id}
    assert tracked == {tracking is FlowTracking.ALWAYS}


def test_a_service_that_is_tracked_no_more_pins_its_slots_until_its_flows_have_ended() -> None:
    def wanted(tracking: FlowTracking) -> Config:
        return config(replace(service(backend(1)), flow_tracking=tracking))

    tracked = compile_at(1, wanted(FlowTracking.ALWAYS))
    pinned = compile_at(10, wanted(FlowTracking.ON_CHANGE), tracked)
    assert slots_of(pinned) == {(1, 1)}
    nobody = Occupancy(np.zeros(len(pinned.slots), np.bool_))
    later = compile_tables(
        wanted(FlowTracking.ON_CHANGE), MACHINE, pinned, now_ns=100 * S, occupancy=nobody
    )
    assert slots_of(later) == {(1, 0)}
    assert slots_of(compile_at(10, wanted(FlowTracking.NEVER), tracked)) == {(1, 0)}


@pytest.mark.parametrize(
    ("after_s", "flows", "stays"), [(59, 0, True), (60, 1, True), (60, 0, False), (299, 1, True)]
)
def test_a_removed_backend_leaves_early_when_its_last_flow_has_ended(
    after_s: int, flows: int, stays: bool
) -> None:
    def at(now_s: int, observed: Tables, *backends: Backend) -> Tables:
        counts = np.zeros(65_536, np.int64)
        counts[2] = flows
        occupancy = Occupancy(np.ones(len(observed.slots), np.bool_), counts)
        wanted = config(replace(service(*backends), drain_timeout_s=300.0))
        return compile_tables(wanted, MACHINE, observed, now_ns=now_s * S, occupancy=occupancy)

    both = at(1, EMPTY, backend(1), backend(2))
    removed = at(10, both, backend(1))
    assert removed.backends[2].state is BackendState.DRAIN
    assert (2 in at(10 + after_s, removed, backend(1)).backends) == stays


def test_a_service_without_anybody_to_go_to() -> None:
    before = compile_at(1, config(service(backend(1))))
    drained = compile_at(10, config(service(backend(1, 100, BackendState.DRAIN))), before)
    assert slots_of(drained) == {(0, 1)}  # old flows stay, new ones go nowhere
    dead = compile_at(10, config(service(backend(1, 100, BackendState.MAINT))), before)
    assert slots_of(dead) == {(0, 0)}


def test_a_ring_of_another_size_goes_elsewhere_and_remembers() -> None:
    before = compile_at(1, config(service(backend(1))))
    larger = replace(service(backend(1), backend(2)), ring_size=509)
    tables = compile_at(10, config(larger), before)
    row = tables.services[Endpoint(VIP, 80, Protocol.TCP)]
    assert (row.ring_offset, row.ring_size) == (251, 509)
    assert slots_of(tables) == {(0, 0)}
    assert set(tables.slots[251:760].tolist()) == {1, 2 | 1 << 16}
    # The place that was left is free for the next one.
    another = service(backend(3), name="zz", port=81)
    more = compile_at(20, config(larger, another), tables)
    assert more.services[Endpoint(VIP, 81, Protocol.TCP)].ring_offset == 0


# --- own addresses, shared backends ---


def test_without_a_vip_the_interfaces_own_addresses_are_listened_on() -> None:
    second, v6 = IPv4Address("198.51.100.2"), IPv6Address("2001:db8::1")
    wanted = config(replace(service(backend(1)), vip=None))
    for addresses, listened in [
        ((OWN, v6), {OWN}),
        ((OWN, second, v6), {OWN, second}),
    ]:
        machine = Environment({"eth0": InterfaceFacts(2, addresses, True, True)})
        tables = compile_at(1, wanted, machine=machine)
        assert {e.address for e in tables.services} == listened
        assert tables.service_info[1].own_addresses
        is_ambiguous = len(listened) > 1
        assert {r.is_shared for r in tables.nat_replies.values()} == {is_ambiguous}
        assert {r.is_shared for r in tables.services.values() if r.id} == {is_ambiguous}


def test_an_interface_without_an_address_of_the_family() -> None:
    machine = Environment({"eth0": InterfaceFacts(2, (IPv6Address("2001:db8::1"),), True, True)})
    with pytest.raises(Unavailable, match="eth0 has no IPv4 address for service web; give it one"):
        compile_at(1, config(replace(service(backend(1)), vip=None)), machine=machine)


@pytest.mark.parametrize("named", ["a", "z"])
def test_an_own_address_that_another_service_names_is_that_services(named: str) -> None:
    implicit = replace(service(backend(1), name="m"), vip=None)
    explicit = replace(service(backend(2), name=named), vip=OWN)
    both = config(*sorted((implicit, explicit), key=lambda one: one.name))
    with pytest.raises(Unavailable, match="no IPv4 address for service m: another service names"):
        compile_at(0, both)
    own = (IPv4Address("198.51.100.2"), OWN)
    machine = Environment({"eth0": InterfaceFacts(2, own, True, True)})
    tables = compile_at(0, both, machine=machine)
    owners = {
        endpoint.address: tables.service_info[row.id].name
        for endpoint, row in tables.services.items()
        if endpoint.port
    }
    assert owners == {own[0]: "m", OWN: named}
    other_port = config(implicit, replace(explicit, name="z", port=81))
    assert len([one for one in compile_at(0, other_port).services if one.port]) == 2


def test_services_that_share_a_backend_are_tracked() -> None:
    shared, alone = backend(1), backend(2)
    tables = compile_at(
        1,
        config(
            service(shared, name="a", port=80),
            service(shared, alone, name="b", port=81),
            service(backend(3), name="c", port=82),
        ),
    )
    tracked = {e.port: row.is_shared for e, row in tables.services.items()}
    assert tracked == {0: False, 80: True, 81: True, 82: False}
    assert {str(e.address): r.is_shared for e, r in tables.nat_replies.items()} == {
        "10.0.0.1": True,
        "10.0.0.2": False,
        "10.0.0.3": False,
    }


def test_who_is_in_the_file_answers_before_who_has_left() -> None:
    before = compile_at(1, config(service(backend(1), backend(2), name="a")))
    moved = config(service(backend(1), name="a"), service(backend(2), name="b", port=81))
    tables = compile_at(10, moved, before)
    reply = tables.nat_replies[Endpoint(IPv4Address("10.0.0.2"), 8080, Protocol.TCP)]
    assert reply == ReplyRow(VIP, 81, 3, is_shared=True)


@pytest.mark.parametrize("forwarding", [Forwarding.L2DSR, Forwarding.IPIP, Forwarding.GUE])
def test_only_nat_has_a_way_back(forwarding: Forwarding) -> None:
    tables = compile_at(1, config(replace(service(backend(1)), forwarding=forwarding)))
    assert tables.nat_replies == {}
    assert tables.backends[1].forwarding is forwarding


# --- the machine ---


@pytest.mark.parametrize(
    ("wanted", "live", "mode"),
    [
        (XdpMode.AUTO, None, XdpMode.AUTO),
        (XdpMode.AUTO, Attachment(2, XdpMode.GENERIC, "x"), XdpMode.GENERIC),
        (XdpMode.AUTO, Attachment(9, XdpMode.GENERIC, "x"), XdpMode.AUTO),  # another device
        (XdpMode.NATIVE, Attachment(2, XdpMode.GENERIC, "x"), XdpMode.NATIVE),
    ],
)
def test_auto_stays_with_what_worked(
    wanted: XdpMode, live: Attachment | None, mode: XdpMode
) -> None:
    observed = replace(EMPTY, attachments={"eth0": live} if live else {})
    tables = compile_at(1, replace(config(service(backend(1))), xdp_mode=wanted), observed)
    assert tables.attachments["eth0"] == Attachment(2, mode, "ab" * 32)


def test_there_is_no_more_room() -> None:
    many = config(service(*(backend(n) for n in range(1, 10))))
    with pytest.raises(Unavailable, match="all 8 ids are in use"):
        compile_at(1, many)
    with pytest.raises(Unavailable, match="no room for a ring of 4093 slots among 2048"):
        compile_at(1, config(replace(service(backend(1)), ring_size=4_093)))


def test_rows_without_their_other_half_are_started_again() -> None:
    wanted = config(service(backend(1), backend(2)))
    whole = compile_at(1, wanted)
    torn = replace(whole, backends={1: whole.backends[1]}, services={}, slots=EMPTY.slots)
    assert compile_at(2, wanted, torn) == whole


# --- rings are built once ---


def test_a_pass_that_changes_nothing_builds_no_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    monkeypatch.setattr(
        "reconciler.maglev.build_ring", lambda *args: built.append(args) or build_ring(*args)
    )
    last_pass = LastPass()
    wanted = config(service(backend(1)), service(backend(2), name="dns", port=53))
    for observed in (EMPTY, EMPTY):
        compile_tables(wanted, MACHINE, observed, now_ns=S, last_pass=last_pass)
    assert len(built) == 2
    compile_tables(config(service(backend(1))), MACHINE, EMPTY, now_ns=S, last_pass=last_pass)
    compile_tables(wanted, MACHINE, EMPTY, now_ns=S, last_pass=last_pass)
    assert len(built) == 3  # what a pass did not use is forgotten


def test_a_hundred_services_of_twenty_backends() -> None:
    """Prints its figures (`pytest -s`): what a first pass and a pass over nothing new take."""
    services = [
        replace(
            service(*(backend(n) for n in range(1, 21)), name=f"s{number:03}", port=1000 + number),
            ring_size=65_537,
        )
        for number in range(100)
    ]
    limits = Limits(services=100, backends=4096, ring_slots=100 * 65_537)
    wanted = replace(config(*services), limits=limits)
    last_pass, observed = LastPass(), make_empty_tables(limits.ring_slots)
    took_s = []
    for _ in range(2):
        start = time.perf_counter()
        observed = compile_tables(wanted, MACHINE, observed, now_ns=S, last_pass=last_pass)
        took_s.append(time.perf_counter() - start)
    print(f"\n100 services of 20 backends: first pass {took_s[0]:.2f} s, second {took_s[1]:.2f} s")
    assert len(observed.backends) == 2_000
    assert np.all(observed.slots != 0)
