"""Writes that fail, that are lost, and after which nothing comes any more."""

from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from reconciler.dataplane.libbpf import KernelRefused, Libbpf
from reconciler.errors import Degraded, RolledBack
from reconciler.lab.ask import fetch, fetch_again
from reconciler.plan import Store
from reconciler.tables import Endpoint, unpack_slots

pytestmark = pytest.mark.root

VIP = "198.51.100.10"  # of the service that is in every file
HEAD = """
interface: [eth0, eth1]
limits: {services: 8, backends: 64, ring_slots: 20000, flows: 4096}
"""
BEFORE = """
services:
  - {name: web, vip: 198.51.100.10, port: 80, ring_size: 1009,
     backends: ["10.0.0.11:8080", "10.0.0.12:8080", "10.0.0.13:8080"]}
  - {name: dns, vip: 198.51.100.53, port: 53, protocol: udp, ring_size: 251,
     backends: [10.0.0.11, 10.0.0.12]}
"""
CHANGES = {
    "backends": BEFORE.replace('"10.0.0.12:8080", "10.0.0.13:8080"', '"10.0.0.14:8080"')
    + '  - {name: more, vip: 198.51.100.10, port: 81, ring_size: 251, backends: ["10.0.0.11:82"]}',
    "services": BEFORE[: BEFORE.index("  - {name: dns")].replace(
        '"10.0.0.13:8080"', "{address: 10.0.0.13, port: 8080, weight: 20, name: '10.0.0.13:8080'}"
    ),
    "ring": BEFORE.replace("1009", "2003").replace("198.51.100.53", "198.51.100.54"),
    "mode": BEFORE + "xdp_mode: generic\n",
    "shared": BEFORE + "  - {name: again, vip: 198.51.100.11, port: 80, ring_size: 251,"
    ' backends: ["10.0.0.11:8080"]}\n',
}

change = pytest.mark.parametrize("after", [HEAD + each for each in CHANGES.values()], ids=CHANGES)


class Killed(BaseException):
    """kill -9: nothing of the controller runs any more."""


class Writes:
    """Stands before a data plane's `write` and lets a fault happen at the n-th call.

    If it lasts, it happens at every call from then on.
    """

    def __init__(self, instance, number, fault, lasts):
        self.number, self.fault, self.lasts = number, fault, lasts
        self.calls = 0
        self.write = instance.dataplane.write
        instance.dataplane.write = self

    def __call__(self, operation):
        self.calls += 1
        if self.calls == self.number or (self.lasts and self.has_struck):
            self.fault(self.write, operation)
        else:
            self.write(operation)

    @property
    def has_struck(self):
        return self.calls >= self.number


def refuse(_write, operation):
    raise KernelRefused(f"cannot write {operation}", 12)


def break_down(_write, operation):
    raise OSError(12, "Cannot allocate memory")


def lose(_write, _operation):
    """Say nothing and do nothing."""


def kill_before(_write, _operation):
    raise Killed


def kill_within(write, operation):
    """Slots are written one by one: half of them are."""
    if isinstance(operation, Store):
        half = len(operation.indexes) // 2
        write(Store(operation.indexes[:half], operation.words[:half]))
    raise Killed


def for_every_write(machine, fault, before, after, lasts=False):
    """Yield, from the same state each time, an instance that fails at its n-th write."""
    number = 0
    while True:
        number += 1
        if before is not None:
            machine.apply(HEAD + before)
        instance = machine.instance()
        writes = Writes(instance, number, fault, lasts)
        with instance.held():
            yield instance, machine.parse(after)
        if not writes.has_struck:
            assert number > 1
            return
        if before is None:
            machine.close()


def assert_correct(tables):
    """Every service has a whole ring, and every slot names backends that are there."""
    taken = Counter()
    for vip, service in tables.services.items():
        if not vip.port:
            continue
        extent = range(service.ring_offset, service.ring_offset + service.ring_size)
        taken.update({(number, service.id): 1 for number in extent[:: len(extent) - 1]})
        backend, previous = unpack_slots(tables.slots[extent.start : extent.stop])
        assert backend.all()
        for number in {*np.unique(backend).tolist(), *np.unique(previous).tolist()} - {0}:
            row = tables.backends[number]
            assert row.service == service.id
            assert Endpoint(row.address, row.port, vip.protocol) in tables.nat_replies
            assert number in tables.backend_info
    assert len({number for number, _ in taken}) == len(taken)  # no two rings overlap


@pytest.fixture
def homes(machine, after):
    """Connections through the first file, and whom each must go on being answered by."""
    machine.apply(HEAD + BEFORE)
    if "2003" in after:  # a ring of another size can't remember every flow's old slot
        yield {}
        return
    with ExitStack() as stack:
        opened = [stack.enter_context(machine.lab.client.socket()) for _ in range(8)]
        for each in opened:
            each.settimeout(3)
            each.connect((VIP, 80))
        yield {each: fetch_again(each).backend for each in opened}


def assert_answered(machine, homes):
    for connection, home in homes.items():
        assert fetch_again(connection).backend == home
    for _ in range(3):
        fetch(machine.lab.client, VIP, 80)


@change
@pytest.mark.parametrize("fault", [refuse, break_down])
def test_a_write_that_fails_is_taken_back_with_all_before_it(machine, homes, after, fault):
    for instance, config in for_every_write(machine, fault, BEFORE, after):
        before = machine.read()
        try:
            outcome = instance.reconcile(config, allow_large_change=True)
        except RolledBack:
            assert machine.read() == before
            assert_answered(machine, homes)
        else:
            assert outcome.is_changed
            assert_correct(machine.read())


def test_a_first_apply_that_fails_leaves_nothing(machine):
    for instance, config in for_every_write(machine, refuse, None, HEAD + BEFORE):
        try:
            instance.reconcile(config)
        except (KernelRefused, RolledBack):
            assert not instance.exists()
            assert list(instance.folder.iterdir()) == []
    fetch(machine.lab.client, VIP, 80)


@change
@pytest.mark.parametrize("fault", [kill_before, kill_within])
def test_killed_between_any_two_writes(machine, homes, after, fault):
    finished = []
    for instance, config in for_every_write(machine, fault, BEFORE, after):
        try:
            instance.reconcile(config, allow_large_change=True)
        except Killed:
            assert_correct(machine.read())
            assert_answered(machine, homes)
            instance.dataplane.close()
            instance = machine.instance()  # noqa: PLW2901  (another one is started)
            instance.reconcile(config, allow_large_change=True)
        tables = machine.read()
        assert_correct(tables)
        assert_answered(machine, homes)
        assert instance.propose(config).operations == ()
        finished.append((set(tables.services), len(tables.nat_replies), len(tables.service_info)))
    # However often it is interrupted, nothing is left over.
    assert len(set(map(repr, finished))) == 1


def test_killed_in_a_first_apply(machine):
    for instance, config in for_every_write(machine, kill_before, None, HEAD + BEFORE):
        try:
            instance.reconcile(config)
        except Killed:
            assert_correct(machine.read())
            machine.instance().reconcile(config)
        assert_correct(machine.read())
        assert machine.read().generation == 1
        fetch(machine.lab.client, VIP, 80)


def kill_at_call(monkeypatch, owner, name, number):
    """Let the n-th call of a method be the last thing that happens."""
    calls = []
    method = getattr(owner, name)

    def counted(*arguments, **options):
        calls.append(arguments)
        if len(calls) == number:
            raise Killed
        return method(*arguments, **options)

    monkeypatch.setattr(owner, name, counted)


@pytest.mark.parametrize("number", [1, 2, 15, 16, 17, 18, 19])
def test_killed_while_it_pins(machine, monkeypatch, number):
    with monkeypatch.context() as patch:
        kill_at_call(patch, Libbpf, "pin", number)
        with pytest.raises(Killed):
            machine.apply(HEAD + BEFORE)
    machine.apply(HEAD + BEFORE)
    assert_correct(machine.read())
    fetch(machine.lab.client, VIP, 80)


@pytest.mark.parametrize("number", range(1, 20, 2))
def test_killed_while_it_detaches(machine, monkeypatch, number):
    machine.apply(HEAD + BEFORE)
    with monkeypatch.context() as patch:
        kill_at_call(patch, Path, "unlink", number)
        with pytest.raises(Killed):
            machine.instance().detach()
    machine.apply(HEAD + BEFORE)
    assert_correct(machine.read())
    fetch(machine.lab.client, VIP, 80)
    instance = machine.instance()
    with instance.held():
        instance.detach()
    assert not instance.folder.exists()


@change
def test_a_write_that_is_lost_is_noticed(machine, after):
    for instance, config in for_every_write(machine, lose, BEFORE, after):
        before = machine.read()
        try:
            outcome = instance.reconcile(config, allow_large_change=True)
        except RolledBack:
            assert machine.read() == before
        else:
            assert machine.instance().propose(config).operations == ()
            assert machine.read().generation == outcome.proposal.desired.generation


@change
def test_a_rollback_that_fails_too_leaves_a_correct_balancer(machine, homes, after):
    for instance, config in for_every_write(machine, refuse, BEFORE, after, lasts=True):
        before = machine.read()
        try:
            instance.reconcile(config, allow_large_change=True)
        except Degraded:
            assert_correct(machine.read())
            assert_answered(machine, homes)
        except RolledBack:  # nothing had been written that was to be taken back
            assert machine.read() == before
