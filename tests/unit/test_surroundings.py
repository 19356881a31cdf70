import asyncio
import threading
from ipaddress import ip_address

import pytest

from reconciler import neighbours, netlink
from reconciler.diagnosis.facts import Surroundings
from reconciler.errors import Unavailable
from reconciler.health import surroundings
from reconciler.health.failure import CheckFailed, CheckImpossible
from reconciler.health.surroundings import Lookout

BACKEND, OTHER, VIP = map(ip_address, ("10.0.0.11", "10.0.0.12", "192.0.2.1"))
MAC = bytes.fromhex("020000000011")


class Kernel:
    """What netlink says, and how often it was asked."""

    def __init__(self, monkeypatch):
        self.said = Surroundings(
            {BACKEND: (3, MAC)},
            {
                "eth0": (VIP, ip_address("10.0.0.1"), ip_address("fe80::1")),
                "eth1": (ip_address("2001:db8::1"),),
            },
        )
        self.asked = 0
        self.nudged = []
        monkeypatch.setattr(neighbours, "nudge_neighbours", self.nudge)
        monkeypatch.setattr(surroundings, "_KEPT_MISSING_S", 0.01)
        monkeypatch.setattr(netlink, "read_surroundings", self.read)

    def nudge(self, addresses):
        self.nudged += addresses
        self.answer(addresses)

    def answer(self, addresses):
        """A kernel whose questions nobody answers."""

    def read(self):
        assert threading.current_thread() is not threading.main_thread()
        self.asked += 1
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


@pytest.fixture
def kernel(monkeypatch):
    return Kernel(monkeypatch)


def test_a_neighbour_is_found_and_remembered(kernel):
    async def find():
        lookout = Lookout()
        both = await asyncio.gather(*(lookout.find_neighbour(BACKEND) for _ in range(5)))
        return [*both, await lookout.find_neighbour(BACKEND)]

    assert asyncio.run(find()) == [(3, MAC)] * 6
    assert kernel.asked == 1


def test_who_is_no_neighbour_fails_and_the_kernel_is_asked_once(kernel):
    async def find():
        lookout = Lookout()
        for _ in range(3):
            with pytest.raises(CheckFailed, match="not a neighbour"):
                await lookout.find_neighbour(OTHER)

    asyncio.run(find())
    assert kernel.nudged == [OTHER]


def test_a_neighbour_that_the_kernel_finds_when_asked_is_found(kernel):
    def find(addresses):
        kernel.said.neighbours.update(dict.fromkeys(addresses, (4, MAC)))

    kernel.answer = find
    assert asyncio.run(Lookout().find_neighbour(OTHER)) == (4, MAC)


def test_where_the_kernel_says_nothing_nothing_is_known(kernel):
    kernel.said = Unavailable("the kernel does not say")
    with pytest.raises(CheckImpossible):
        asyncio.run(Lookout().find_neighbour(BACKEND))


@pytest.mark.parametrize(
    ("version", "address"), [(4, ip_address("10.0.0.1")), (6, ip_address("2001:db8::1"))]
)
def test_an_own_address_is_one_of_the_interfaces_and_no_vip(kernel, version, address):
    found = asyncio.run(Lookout().find_own(version, ("eth0", "eth1"), {VIP}))
    assert found == address


def test_without_such_an_address_nothing_can_be_asked(kernel):
    with pytest.raises(CheckImpossible, match="no IPv6 address on eth0"):
        asyncio.run(Lookout().find_own(6, ("eth0",), {VIP}))
