"""The packets of checks by a VIP, against scapy's."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from reconciler.health.packet import (
    ACK,
    RST,
    SYN,
    Call,
    Reply,
    make_datagram,
    make_segment,
    read_reply,
)
from reconciler.model import Protocol

ADDRESSES = {4: ("10.0.0.1", "192.0.2.10"), 6: ("2001:db8::1", "2001:db8:f::10")}


def make_call(version, protocol=Protocol.TCP):
    source, vip = map(ip_address, ADDRESSES[version])
    return Call(source, 61_000, vip, 8080, protocol)


def make_ip(version, *, back=False):
    source, vip = ADDRESSES[version]
    here, there = (vip, source) if back else (source, vip)
    if version == 4:
        return IP(src=here, dst=there, ttl=64, flags="DF", id=0)
    return IPv6(src=here, dst=there, hlim=64)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("flags", "letter"), [(SYN, "S"), (RST, "R")])
def test_a_segment_is_as_scapy_makes_it(version, flags, letter):
    tcp = TCP(sport=61_000, dport=8080, flags=letter, seq=7, window=65_535)
    assert make_segment(make_call(version), flags, 7) == bytes(make_ip(version) / tcp)


@pytest.mark.parametrize("version", [4, 6])
@given(payload=st.binary(max_size=40))
def test_a_datagram_is_as_scapy_makes_it(version, payload):
    made = make_datagram(make_call(version, Protocol.UDP), payload)
    assert made == bytes(make_ip(version) / UDP(sport=61_000, dport=8080) / payload)


def test_a_checksum_that_comes_to_zero_is_written_as_ones():
    call = make_call(6, Protocol.UDP)
    # The sum of the rest is known; a payload of its complement makes the checksum zero.
    sums = [make_datagram(call, number.to_bytes(2, "big"))[46:48] for number in range(65_536)]
    assert b"\0\0" not in sums
    assert b"\xff\xff" in sums


@pytest.mark.parametrize("version", [4, 6])
def test_a_reply_is_read(version):
    tcp = TCP(sport=8080, dport=61_000, flags="SA", seq=99, ack=8, options=[("MSS", 1460)])
    packet = bytes(make_ip(version, back=True) / tcp / b"data")
    assert read_reply(packet) == Reply(make_call(version), SYN | ACK, 99, 8, b"data")
    udp = bytes(make_ip(version, back=True) / UDP(sport=8080, dport=61_000) / b"pong")
    assert read_reply(udp) == Reply(make_call(version, Protocol.UDP), payload=b"pong")


def test_padding_of_short_frames_is_no_payload():
    udp = bytes(make_ip(4, back=True) / UDP(sport=8080, dport=61_000) / b"pong")
    assert read_reply(udp + b"\0" * 14).payload == b"pong"


def test_ip_options_are_skipped():
    header = IP(src=ADDRESSES[4][1], dst=ADDRESSES[4][0], options=b"\x01" * 4)
    udp = bytes(header / UDP(sport=8080, dport=61_000) / b"pong")
    assert read_reply(udp).payload == b"pong"


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x45",
        bytes(make_ip(4) / ICMP()),
        bytes(IP(src="192.0.2.10", dst="10.0.0.1", flags="MF") / UDP(sport=1, dport=2)),
        bytes(IP(src="192.0.2.10", dst="10.0.0.1", frag=5) / UDP(sport=1, dport=2)),
    ],
)
def test_what_answers_nothing_is_none(packet):
    assert read_reply(packet) is None


@given(st.binary(max_size=100))
def test_no_bytes_make_it_raise(packet):
    read_reply(packet)


@pytest.mark.parametrize("version", [4, 6])
def test_a_packet_that_is_cut_makes_nothing_raise(version):
    whole = bytes(make_ip(version, back=True) / TCP(sport=8080, dport=61_000, flags="SA"))
    assert [read_reply(whole[:size]) for size in range(len(whole))] == [None] * len(whole)
