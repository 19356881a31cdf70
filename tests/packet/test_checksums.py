"""Checksums that follow a rewrite equal those that scapy computes over everything."""

from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from scapy.utils import checksum

from reconciler.abi import Verdict
from reconciler.model import Backend, Limits, Protocol, Service

from . import network, services
from .balancer import running_balancer
from .packets import from_backend, in_family, rewritten, to_service

pytestmark = pytest.mark.root

ROUNDS = 500
SERVICES = 16


def make_services(chance: random.Random, protocol: Protocol, family: int) -> list[Service]:
    """Services at random addresses, each with one backend at a random port."""
    template = next(s for s in services.make_test_config().services if s.protocol == protocol)
    made = []
    for number in range(SERVICES):
        name = f"{number}-{protocol.name.lower()}-ipv{family}"
        backend = network.locate(f"10.0.0.{number + 10}", family)
        vip = str(IPv4Address(chance.randrange(0x0B00_0000, 0x7F00_0000)))
        made.append(
            replace(
                template,
                name=name,
                vip=network.locate(vip, family),
                port=chance.choice([1, 255, 256, 65_535, chance.randrange(1, 65_536)]),
                backends=(Backend(f"backend-{name}", backend, chance.randrange(1, 65_536)),),
            )
        )
    return made


@pytest.fixture(scope="module")
def made():
    chance = random.Random(7)
    return {
        (protocol, family): make_services(chance, protocol, family)
        for protocol in Protocol
        for family in network.FAMILIES
    }


def in_ipv4(address):
    """The IPv4 address of who has this one."""
    return str(IPv4Address(int(address) % 2**32))


@pytest.fixture(scope="module")
def random_balancer(made):
    every = tuple(service for each in made.values() for service in each)
    with running_balancer(services.make_config(every, Limits(128, 128, 32_768, 1024))) as balancer:
        yield balancer


def make_fields(chance, protocol):
    fields = {
        "client": str(IPv4Address(chance.randrange(0x8000_0000, 0xDF00_0000))),
        "client_port": chance.randrange(65_536),
        "payload": chance.randbytes(chance.choice([0, 1, 2, 3, chance.randrange(1400)])),
        "ip": {
            "id": chance.randrange(65_536),
            "ttl": chance.randrange(2, 256),
            "tos": chance.randrange(256),
        },
    }
    if protocol is Protocol.TCP:
        numbers = {name: chance.randrange(2**32) for name in ("seq", "ack")}
        fields |= {**numbers, "window": chance.randrange(65_536), "flags": chance.randrange(512)}
    elif chance.random() < 0.1:  # over IPv6 it is made anew
        fields["chksum"] = 0
    return fields


def test_client_to_backend(random_balancer, made, protocol, family):
    chance = random.Random(f"forward {protocol}")
    with random_balancer.inside():
        for _ in range(ROUNDS):
            service = chance.choice(made[protocol, family])
            (backend,) = service.backends
            fields = make_fields(chance, protocol)
            packet = to_service(protocol, in_ipv4(service.vip), port=service.port, **fields)
            there = in_ipv4(backend.address), backend.port
            hop = {"interface": network.BACK, "hop": there[0]}
            out = rewritten(packet, dst=there, **hop)
            outcome = random_balancer.run(bytes(in_family(packet, family)))
            assert outcome.verdict is Verdict.FORWARD_REDIRECT
            assert outcome.frame == bytes(in_family(out, family)), fields


def test_backend_to_client(random_balancer, made, protocol, family):
    chance = random.Random(f"reply {protocol}")
    with random_balancer.inside():
        for _ in range(ROUNDS):
            service = chance.choice(made[protocol, family])
            (backend,) = service.backends
            fields = make_fields(chance, protocol)
            packet = from_backend(protocol, in_ipv4(backend.address), backend.port, **fields)
            vip = in_ipv4(service.vip), service.port
            hop = {"interface": network.FRONT, "hop": network.GATEWAY}
            outcome = random_balancer.run(bytes(in_family(packet, family)), network.BACK)
            assert outcome.verdict is Verdict.REPLY_REDIRECT
            out = in_family(rewritten(packet, src=vip, **hop), family)
            assert outcome.frame == bytes(out), fields


def fill_in_checksums(frame: bytearray) -> None:
    """Write both checksums, each over everything it covers; a plain frame without options."""
    at = 36 if frame[23] == Protocol.TCP else 26
    frame[24:26] = frame[34 + at - 20 : 36 + at - 20] = b"\0\0"
    pseudo = frame[26:34] + bytes([0, frame[23]]) + (len(frame) - 34).to_bytes(2, "big")
    l4 = checksum(bytes(pseudo + frame[34:]))
    if frame[23] == Protocol.UDP:
        l4 = l4 or 0xFFFF
    frame[24:26] = checksum(bytes(frame[14:34])).to_bytes(2, "big")
    frame[34 + at - 20 : 36 + at - 20] = l4.to_bytes(2, "big")


def test_every_checksum_that_there_is(balancer, protocol):
    """A carry that is lost shows for few of the 65,536 old values."""
    frame = bytearray(bytes(to_service(protocol, payload=b"\0\0")))
    with balancer.inside():
        for number in range(65_536):
            frame[18:20] = frame[-2:] = number.to_bytes(2, "big")
            fill_in_checksums(frame)
            _, out = balancer.run_uncounted(bytes(frame))
            expected = bytearray(out)
            fill_in_checksums(expected)
            assert out == expected, number
            assert out[30:34] != frame[30:34]
