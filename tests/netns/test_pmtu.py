"""A way to the backend that takes smaller packets than the client's: all of an upload arrives."""

import hashlib
import json
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from reconciler.lab import Lab, Topology
from reconciler.lab.ask import fetch

from .test_modes import (
    BLOCK,
    BULK,
    MARKED,
    SAME_FAMILY,
    TUNNELS,
    WEB,
    Mix,
    balanced_lab,
    open_client,
    open_server,
    prepare_backends,
    serve_blocks,
)

pytestmark = pytest.mark.root

MTU = 1400
MIXES = SAME_FAMILY + TUNNELS
NAT = [mix for mix in SAME_FAMILY if mix.mode == "nat"]


@pytest.fixture(scope="module")
def small_route(require):
    """Everybody on one link; the balancer's route to the first backend is narrow.

    Forwarding heeds a route's MTU only if it is locked.
    """
    require(shutil.which("clang"), "no clang")
    with Lab(Topology(arms=1, ipv6=True)) as lab:
        prepare_backends(lab)
        first = lab.backends[0]
        for address in (first.address, first.address6):
            add_small_route(lab.balancer, address)
        yield lab


def add_small_route(host, address):
    host.run(["ip", "route", "add", str(address), "dev", "eth0", "mtu", "lock", str(MTU)])


@pytest.fixture(scope="module")
def small_link(require):
    """The balancer's interface on the backends' side is narrow."""
    require(shutil.which("clang"), "no clang")
    with Lab(Topology(arms=2, ipv6=True)) as lab:
        prepare_backends(lab)
        lab.balancer.run(["ip", "link", "set", "eth1", "mtu", str(MTU)])
        yield lab


def forget_paths(lab):
    for host in (lab.client, *lab.backends):
        for family in ("-4", "-6"):
            host.run(["ip", family, "route", "flush", "cache"])


def read_learned_mtu(host, address):
    """What the host was told of the path to an address; None if it was told nothing."""
    (route,) = json.loads(host.run(["ip", "-json", "route", "get", str(address)]).stdout)
    return next((each["mtu"] for each in route.get("metrics", ()) if "mtu" in each), None)


def count_too_big(balanced):
    verdicts = balanced.count_verdicts()
    return verdicts["too_big_transmit"] + verdicts["too_big_redirect"]


def upload(balanced, data):
    with closing(open_server(balanced, BULK)) as listener, ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve_blocks, listener, 0)
        with closing(open_client(balanced, port=BULK)) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(32, socket.MSG_WAITALL) == hashlib.sha256(data).digest()
        served.result(20)


def check_upload(lab, mix):
    forget_paths(lab)
    with balanced_lab(mix, lab) as balanced:
        upload(balanced, BLOCK[:1_000_000])
        assert read_learned_mtu(lab.client, mix.vip) == MTU - mix.overhead
        assert 1 <= count_too_big(balanced) <= 100


@pytest.mark.parametrize("mix", MIXES, ids=str)
def test_an_upload_arrives_by_a_small_route(small_route, mix):
    check_upload(small_route, mix)


# With l2dsr the backends are on the client's link.
@pytest.mark.parametrize("mix", NAT + TUNNELS, ids=str)
def test_an_upload_arrives_by_a_small_link(small_link, mix):
    check_upload(small_link, mix)


@pytest.mark.parametrize("mix", NAT, ids=str)
def test_a_download_arrives_by_a_small_route(small_route, mix):
    client = small_route.client
    address = client.address if mix.inner == 4 else client.address6
    forget_paths(small_route)
    add_small_route(small_route.balancer, address)
    try:
        with balanced_lab(mix, small_route) as balanced:
            backends = set()
            while len(backends) < len(small_route.backends):
                answer = fetch(client, mix.vip, WEB, "/bytes/1000000")
                assert len(answer.body) == 1_000_000
                backends.add(answer.backend)
            assert count_too_big(balanced) >= len(backends)
        for backend in small_route.backends:
            assert read_learned_mtu(backend, address) == MTU
    finally:
        small_route.balancer.run(["ip", "route", "del", str(address), "dev", "eth0"])


def test_a_datagram_that_may_be_split_is_split(small_route):
    dont_discover = (socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER, IP_PMTUDISC_DONT
    with (
        balanced_lab(Mix("nat", 4, 4), small_route) as balanced,
        closing(open_server(balanced, MARKED, socket.SOCK_DGRAM)) as server,
        closing(open_client(balanced, socket.SOCK_DGRAM, port=MARKED)) as client,
    ):
        client.setsockopt(*dont_discover)
        client.send(BLOCK[:1450])
        assert server.recvfrom(2048) == (BLOCK[:1450], client.getsockname())
        assert count_too_big(balanced) == 0
