"""Laws of `reconciler.export`: what is exported plans no change."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.config import parse
from reconciler.environment import Environment, InterfaceFacts
from reconciler.export import export_tables
from reconciler.model import (
    Affinity,
    Backend,
    BackendState,
    Config,
    FlowTracking,
    Forwarding,
    Limits,
    Protocol,
    Reconcile,
    Safety,
    Service,
    Tunnel,
    XdpMode,
    derive_seed,
)
from reconciler.plan import step
from reconciler.proposal import Proposal, propose
from reconciler.tables import Tables, make_empty_tables

SECOND_NS = 10**9
RING_SLOTS = 4_096

interface_names = st.from_regex(r"[!-.0-9;-~]{1,15}", fullmatch=True).filter(
    lambda name: name not in (".", "..")
)
instance_names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,31}", fullmatch=True)
service_names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", fullmatch=True)
backend_names = st.from_regex(r"[A-Za-z0-9\[][A-Za-z0-9_.:\[\]-]{0,62}", fullmatch=True)
durations_s = st.sampled_from([0.0, 0.5, 1.5, 10.0, 90.0, 300.0, 3600.0, 5400.0])


def address(version: int, number: int) -> IPv4Address | IPv6Address:
    return IPv4Address("10.0.0.0") + number if version == 4 else IPv6Address("2001:db8::") + number


@st.composite
def backends(draw: st.DrawFn, version: int, port: int, *, is_nat: bool) -> tuple[Backend, ...]:
    numbers = sorted(draw(st.sets(st.integers(1, 200), min_size=1, max_size=5)))
    names = draw(st.lists(backend_names, min_size=len(numbers), max_size=len(numbers), unique=True))
    made = []
    for name, number in zip(names, numbers, strict=True):
        its_port = draw(st.sampled_from([port, 9_000])) if is_nat else port
        weight = draw(st.sampled_from([100, 1, 50, 0]))
        states = list(BackendState) if weight else [BackendState.DRAIN, BackendState.MAINT]
        where = address(version, number)
        shown = f"[{where}]:{its_port}" if version == 6 else f"{where}:{its_port}"
        called = draw(st.sampled_from([name, shown]))
        made.append(Backend(called, where, its_port, weight, draw(st.sampled_from(states))))
    return tuple(sorted(made, key=lambda backend: backend.name))


@st.composite
def services(draw: st.DrawFn, name: str, number: int) -> Service:
    version = draw(st.sampled_from([4, 6]))
    forwarding = draw(st.sampled_from(Forwarding))
    port = 8_000 + number
    return Service(
        name=name,
        vip=draw(st.sampled_from([None, address(version, 250)])),
        port=port,
        protocol=draw(st.sampled_from(Protocol)),
        forwarding=forwarding,
        affinity=draw(st.sampled_from(Affinity)),
        ring_size=draw(st.sampled_from([251, 509])),
        drain_timeout_s=draw(durations_s),
        backends=draw(backends(version, port, is_nat=forwarding is Forwarding.NAT)),
        flow_tracking=draw(st.sampled_from(FlowTracking)),
        flow_idle_timeout_s=draw(st.sampled_from([1.0, 120.0, 7200.0])),
    )


tunnels = st.builds(
    Tunnel,
    st.sampled_from([None, IPv4Network("192.0.2.1"), IPv4Network("10.200.0.0/16")]),
    st.sampled_from([None, IPv6Network("2001:db8::1"), IPv6Network("2001:db8:ff::/96")]),
    st.sampled_from([6080, 1]),
    st.booleans(),
)


@st.composite
def configs(draw: st.DrawFn, name: str = "", interfaces: tuple[str, ...] = ()) -> Config:
    name = name or draw(instance_names)
    listed = interfaces or tuple(
        draw(st.lists(interface_names, min_size=1, max_size=3, unique=True))
    )
    called = sorted(draw(st.sets(service_names, min_size=1, max_size=4)))
    return Config(
        name=name,
        interfaces=listed,
        xdp_mode=draw(st.sampled_from(XdpMode)),
        hash_seed=draw(st.just(derive_seed(name)) | st.integers(0, 2**64 - 1)),
        services=tuple(draw(services(each, number)) for number, each in enumerate(called)),
        safety=Safety(5, 2),
        reconcile=Reconcile(5.0),
        limits=draw(st.just(Limits(ring_slots=RING_SLOTS)) | st.just(Limits(9, 99, 4_096, 2_000))),
        tunnel=draw(tunnels),
        answers_echo=draw(st.booleans()),
    )


def make_machine(interfaces: tuple[str, ...]) -> Environment:
    """A machine with addresses of its own on every interface."""
    facts = {
        name: InterfaceFacts(
            index,
            (IPv4Address("198.51.100.0") + index, IPv6Address("2001:db8:5::") + index),
            transmits=True,
            redirects=True,
        )
        for index, name in enumerate(interfaces, start=1)
    }
    return Environment(facts, 250, "5a" * 32)


def compare(config: Config, tables: Tables, now_ns: int = SECOND_NS) -> Proposal:
    return propose(config, make_machine(config.interfaces), tables, now_ns=now_ns)


def follow(history: list[Config], mode: XdpMode) -> Tables:
    """The tables of a kernel to which each of these has been applied, seconds apart."""
    tables = make_empty_tables(RING_SLOTS)
    for number, config in enumerate(history, start=1):
        operations = compare(config, tables, number * SECOND_NS).operations
        tables = reduce(step, operations, tables)
        attached = {
            # `auto` is a wish: the kernel says what came of it.
            name: one._replace(mode=mode) if one.mode is XdpMode.AUTO else one
            for name, one in tables.attachments.items()
        }
        tables = replace(tables, attachments=dict(sorted(attached.items())))
    return tables


def read(text: str) -> Config:
    parsed = parse(text.encode(), "export.yaml")
    assert parsed.config, [f"{d.source}: {d.message}" for d in parsed.diagnostics] + [text]
    return parsed.config


def forget_health(config: Config) -> Config:
    """The kernel holds nothing of it."""
    services = tuple(replace(service, health=None) for service in config.services)
    return replace(config, services=services)


modes = st.sampled_from([XdpMode.NATIVE, XdpMode.GENERIC])


@settings(deadline=None, max_examples=150)
@given(configs(), modes)
def test_what_is_exported_is_what_the_file_said(config: Config, mode: XdpMode) -> None:
    tables = follow([config], mode)
    text = export_tables(tables, config.name, config.limits)
    assert "may not be" not in text
    assert forget_health(read(text)) == replace(config, safety=Safety(), reconcile=Reconcile())
    assert compare(read(text), tables).operations == ()


@settings(deadline=None, max_examples=50)
@given(st.data(), modes)
def test_what_is_exported_plans_no_change_whatever_was_before(
    data: st.DataObject, mode: XdpMode
) -> None:
    interfaces = ("eth0", "eth1")
    history = data.draw(st.lists(configs("laws", interfaces), min_size=2, max_size=3))
    history = [replace(one, limits=Limits(ring_slots=RING_SLOTS)) for one in history]
    tables = follow(history, mode)
    proposal = compare(read(export_tables(tables, "laws", history[-1].limits)), tables)
    assert proposal.changes == ()
    assert proposal.desired == tables


@settings(deadline=None, max_examples=50)
@given(configs(), modes)
def test_the_same_tables_are_the_same_text(config: Config, mode: XdpMode) -> None:
    tables = follow([config], mode)
    text = export_tables(tables, config.name, config.limits)
    again = follow([read(text)], mode)
    assert export_tables(again, config.name, config.limits) == text
