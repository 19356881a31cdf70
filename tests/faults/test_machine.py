"""A machine that changes under the controller, and maps that are not what they should be."""

import contextlib
import json
import os

import numpy as np
import pytest

from reconciler import abi
from reconciler.errors import RolledBack, Unavailable
from reconciler.lab import Lab, Topology, wait_until
from reconciler.lab.ask import fetch
from reconciler.lab.controller import Controller
from reconciler.lab.drive import Drive
from reconciler.lab.load import LoadPlan
from reconciler.lab.namespaces import is_running

pytestmark = pytest.mark.root

VIP = "192.0.2.1"
HEAD = "interface: [eth0, eth1]\nport: 8080\n"
TWO = "backends: ['10.0.0.11:8080', '10.0.0.12:8080']\n"
THREE = "backends: ['10.0.0.11:8080', '10.0.0.12:8080', '10.0.0.13:8080']\n"


def limit(**limits):
    words = ", ".join(f"{name}: {value}" for name, value in limits.items())
    return HEAD + f"limits: {{{words}}}\n"


def is_answered(lab):
    try:
        return bool(fetch(lab.client, VIP, timeout_s=0.2).backend)
    except OSError:
        return False


# --- an interface that vanishes and comes back ---


def replace_front(lab):
    """Unplug the client's wire and plug a new one in, as it was when it was built."""
    (wire,) = (each for each in lab.topology.wires if each.one.host == lab.client.name)
    lab.balancer.run(["ip", "link", "delete", wire.other.interface])
    yield
    words = f"add {wire.one.interface} address {wire.one.mac} type veth peer"
    words += f" name {wire.other.interface} address {wire.other.mac}"
    words += f" netns {lab.balancer.namespace}"
    lab.client.run(["ip", "link", *words.split()])
    for host, end in ((lab.client, wire.one), (lab.balancer, wire.other)):
        address = str(lab.topology.addresses[host.name, end.interface][0])
        host.run(["ethtool", "-K", end.interface, "tx", "off", "gro", "on"])
        host.run(["ip", "address", "add", address, "dev", end.interface])
        host.run(["ip", "link", "set", end.interface, "up"])
    lab.client.run(["ip", "route", "add", "default", "via", VIP])
    yield


def has_logged(controller, text):
    return text in controller.log.read_text()


def find_condition(controller, kind):
    document = json.loads(controller.run("status", "--json").stdout)
    (found,) = [each for each in document["conditions"] if each["type"] == kind]
    return found["status"], found["reason"]


def test_a_new_mtu_and_a_new_address_are_noticed():
    with Lab(Topology(arms=2, backends=2)) as lab:
        lab.serve()
        config = lab.directory / "lb.yaml"
        config.write_text(HEAD + TWO + "reconcile: {resync: 1h}\n", encoding="utf-8")
        controller = Controller(lab, config)
        controller.wait_in_sync()
        lab.balancer.run(["ip", "link", "set", "eth1", "mtu", "1400"])
        wait_until(lambda: has_logged(controller, "interface=eth1 mtu=1400"), "the MTU")
        lab.balancer.run(["ip", "address", "add", "192.0.2.77/24", "dev", "eth0"])
        wait_until(lambda: has_logged(controller, "interface=eth0 addresses="), "the address")
        wait_until(lambda: has_logged(controller, "reconcile=applied generation=2"), "a VIP")
        assert fetch(lab.client, "192.0.2.77").backend


def test_an_interface_that_comes_back_is_attached_again():
    with Lab(Topology(arms=2, backends=3)) as lab:
        lab.serve()
        config = lab.directory / "lb.yaml"
        config.write_text(HEAD + TWO + "reconcile: {resync: 1h}\n", encoding="utf-8")
        controller = Controller(lab, config)
        controller.wait_in_sync()
        assert is_answered(lab)
        steps = replace_front(lab)
        next(steps)
        wait_until(lambda: has_logged(controller, "interface=eth0 now=gone"), "it is missed")
        assert find_condition(controller, "Attached") == (False, "InterfaceGone")
        assert find_condition(controller, "Ready") == (True, "Balancing")  # by the other one
        # What else the file asks for is done meanwhile.
        config.write_text(HEAD + THREE + "reconcile: {resync: 1h}\n", encoding="utf-8")
        wait_until(lambda: has_logged(controller, "reconcile=applied generation=2"), "an edit")
        assert "eth0" in controller.run("status").stdout
        next(steps)
        wait_until(lambda: is_answered(lab), "the VIP answers again")
        wait_until(
            lambda: find_condition(controller, "Attached") == (True, "Native"), "it is attached"
        )
        assert controller.plan().in_sync
        assert is_running(controller.pid)
        assert not has_logged(controller, "reconcile=failed")
        plan = LoadPlan(VIP, 8080, rate=300, count=300)
        with Drive(lab.client, plan) as drive:
            assert drive.wait(20).failures == {}


def test_an_interface_that_is_replaced_between_two_looks():
    with Lab(Topology(arms=2, backends=2)) as lab:
        lab.serve()
        config = lab.directory / "lb.yaml"
        config.write_text(HEAD + TWO + "reconcile: {resync: 1h}\n", encoding="utf-8")
        controller = Controller(lab, config)
        controller.wait_in_sync()
        for _ in replace_front(lab):
            pass
        wait_until(lambda: is_answered(lab), "the VIP answers again")
        assert controller.plan().in_sync


# --- room ---


@pytest.fixture
def full(machine):
    """An instance with room for one backend more than it has, and for two small rings."""
    machine.text = limit(backends=4, ring_slots=600, services=2) + "ring_size: 251\n"
    machine.apply(machine.text + THREE)
    return machine


def assert_refused(machine, text, *words):
    """It says why, and nothing has changed."""
    before = machine.read()
    instance = machine.instance()
    with instance.held(), pytest.raises(Unavailable) as caught:
        instance.reconcile(machine.parse(text), allow_large_change=True)
    assert [each for each in words if each not in str(caught.value)] == []
    assert machine.read() == before
    assert is_answered(machine.lab)


def test_no_room_for_who_comes_while_others_leave(full):
    full.apply(full.text + THREE.replace("10.0.0.13", "10.0.0.14"))
    other = THREE.replace("10.0.0.12", "10.0.0.15")
    assert_refused(full, full.text + other, "all 4 ids are in use", "have left")


def test_room_again_when_others_have_left(machine):
    text = limit(backends=4, ring_slots=600) + "ring_size: 251\ndrain_timeout: 0s\n"
    for last in ("10.0.0.13", "10.0.0.14") * 3:
        machine.apply(text + THREE.replace("10.0.0.13", last))
    machine.apply(text + THREE)
    backends = machine.read().backends.values()
    assert {str(row.address) for row in backends} == {"10.0.0.11", "10.0.0.12", "10.0.0.13"}


def test_no_room_for_a_ring(full):
    assert_refused(full, full.text.replace("251", "503") + THREE, "no room for a ring of 503 slots")


def test_backends_may_change_their_addresses_where_room_is_scarce(machine):
    def write(*addresses):
        lines = [f"{{name: b{i}, address: {each}}}" for i, each in enumerate(addresses)]
        return limit(backends=4) + f"backends: [{', '.join(lines)}]\n"

    machine.apply(write("10.0.0.11", "10.0.0.21", "10.0.0.22"))
    machine.apply(write("10.0.0.12", "10.0.0.13", "10.0.0.14"))
    answers = {fetch(machine.lab.client, VIP).backend for _ in range(60)}
    assert answers == {"10.0.0.12", "10.0.0.13", "10.0.0.14"}


def test_more_addresses_than_there_is_room_for(full):
    """The service listens on every address of its interface."""
    extra = [f"192.0.2.{number}/24" for number in range(100, 180)]
    try:
        for each in extra:
            full.lab.balancer.run(["ip", "address", "add", each, "dev", "eth0"])
        before = full.read()
        instance = full.instance()
        with instance.held(), pytest.raises((RolledBack, Unavailable)) as caught:
            instance.reconcile(full.parse(full.text + THREE))
        assert "endpoints are in use" in str(caught.value)
        assert full.read() == before
        assert is_answered(full.lab)
    finally:
        for each in extra:
            full.lab.balancer.run(["ip", "address", "delete", each, "dev", "eth0"])


@pytest.mark.parametrize("change", [{"backends": 5}, {"ring_slots": 700}, {"flows": 8192}])
def test_pinned_maps_of_another_size_are_refused(machine, change):
    limits = {"backends": 4, "ring_slots": 600, "flows": 4096}
    machine.apply(limit(**limits) + "ring_size: 251\n" + TWO)
    text = limit(**(limits | change)) + "ring_size: 251\n" + TWO
    assert_refused(machine, text, "limits in lb.yaml ask for", "xdplb detach")


# --- maps of somebody else ---


def test_pinned_maps_of_another_abi_version_are_refused(machine):
    machine.apply(HEAD + TWO)
    settings = np.zeros(1, abi.SETTINGS)
    settings["abi_version"] = abi.ABI_VERSION + 1
    dataplane = machine.instance().dataplane
    with contextlib.closing(dataplane):
        fd = dataplane.libbpf.get(dataplane.pins.map("settings"))
        dataplane.libbpf.update(fd, bytes(4), settings.tobytes(), "cannot write")
        os.close(fd)
    version = f"of ABI version {abi.ABI_VERSION + 1}, this controller's is {abi.ABI_VERSION}"
    instance = machine.instance()
    with instance.held(), pytest.raises(Unavailable, match=version) as caught:
        instance.reconcile(machine.parse(HEAD + THREE))
    assert "xdplb detach" in str(caught.value)
    assert len(machine.read().backends) == 2


def test_pinned_maps_of_another_layout_are_refused(machine, monkeypatch):
    machine.apply(HEAD + TWO)
    before = machine.read()
    wider = np.dtype([*abi.BACKEND.descr, ("more", "u8")])
    with monkeypatch.context() as patch:
        patch.setitem(abi.MAPS, "backends", (abi.INDEX, wider))
        instance = machine.instance()
        with instance.held(), pytest.raises(Unavailable, match="backends is of another ABI"):
            instance.reconcile(machine.parse(HEAD + THREE))
    assert machine.read() == before
    assert is_answered(machine.lab)
