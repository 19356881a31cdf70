"""Next hops are found and resolved: of neighbours, behind gateways, of both families."""

import json
from ipaddress import ip_address

import pytest

from reconciler.lab import Lab, Topology, wait_until
from reconciler.neighbours import Hop, find_hops, nudge_neighbours

pytestmark = pytest.mark.root

NEAR, NEAR6 = ip_address("10.0.0.11"), ip_address("2001:db8:1::11")
# As many as need several rounds of questions.
FAR = [ip_address("198.18.0.1") + number for number in range(500)]


@pytest.fixture(scope="module")
def lab():
    with Lab(Topology(arms=2, backends=2, ipv6=True)) as made:
        made.balancer.run(["ip", "route", "add", "198.18.0.0/16", "via", "10.0.0.12"])
        made.balancer.run(["ip", "route", "add", "blackhole", "198.19.0.0/16"])
        made.balancer.run(["ip", "route", "add", "203.0.113.0/24", "via", "inet6", str(NEAR6)])
        yield made


def find_ifindex(lab, interface):
    links = json.loads(lab.balancer.run(["ip", "-json", "link", "show", "dev", interface]).stdout)
    return links[0]["ifindex"]


def find_in(lab, *addresses):
    with lab.balancer.entered():
        return find_hops(addresses)


def test_a_neighbour_is_its_own_next_hop(lab):
    behind = find_ifindex(lab, "eth1")
    assert find_in(lab, NEAR, NEAR6) == {Hop(behind, NEAR), Hop(behind, NEAR6)}


def test_hundreds_behind_one_gateway_have_one_next_hop(lab):
    assert find_in(lab, *FAR) == {Hop(find_ifindex(lab, "eth1"), ip_address("10.0.0.12"))}


def test_a_gateway_may_be_of_the_other_family(lab):
    assert find_in(lab, ip_address("203.0.113.9")) == {Hop(find_ifindex(lab, "eth1"), NEAR6)}


@pytest.mark.parametrize("address", ["198.19.0.1", "100.64.0.1", "127.0.0.1", "10.0.0.1"])
def test_where_no_route_leads_to_a_machine_there_is_no_next_hop(lab, address):
    assert find_in(lab, ip_address(address)) == set()


def test_what_is_nudged_gets_resolved(lab):
    lab.balancer.run(["ip", "neigh", "flush", "all"])
    with lab.balancer.entered():
        nudge_neighbours([NEAR, NEAR6, *FAR, ip_address("198.19.0.1")])

    def list_resolved():
        entries = json.loads(lab.balancer.run(["ip", "-json", "neigh", "show"]).stdout)
        return {entry["dst"] for entry in entries if "lladdr" in entry}

    wanted = {"10.0.0.11", "10.0.0.12", str(NEAR6)}
    wait_until(lambda: wanted <= list_resolved(), "the neighbours answer")
