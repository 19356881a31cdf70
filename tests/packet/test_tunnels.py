"""l2dsr, ipip and gue: what a backend gets that answers clients by itself."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from reconciler.abi import Verdict
from reconciler.model import Protocol

from . import network, services
from .balancer import POISON
from .packets import (
    PAYLOAD,
    TO_BALANCER,
    from_backend,
    in_family,
    lower,
    make_l4,
    passed_on,
    read_ip,
    to_service,
)
from .services import TUNNELS, Mode

pytestmark = pytest.mark.root

GUE_PORT = 6080
TUNNEL_TTL = 64
MODES = [mode for mode in Mode if mode is not Mode.NAT]
XDP_HEADROOM = 256  # what the kernel leaves before a frame that it runs
XDP_FRAME = 40  # struct xdp_frame, which lies at its start


@pytest.fixture(params=MODES, ids=lambda mode: mode.name.lower())
def mode(request):
    return request.param


@pytest.fixture(params=TUNNELS, ids=lambda mode: mode.name.lower())
def tunnel(request):
    return request.param


@pytest.fixture(params=(Mode.GUE, Mode.GUE_MIXED), ids=lambda mode: mode.name.lower())
def gue(request):
    return request.param


def for_mode(mode, protocol, family, vip=services.PLAIN, **fields):
    """A client's packet for the service behind `vip` that has this mode."""
    return in_family(to_service(protocol, services.in_mode(vip, mode), **fields), family)


def overhead(mode, family):
    network_header = 20 if mode.outer_family(family) == 4 else 40
    return network_header + (8 if mode in (Mode.GUE, Mode.GUE_MIXED) else 0)


def family_of(packet):
    return 4 if isinstance(read_ip(packet), IP) else 6


def read_spread(frame, at=14):
    """What the flow's hash fills in the outer header: flow label, UDP source port."""
    outer = IP(frame[at:]) if frame[at] >> 4 == 4 else IPv6(frame[at:])
    label = None if isinstance(outer, IP) else outer.fl
    return label, outer[UDP].sport if isinstance(outer.payload, UDP) else None


def encapsulated(
    packet,
    mode,
    spread,
    *,
    backend=services.PLAIN_BACKEND,
    interface=network.BACK,
    hop="",
    source=None,
    gue_port=GUE_PORT,
    has_checksum=True,
):
    """The packet as it leaves for a backend; `spread` is from `read_spread`."""
    inner = read_ip(lower(packet))
    label, port = spread
    family = mode.outer_family(family_of(packet))
    traffic_class = inner.tos if isinstance(inner, IP) else inner.tc
    ends = {
        "src": source or str(network.locate(network.OWN[interface], family)),
        "dst": str(network.locate(backend, family)),
    }
    if family == 4:
        outer = IP(**ends, id=0, flags="DF", ttl=TUNNEL_TTL, tos=traffic_class)
    else:
        outer = IPv6(**ends, fl=label, hlim=TUNNEL_TTL, tc=traffic_class)
    if mode in (Mode.GUE, Mode.GUE_MIXED):
        outer /= UDP(sport=port, dport=gue_port, chksum=None if has_checksum else 0)
    outer /= inner
    link = packet.copy()
    below = read_ip(link).underlayer
    below.remove_payload()
    below.type = 0x0800 if family == 4 else 0x86DD
    return passed_on(link / outer, interface, hop or backend)


def expect(outcome, packet, mode, **how):
    """See that the frame is the packet in its tunnel; byte for byte, by scapy's account."""
    at = len(packet) - len(read_ip(packet))
    expected = encapsulated(packet, mode, read_spread(outcome.frame, at), **how)
    assert outcome.frame.hex(" ") == bytes(expected).hex(" ")


# --- the way there ---

PACKETS = {
    "data": {},
    "no-data": {"payload": b""},
    "odd": {"payload": b"x" * 7},
    "much-data": {"payload": bytes(range(256)) * 5},
    "far-client": {"client": network.FAR_CLIENT},
    "client-port-0": {"client_port": 0},
    "client-port-65535": {"client_port": 65_535},
    "ttl-2": {"ip": {"ttl": 2}},
    "ttl-255": {"ip": {"ttl": 255}},
    **{f"tos-{tos:02x}": {"ip": {"tos": tos}} for tos in (0x01, 0x02, 0x03, 0xB8, 0xFF)},
}
SEGMENTS = {"syn": "S", "ack": "A", "fin": "FA", "rst": "R", "syn-ecn": "SEC"}


@pytest.mark.parametrize("name", PACKETS)
def test_through_a_tunnel(balancer, tunnel, protocol, family, name):
    packet = for_mode(tunnel, protocol, family, **PACKETS[name])
    outcome = balancer.run(bytes(packet))
    assert outcome.verdict is Verdict.FORWARD_REDIRECT
    expect(outcome, packet, tunnel)


@pytest.mark.parametrize("name", PACKETS)
def test_by_mac_alone(balancer, protocol, family, name):
    packet = for_mode(Mode.L2DSR, protocol, family, **PACKETS[name])
    outcome = balancer.run(bytes(packet))
    assert outcome.verdict is Verdict.FORWARD_REDIRECT
    assert outcome.frame == bytes(passed_on(packet))


@pytest.mark.parametrize("name", SEGMENTS)
def test_segments(balancer, mode, family, name):
    packet = for_mode(mode, Protocol.TCP, family, flags=SEGMENTS[name])
    outcome = balancer.run(bytes(packet))
    assert outcome.verdict is Verdict.FORWARD_REDIRECT
    if mode is Mode.L2DSR:
        assert outcome.frame == bytes(passed_on(packet))
    else:
        expect(outcome, packet, mode)


def test_out_of_the_same_interface(balancer, mode, protocol, family):
    packet = for_mode(mode, protocol, family, services.ONE_ARM)
    outcome = balancer.run(bytes(packet))
    assert outcome.verdict is Verdict.FORWARD_TRANSMIT
    if mode is Mode.L2DSR:
        expected = passed_on(packet, network.FRONT, network.NEIGHBOUR)
        assert outcome.frame == bytes(expected)
    else:
        beside = {"backend": network.NEIGHBOUR, "interface": network.FRONT}
        expect(outcome, packet, mode, **beside)


def test_padding_stays_behind_the_packet(balancer, tunnel):
    packet = for_mode(tunnel, Protocol.UDP, 4, payload=b"")
    frame = bytes(packet).ljust(60, b"\x5a")
    outcome = balancer.run(frame)
    assert outcome.verdict is Verdict.FORWARD_REDIRECT
    assert outcome.frame[-18:] == frame[-18:]
    whole = bytes(encapsulated(packet, tunnel, read_spread(outcome.frame)))
    assert outcome.frame[:-18] == whole


def test_fragments_and_options_are_refused_too(balancer, mode, protocol):
    for ip, verdict in (
        ({"flags": "MF"}, Verdict.DROP_FRAGMENT),
        ({"frag": 8}, Verdict.DROP_FRAGMENT),
        ({"options": b"\1" * 4}, Verdict.DROP_IP_OPTIONS),
    ):
        frame = bytes(for_mode(mode, protocol, 4, ip=ip))
        outcome = balancer.run(frame)
        assert (outcome.verdict, outcome.frame) == (verdict, frame)


@pytest.mark.parametrize(
    ("vip", "verdict"),
    [
        (services.UNRESOLVED, Verdict.DROP_NO_NEXTHOP),
        (services.DULL, Verdict.DROP_NO_NEXTHOP),
        (services.BLACKHOLE, Verdict.DROP_NO_ROUTE),
        (services.PROHIBITED, Verdict.DROP_NO_ROUTE),
        (services.UNREACHABLE, Verdict.DROP_NO_ROUTE),
        (services.EMPTY, Verdict.DROP_NO_BACKEND),
    ],
)
def test_no_way(*, balancer, mode, protocol, family, vip, verdict):
    frame = bytes(for_mode(mode, protocol, family, vip))
    outcome = balancer.run(frame)
    assert (outcome.verdict, outcome.frame) == (verdict, frame)


def test_a_backend_on_this_machine(balancer, mode, protocol, family):
    frame = bytes(for_mode(mode, protocol, family, services.HERE))
    outcome = balancer.run(frame)
    here = mode is Mode.L2DSR  # it has the VIP; a tunnel to oneself leads nowhere
    assert outcome.verdict is (Verdict.FORWARD_LOCAL if here else Verdict.DROP_NO_NEXTHOP)
    assert outcome.frame == frame


def test_l2dsr_reaches_nobody_behind_a_router(balancer, protocol, family):
    frame = bytes(for_mode(Mode.L2DSR, protocol, family, services.NARROW))
    outcome = balancer.run(frame)
    assert (outcome.verdict, outcome.frame) == (Verdict.DROP_NO_NEXTHOP, frame)


def test_a_tunnel_does(balancer, tunnel, protocol, family):
    packet = for_mode(tunnel, protocol, family, services.NARROW)
    outcome = balancer.run(bytes(packet))
    assert outcome.verdict is Verdict.FORWARD_REDIRECT
    behind = {"backend": network.NARROW, "hop": network.NARROW_GATEWAY}
    expect(outcome, packet, tunnel, **behind)


@pytest.mark.parametrize("ttl", [0, 1])
def test_who_has_come_to_his_end(balancer, mode, protocol, family, ttl):
    packet = for_mode(mode, protocol, family, ip={"ttl": ttl})
    outcome = balancer.run(bytes(packet))
    if mode is Mode.L2DSR:  # nobody routed it
        assert outcome.verdict is Verdict.FORWARD_REDIRECT
        assert outcome.frame == bytes(passed_on(packet))
    else:
        assert (outcome.verdict, outcome.frame) == (Verdict.PASS_TTL, bytes(packet))


def test_devices_that_take_no_frames(balancer, mode, protocol, family):
    frame = bytes(for_mode(mode, protocol, family))
    with balancer.interface(network.BACK, transmits=True, redirects=False):
        outcome = balancer.run(frame)
    assert (outcome.verdict, outcome.frame) == (Verdict.DROP_NO_NEXTHOP, frame)


def test_replies_are_nobodys(balancer, mode, protocol, family):
    """These backends answer for themselves, by whatever way."""
    vip = services.in_mode(services.PLAIN, mode)
    port = services.BACKEND_PORT[services.PLAIN] + 1
    packet = to_service(protocol, network.CLIENT, client=vip, client_port=port)
    frame = bytes(in_family(packet, family))
    outcome = balancer.run(frame, network.BACK)
    assert (outcome.verdict, outcome.frame) == (Verdict.PASS_OTHER, frame)


# --- room ---


@pytest.mark.parametrize("missing", [0, 4])
def test_room_before_the_frame(balancer, tunnel, protocol, family, missing):
    """Metadata takes it: room for the outer header, or not quite."""
    packet = for_mode(tunnel, protocol, family)
    taken = XDP_HEADROOM - XDP_FRAME - overhead(tunnel, family) + missing
    outcome = balancer.run(bytes(packet), before=(POISON * 4)[:taken])
    if missing:
        assert outcome.verdict is Verdict.DROP_NO_ROOM
    else:
        assert outcome.verdict is Verdict.FORWARD_REDIRECT
        expect(outcome, packet, tunnel)


# --- the source ---


def test_the_source_is_an_address_of_the_file(balancer, tunnel, protocol, family):
    sources = {"source_ipv4": IPv4Network("10.99.0.1"), "source_ipv6": IPv6Network("fd00::1")}
    packet = for_mode(tunnel, protocol, family)
    with balancer.tunnel(**sources):
        outcome = balancer.run(bytes(packet))
    source = sources[f"source_ipv{tunnel.outer_family(family)}"].network_address
    expect(outcome, packet, tunnel, source=str(source))


def test_the_source_is_anywhere_in_a_network_of_the_file(balancer, tunnel, protocol, family):
    sources = {
        "source_ipv4": IPv4Network("10.96.0.0/12"),
        "source_ipv6": IPv6Network("fd00:1:2:3::/96"),
    }
    wanted = sources[f"source_ipv{tunnel.outer_family(family)}"]
    found = Counter()
    with balancer.tunnel(**sources), balancer.inside():
        for port in range(1000, 1050):
            packet = for_mode(tunnel, protocol, family, client_port=port)
            outcome = balancer.run(bytes(packet))
            at = 26 if wanted.version == 4 else 22
            size = 4 if wanted.version == 4 else 16
            source = ip_address(outcome.frame[at : at + size])
            assert source in wanted
            expect(outcome, packet, tunnel, source=str(source))
            assert balancer.run(bytes(packet)).frame == outcome.frame
            found[source] += 1
    assert len(found) == 50


def test_who_has_no_source_sends_nothing(balancer, tunnel, family):
    number = balancer.ifindexes[network.BACK]
    row = balancer.base.interfaces[number]
    with balancer.row("interfaces", number, row._replace(ipv4=None, ipv6=None)):
        outcome = balancer.run(bytes(for_mode(tunnel, Protocol.TCP, family)))
    assert outcome.verdict is Verdict.DROP_NO_NEXTHOP


# --- the flow's hash ---


def test_a_flow_keeps_its_place_and_flows_spread(balancer, tunnel, protocol, family):
    found = set()
    with balancer.inside():
        for port in range(2000, 2100):
            spreads = {
                read_spread(balancer.run(bytes(packet)).frame)
                for packet in (
                    for_mode(tunnel, protocol, family, client_port=port, payload=payload)
                    for payload in (b"", b"one", b"two")
                )
            }
            assert len(spreads) == 1
            found |= spreads
    labels, ports = zip(*found, strict=True)
    is_ipv6, is_gue = tunnel.outer_family(family) == 6, tunnel in (Mode.GUE, Mode.GUE_MIXED)
    assert len(found) > 95 or not (is_ipv6 or is_gue)
    for present, numbers, allowed in (
        (is_ipv6, labels, range(2**20)),
        (is_gue, ports, range(0xC000, 0x1_0000)),
    ):
        if present:
            assert set(numbers) <= set(allowed)
            # Both halves of the range, so that no bit stands still.
            middle = (allowed.start + allowed.stop) // 2
            assert 20 < sum(number < middle for number in numbers) < 80
        else:
            assert set(numbers) == {None}


# --- gue ---


def test_another_port(balancer, gue, protocol, family):
    packet = for_mode(gue, protocol, family)
    with balancer.tunnel(gue_port=5555):
        outcome = balancer.run(bytes(packet))
    expect(outcome, packet, gue, gue_port=5555)


def test_without_checksum(balancer, gue, protocol, family):
    packet = for_mode(gue, protocol, family)
    with balancer.tunnel(gue_checksum=False):
        outcome = balancer.run(bytes(packet))
    expect(outcome, packet, gue, has_checksum=False)


def test_what_has_no_checksum_gets_none(balancer, gue):
    packet = for_mode(gue, Protocol.UDP, 4, chksum=0)
    expect(balancer.run(bytes(packet)), packet, gue, has_checksum=False)


@pytest.mark.parametrize("length", [8, 12, 20])
def test_a_datagram_shorter_than_its_packet(balancer, gue, family, length):
    """Its checksum says nothing of what lies behind it."""
    packet = for_mode(gue, Protocol.UDP, family)
    packet[UDP].len = length
    ip = packet[UDP].underlayer
    covered = ip.copy()
    covered.remove_payload()
    covered /= Raw(bytes(packet[UDP])[:length])
    part = covered / b""
    packet[UDP].chksum = checksum_of(part, length)
    outcome = balancer.run(bytes(packet))
    assert outcome.verdict is Verdict.FORWARD_REDIRECT
    at = len(Ether()) + overhead(gue, family) - 2
    has_checksum = outcome.frame[at : at + 2] != b"\0\0"
    expect(outcome, packet, gue, has_checksum=has_checksum)


def checksum_of(ip, length):
    """The checksum of the datagram that is the first `length` bytes behind an IP header."""
    data = bytearray(bytes(ip.payload)[:length])
    ends = {"src": ip.src, "dst": ip.dst}
    datagram = UDP(bytes(data))
    datagram.chksum = None
    header = IP(**ends) if isinstance(ip, IP) else IPv6(**ends)
    return type(ip)(bytes(header / datagram))[UDP].chksum


def test_every_inner_checksum(balancer, gue, protocol, family):
    """A carry that is lost shows for few values: two bytes of data take them all, in steps."""
    with balancer.inside():
        for number in range(0, 65_536, 1021):
            fields = {"payload": number.to_bytes(2, "big"), "client_port": number}
            packet = for_mode(gue, protocol, family, ip={"ttl": 2 + number % 254}, **fields)
            expect(balancer.run(bytes(packet)), packet, gue)


def test_a_wrong_inner_checksum_is_not_made_right(balancer, gue, protocol, family):
    right = for_mode(gue, protocol, family)
    expected = encapsulated(right, gue, read_spread(balancer.run(bytes(right)).frame))
    wrong = right.copy()
    l4 = wrong.getlayer(TCP) or wrong[UDP]
    l4.chksum = 0x1234
    outcome = balancer.run(bytes(wrong))
    at = len(Ether()) + overhead(gue, family) - 2
    assert outcome.frame[at : at + 2] == bytes(expected)[at : at + 2]
    assert b"\x12\x34" in outcome.frame[at + 2 :]


# --- IPv6 extension headers inside ---

EXTENSIONS = {
    "hop-by-hop": IPv6ExtHdrHopByHop(),
    "all": IPv6ExtHdrHopByHop()
    / IPv6ExtHdrDestOpt()
    / IPv6ExtHdrRouting(segleft=0, addresses=[])
    / IPv6ExtHdrDestOpt(),
    "atomic": IPv6ExtHdrFragment(),
}


@pytest.mark.parametrize("name", EXTENSIONS)
def test_extension_headers_go_along(balancer, mode, protocol, name):
    ip = for_mode(mode, protocol, 6)[IPv6]
    header = IPv6(src=ip.src, dst=ip.dst, hlim=9)
    ports = make_l4(protocol, 40_000, services.VIP_PORT)
    link = Ether(**TO_BALANCER[network.FRONT])
    packet = link / header / EXTENSIONS[name] / ports / Raw(PAYLOAD)
    outcome = balancer.run(bytes(packet))
    assert outcome.verdict is Verdict.FORWARD_REDIRECT
    if mode is Mode.L2DSR:
        assert outcome.frame == bytes(passed_on(packet))
    else:
        expect(outcome, packet, mode, has_checksum=False)


# --- too big ---


def of_size(mode, protocol, family, size):
    """A packet for the narrow backend, `size` bytes from the IP header on."""
    empty = len(read_ip(for_mode(mode, protocol, family, services.NARROW, payload=b"")))
    return for_mode(mode, protocol, family, services.NARROW, payload=b"x" * (size - empty))


def too_big(packet, mtu):
    """What the client is told: network header and 8 bytes quoted, in the VIP's name."""
    ip = read_ip(packet)
    ends = {"src": ip.dst, "dst": ip.src}
    link = Ether(src=packet[Ether].dst, dst=packet[Ether].src)
    if isinstance(ip, IP):
        message = IP(**ends, id=0, ttl=64) / ICMP(type=3, code=4, nexthopmtu=mtu)
        return link / message / Raw(bytes(ip)[:28])
    message = IPv6(**ends, hlim=64) / ICMPv6PacketTooBig(mtu=mtu)
    return link / message / Raw(bytes(ip)[:48])


def test_the_largest_that_fits(balancer, tunnel, protocol, family):
    mtu = network.NARROW_MTU - overhead(tunnel, family)
    packet = of_size(tunnel, protocol, family, mtu)
    outcome = balancer.run(bytes(packet))
    assert outcome.verdict is Verdict.FORWARD_REDIRECT
    behind = {"backend": network.NARROW, "hop": network.NARROW_GATEWAY}
    expect(outcome, packet, tunnel, **behind)


@pytest.mark.parametrize("more", [1, 100, 200])
def test_who_is_too_big_is_told(balancer, tunnel, protocol, family, more):
    mtu = network.NARROW_MTU - overhead(tunnel, family)
    packet = of_size(tunnel, protocol, family, mtu + more)
    outcome = balancer.run(bytes(packet))
    assert outcome.verdict is Verdict.TOO_BIG_TRANSMIT
    assert outcome.frame.hex(" ") == bytes(too_big(packet, mtu)).hex(" ")
    with balancer.interface(network.FRONT, transmits=False, redirects=True):
        again = balancer.run(bytes(packet))
    assert (again.verdict, again.frame) == (Verdict.TOO_BIG_REDIRECT, outcome.frame)


def test_who_cannot_be_told_is_dropped(balancer, tunnel, protocol, family):
    packet = of_size(tunnel, protocol, family, network.NARROW_MTU)
    with balancer.interface(network.FRONT, transmits=False, redirects=False):
        outcome = balancer.run(bytes(packet))
    assert outcome.verdict is Verdict.DROP_NO_NEXTHOP


@pytest.mark.parametrize("mode", [Mode.NAT, Mode.L2DSR])
def test_without_an_outer_header_the_whole_mtu_is_there(balancer, mode, protocol, family):
    """What may not be split is told of; the stack would quote what its sender never sent."""
    packet = for_mode(mode, protocol, family)
    room = 1500 - len(read_ip(packet)) + len(PAYLOAD)
    fits = for_mode(mode, protocol, family, payload=b"x" * room)
    assert balancer.run(bytes(fits)).verdict is Verdict.FORWARD_REDIRECT
    larger = unsplittable(for_mode(mode, protocol, family, payload=b"x" * (room + 1)))
    outcome = balancer.run(bytes(larger))
    assert outcome.verdict is Verdict.TOO_BIG_TRANSMIT
    assert outcome.frame.hex(" ") == bytes(too_big(larger, 1500)).hex(" ")


def test_a_backend_is_told_that_its_reply_is_too_big(balancer, protocol, family):
    reply = from_backend(protocol, payload=b"x" * 1501)
    reply = unsplittable(in_family(reply, family))
    outcome = balancer.run(bytes(reply), network.BACK)
    assert outcome.verdict is Verdict.TOO_BIG_TRANSMIT
    assert outcome.frame.hex(" ") == bytes(too_big(reply, 1500)).hex(" ")


def unsplittable(packet):
    """The packet with IPv4's "don't fragment"; IPv6 never is split on the way."""
    if IP in packet:
        packet[IP].flags = "DF"
        packet[IP].chksum = None
    return packet
