from ipaddress import IPv4Address

import pytest

from reconciler.lab.drawing import draw
from reconciler.lab.topology import Topology


@pytest.mark.parametrize(("arms", "interfaces"), [(1, ("eth0",)), (2, ("eth0", "eth1"))])
def test_the_balancer_has_as_many_interfaces_as_arms(arms, interfaces):
    topology = Topology(arms=arms)
    assert topology.balancer_interfaces == interfaces
    ports = {end for wire in topology.wires for end in (wire.one, wire.other)}
    assert {port.interface for port in ports if port.host == "lb"} == set(interfaces)


def test_every_host_but_the_switch_has_addresses_on_each_interface():
    topology = Topology(arms=2, backends=5, ipv6=True)
    ports = {end for wire in topology.wires for end in (wire.one, wire.other)}
    ends = {(port.host, port.interface) for port in ports if port.host != "switch"}
    assert ends == set(topology.addresses)
    assert all({each.version for each in found} == {4, 6} for found in topology.addresses.values())


def test_one_arm_carries_both_networks():
    topology = Topology(arms=1)
    found = [str(each) for each in topology.addresses["lb", "eth0"]]
    assert found == ["192.0.2.1/24", "10.0.0.1/24"]


def test_gateways_are_the_balancer_on_the_same_network():
    topology = Topology(arms=2)
    assert topology.gateways["client"][0].ip == IPv4Address("192.0.2.1")
    assert topology.gateways["b2"][0].ip == IPv4Address("10.0.0.1")
    assert "lb" not in topology.gateways


def test_macs_are_unique_and_local():
    topology = Topology(arms=2, backends=9)
    macs = [end.mac for wire in topology.wires for end in (wire.one, wire.other)]
    assert len(set(macs)) == len(macs)
    assert all(mac.startswith("02:") for mac in macs)
    assert "02:00:0a:00:00:0b" in macs


@pytest.mark.parametrize(
    ("arms", "receivers"),
    [(1, {("switch", "to-lb")}), (2, {("client", "eth0"), ("switch", "to-lb")})],
)
def test_xdp_frames_arrive_at_the_other_ends_of_the_balancers_wires(arms, receivers):
    found = {(port.host, port.interface) for port in Topology(arms=arms).xdp_receivers}
    assert found == receivers


def test_several_balancers_stand_behind_a_router():
    topology = Topology(arms=1, balancers=2)
    assert topology.hosts[:4] == ("client", "router", "lb1", "lb2")
    found = {name: str(topology.addresses[name, "eth0"][0].ip) for name in ("lb1", "lb2")}
    assert found == {"lb1": "10.0.0.1", "lb2": "10.0.0.2"}
    assert set(topology.gateways) == {"client", "lb1", "lb2", "b1", "b2", "b3"}
    behind = topology.addresses["router", "eth1"][0].ip
    assert {topology.gateways[name][0].ip for name in ("lb1", "lb2", "b1")} == {behind}
    receivers = {(port.host, port.interface) for port in topology.xdp_receivers}
    assert receivers == {("switch", "to-lb1"), ("switch", "to-lb2")}


@pytest.mark.parametrize(
    "wrong",
    [
        {"arms": 3},
        {"arms": 0},
        {"backends": 0},
        {"backends": 201},
        {"arms": 1, "balancers": 0},
        {"arms": 1, "balancers": 9},
        {"arms": 2, "balancers": 2},
    ],
)
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="not"):
        Topology(**wrong)


def test_drawing_with_one_arm():
    assert draw(Topology(arms=1, backends=4), {"10.0.0.14": "(joins later)"}).split("\n") == [
        "client    192.0.2.2 --+            +-- 10.0.0.11",
        "                      +-- switch --+-- 10.0.0.12",
        "balancer  192.0.2.1 --+            +-- 10.0.0.13",
        "          10.0.0.1                 +-- 10.0.0.14  (joins later)",
    ]


def test_drawing_with_two_arms():
    left = "client 192.0.2.2 -- 192.0.2.1 balancer 10.0.0.1 -- switch --"
    assert draw(Topology(arms=2, backends=3)).split("\n") == [
        " " * len(left) + "+-- 10.0.0.11",
        left + "+-- 10.0.0.12",
        " " * len(left) + "+-- 10.0.0.13",
    ]


@pytest.mark.parametrize("arms", [1, 2])
@pytest.mark.parametrize("backends", [1, 2, 20])
def test_every_drawing_shows_every_backend_once(arms, backends):
    drawing = draw(Topology(arms=arms, backends=backends))
    assert drawing.count("+-- 10.0.0.") == backends
    assert drawing.count("switch") == 1
