"""Checks that go by the VIP: they get to one backend as clients' packets do, and back."""

import json
import select
import shutil
import socket
from contextlib import contextmanager

import pytest

from reconciler.config import parse
from reconciler.health.once import probe_once
from reconciler.health.packet import read_reply
from reconciler.health.tap import FIRST_PORT, LAST_PORT, open_tap
from reconciler.lab import Lab, Topology, wait_until

from .test_modes import ECHO, FAMILIES, TUNNELS, WEB, Mix, balanced_lab, prepare_backends

pytestmark = pytest.mark.root

NOBODY = 7999
PASSAGES = [Mix("l2dsr", 4, 4), Mix("l2dsr", 6, 6), *TUNNELS, Mix("gue", 4, 4, "generic")]


@pytest.fixture(scope="module")
def lab(require):
    require(shutil.which("clang"), "no clang")
    with Lab(Topology(arms=1, ipv6=True)) as made:
        prepare_backends(made)
        yield made


@pytest.fixture(scope="module", params=PASSAGES, ids=str)
def balanced(lab, request):
    """The program is there, and every backend's MAC is known, for clients were served."""
    with balanced_lab(request.param, lab) as made:
        yield made


def probe(balanced, *, port=WEB, protocol="tcp", health, **fields):
    """Ask every backend once, on the balancer; whether each passed, and why, by its number."""
    service = {
        "name": "web",
        "vip": balanced.mix.vip,
        "port": port,
        "protocol": protocol,
        "forwarding": balanced.mix.mode,
        "backends": [
            {"name": f"b{number}", "address": balanced.mix.address_of(backend)}
            for number, backend in enumerate(balanced.lab.backends)
        ],
        "health": {"via": "vip", "timeout": "1s", **health},
    }
    document = {"interface": "eth0", "services": [service], **fields}
    parsed = parse(json.dumps(document).encode(), "lb.yaml")
    assert parsed.config, [one.message for one in parsed.diagnostics]
    with balanced.lab.balancer.entered():
        standings = probe_once(parsed.config)
    return [
        (standings[("web", f"b{number}")].is_up, standings[("web", f"b{number}")].detail)
        for number in range(len(balanced.lab.backends))
    ]


@contextmanager
def without_vip(balanced, backend):
    """A backend that has lost the VIP."""
    words = [balanced.mix.vip, "dev", "lo"]
    backend.run(["ip", "addr", "del", *words])
    try:
        yield
    finally:
        backend.run(["ip", "addr", "add", *words])


def test_tcp_reaches_every_backend_by_the_vip(balanced):
    assert probe(balanced, health={"type": "tcp"}) == [(True, "connected by the VIP")] * 3


def test_a_port_of_nobody_is_refused(balanced):
    refused = (False, "connection refused")
    assert probe(balanced, health={"type": "tcp", "port": NOBODY}) == [refused] * 3


def test_a_backend_that_has_lost_the_vip_is_found(balanced):
    with without_vip(balanced, balanced.lab.backends[1]):
        passed = [is_up for is_up, _ in probe(balanced, health={"type": "tcp"})]
    assert passed == [True, False, True]
    wait_until(lambda: probe(balanced, health={"type": "tcp"})[1][0], "it is found again")


def test_udp_hears_the_backend_that_it_has_asked(balanced):
    expected = f"{balanced.lab.backends[1].address} x"
    health = {"type": "udp", "send": "x", "expect": expected}
    found = probe(balanced, port=ECHO, protocol="udp", health=health)
    why = f"an answer of {len(expected)} bytes"
    other = (False, f"{why}, but not the one expected")
    assert found == [other, (True, f"answered with {len(expected)} bytes"), other]


def test_silence_fails(balanced):
    found = probe(balanced, port=NOBODY, protocol="udp", health={"type": "udp", "send": "x"})
    assert found == [(False, "timeout after 1s")] * 3


def test_the_vip_may_be_an_address_of_the_balancer(balanced):
    balancer = balanced.lab.balancer
    words = [balanced.mix.vip, "dev", "lo"]
    balancer.run(["ip", "addr", "add", *words, *(["nodad"] if balanced.mix.inner == 6 else [])])
    try:
        found = probe(balanced, health={"type": "tcp"})
        assert found == [(True, "connected by the VIP")] * 3
    finally:
        balancer.run(["ip", "addr", "del", *words])


def test_what_goes_by_a_tunnel_has_its_source(balanced):
    if balanced.mix.mode not in ("ipip", "gue"):
        return
    sources = {4: "10.200.0.0/16", 6: "2001:db8:ff::/96"}
    found = probe(balanced, health={"type": "tcp"}, tunnel_source=sources[balanced.mix.outer])
    assert found == [(True, "connected by the VIP")] * 3


@pytest.mark.parametrize("version", [4, 6])
def test_only_what_may_be_an_answer_is_heard(lab, version):
    balancer = lab.balancer
    address = str(balancer.address if version == 4 else balancer.address6)
    ports = [53, FIRST_PORT - 1, FIRST_PORT, LAST_PORT]
    with balancer.entered():
        tap = open_tap(version)
    with tap, lab.backends[0].socket(FAMILIES[version], socket.SOCK_DGRAM) as sender:
        for port in ports:
            sender.sendto(b"x" * 3000, (address, port))  # in fragments, which answer nobody
            sender.sendto(str(port).encode(), (address, port))
        heard = []
        while heard[-1:] != [b"65535"]:
            assert select.select([tap], [], [], 10)[0]
            if reply := read_reply(tap.recv(2048)):
                heard.append(reply.payload)
    assert heard == [b"61000", b"65535"]
