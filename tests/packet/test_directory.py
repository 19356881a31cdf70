"""An endpoint is found at home and elsewhere in its group, and nobody is taken for it."""

from __future__ import annotations

from contextlib import contextmanager
from ipaddress import ip_address
from itertools import islice

import numpy as np
import pytest

from reconciler import abi
from reconciler.abi import Verdict
from reconciler.directory import GOLDEN, hash_endpoint
from reconciler.model import Protocol
from reconciler.plan import Drop, Put
from reconciler.tables import Endpoint

from . import network, services
from .packets import in_family, to_service

pytestmark = pytest.mark.root

FIRST = {4: ip_address("203.0.113.0"), 6: ip_address("2001:db8:113::")}
PORTS = np.arange(1024, 65536, dtype=np.uint64)


@pytest.fixture
def plain(balancer, family):
    """A service's endpoint, and what the directory says of it."""
    vip = ip_address(network.locate(services.PLAIN, family))
    key = Endpoint(vip, services.VIP_PORT, Protocol.TCP)
    return key, balancer.base.services[key]


class Hashes:
    """Where endpoints of one directory are at home, and their tags."""

    def __init__(self, balancer):
        places = balancer.base.settings[0].directory_places
        self.shift = 64 - (places.bit_length() - 1)

    def find_place(self, hashed):
        return hashed >> self.shift

    def find_group(self, hashed):
        return self.find_place(hashed) // abi.GROUP_PLACES

    def find_tag(self, hashed):
        return hashed >> 32 & 0xFF | 1

    def list_others(self, key, *alike):
        """Endpoints of addresses that nobody has, of which these are as they are of `key`."""
        wanted = [what(hash_endpoint(key)) for what in alike]
        for number in range(1, 255):
            address = FIRST[key.address.version] + number
            bare = hash_endpoint(Endpoint(address, 0, key.protocol))
            # The hash is a product, and its factor is odd: undo it, add a port, do it again.
            factors = bare * pow(GOLDEN, -1, 2**64) % 2**64
            hashes = (np.uint64(factors) ^ PORTS << np.uint64(8)) * np.uint64(GOLDEN)
            found = np.logical_and.reduce(
                [what(hashes) == one for what, one in zip(alike, wanted, strict=True)]
            )
            for port in PORTS[found].tolist():
                yield Endpoint(address, port, key.protocol)


@contextmanager
def known(balancer, endpoints, row):
    for endpoint in endpoints:
        balancer.dataplane.write(Put("services", endpoint, row))
    try:
        yield
    finally:
        for endpoint in endpoints:
            balancer.dataplane.write(Drop("services", endpoint))


def send(balancer, family, endpoint):
    packet = in_family(to_service(Protocol.TCP, port=endpoint.port), family)
    packet.payload.dst = str(endpoint.address)
    return balancer.run(bytes(packet)).verdict


def test_who_shares_a_home_is_found_beside_it(balancer, family, plain):
    key, row = plain
    hashes = Hashes(balancer)
    guests = list(islice(hashes.list_others(key, hashes.find_place), 2))
    with known(balancer, guests, row):
        verdicts = [send(balancer, family, each) for each in (key, *guests)]
        assert verdicts == 3 * [Verdict.FORWARD_REDIRECT]
    assert [send(balancer, family, each) for each in guests] == 2 * [Verdict.PASS_OTHER]


def test_a_group_full_of_one_tag_is_searched_and_a_stranger_with_it_passes(balancer, family, plain):
    key, row = plain
    hashes = Hashes(balancer)
    alike = hashes.list_others(key, hashes.find_group, hashes.find_tag)
    *others, stranger = islice(alike, 4)
    with known(balancer, others, row):
        verdicts = {send(balancer, family, each) for each in (key, *others)}
        assert verdicts == {Verdict.FORWARD_REDIRECT}
        assert send(balancer, family, stranger) is Verdict.PASS_OTHER
