"""ICMP and ICMPv6: echo requests to a VIP, and errors about packets of a service."""

from __future__ import annotations

import dataclasses

import pytest
from scapy.layers.inet import ICMP, IP, IPOption_RR
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import checksum

from reconciler.abi import Verdict
from reconciler.model import Protocol

from . import network, services
from .packets import (
    CLIENT_PORT,
    PAYLOAD,
    TO_BALANCER,
    in_family,
    lower,
    make_l4,
    passed_on,
    read_ip,
    to_service,
)
from .services import TUNNELS, Mode
from .test_tunnels import expect, overhead

pytestmark = pytest.mark.root

ROUTER = network.FAR_CLIENT  # somebody on the way, neither client nor backend
VIP_PORT, BACKEND_PORT = services.VIP_PORT, services.BACKEND_PORT[services.PLAIN]


def header(family, src, dst, ttl=64):
    ends = {"src": str(network.locate(src, family)), "dst": str(network.locate(dst, family))}
    return IP(**ends, ttl=ttl) if family == 4 else IPv6(**ends, hlim=ttl)


def at(interface, packet):
    return Ether(**TO_BALANCER[interface]) / packet


# --- echo ---

ALL_VIPS = [services.in_mode(services.PLAIN, mode) for mode in Mode]


def ask(family, vip=services.PLAIN, data=b"ping", ttl=9, client=network.CLIENT):
    message = ICMP(id=7, seq=8) if family == 4 else ICMPv6EchoRequest(id=7, seq=8)
    return at(network.FRONT, header(family, client, vip, ttl) / message / Raw(data))


def answer(packet):
    """The answer as scapy would give it."""
    out = packet.copy()
    link, ip = out[Ether], read_ip(out)
    link.src, link.dst = packet[Ether].dst, packet[Ether].src
    ip.src, ip.dst = ip.dst, ip.src
    if isinstance(ip, IP):
        ip.ttl, out[ICMP].type = 64, 0
        return out
    ip.hlim = 64
    request = out[ICMPv6EchoRequest]
    reply = ICMPv6EchoReply(id=request.id, seq=request.seq, data=request.data)
    rest = request.payload.copy()
    ip.remove_payload()
    return out / reply / rest


@pytest.mark.parametrize("vip", ALL_VIPS)
@pytest.mark.parametrize("data", [b"", b"ping", b"odd", bytes(1400)], ids=len)
def test_echo(balancer, family, vip, data):
    packet = ask(family, vip, data)
    outcome = balancer.run(bytes(packet))
    assert outcome.verdict is Verdict.ECHO_TRANSMIT
    assert outcome.frame.hex(" ") == bytes(answer(packet)).hex(" ")


@pytest.mark.parametrize("ttl", [0, 1, 255])
def test_echo_is_for_us_whatever_its_ttl(balancer, family, ttl):
    packet = ask(family, ttl=ttl)
    outcome = balancer.run(bytes(packet))
    assert outcome.verdict is Verdict.ECHO_TRANSMIT
    assert outcome.frame == bytes(answer(packet))


def test_echo_where_one_service_of_one_protocol_is(balancer, family):
    packet = ask(family, services.TCP_ONLY)
    assert balancer.run(bytes(packet)).frame == bytes(answer(packet))


def test_echo_by_devices_that_can_do_less(balancer, family):
    packet = ask(family)
    with balancer.interface(network.FRONT, transmits=False, redirects=True):
        outcome = balancer.run(bytes(packet))
    assert (outcome.verdict, outcome.frame) == (Verdict.ECHO_REDIRECT, bytes(answer(packet)))
    with balancer.interface(network.FRONT, transmits=False, redirects=False):
        outcome = balancer.run(bytes(packet))
    assert (outcome.verdict, outcome.frame) == (Verdict.PASS_OTHER, bytes(packet))


def test_echo_that_the_file_leaves_to_the_stack(balancer, family):
    settings = balancer.base.settings[0]
    frame = bytes(ask(family))
    with balancer.row("settings", 0, settings._replace(answers_echo=False)):
        outcome = balancer.run(frame)
    assert (outcome.verdict, outcome.frame) == (Verdict.PASS_OTHER, frame)


@pytest.mark.parametrize("step", [1, 97], ids=["ipv4", "ipv6"])
def test_every_checksum_that_an_echo_can_have(balancer, step):
    """A carry that is lost shows for one of the 65,536 old values."""
    family = 4 if step == 1 else 6
    frame = bytearray(bytes(ask(family, data=b"\0\0")))
    start = len(Ether()) + (20 if family == 4 else 40)
    pseudo = b"" if family == 4 else frame[22:54] + bytes([0, 0, 0, 10, 0, 0, 0, 58])
    with balancer.inside():
        for number in range(0, 65_536, step):
            frame[-2:] = number.to_bytes(2, "big")
            frame[start + 2 : start + 4] = b"\0\0"
            value = checksum(bytes(pseudo + frame[start:]))
            frame[start + 2 : start + 4] = value.to_bytes(2, "big")
            _, out = balancer.run_uncounted(bytes(frame))
            assert out[start] == (0 if family == 4 else 129)
            assert checksum(bytes(pseudo + out[start:])) == 0, number
            assert out[start + 4 :] == frame[start + 4 :]


def list_other_echoes(family):
    cases = {
        "elsewhere": ask(family, "203.0.113.9"),
        "to-us": ask(family, network.OWN_FRONT),
        "to-a-backend": ask(family, services.PLAIN_BACKEND),
        "reply": answer(ask(family, client=services.PLAIN, vip=network.CLIENT)),
        "cut": Ether(bytes(ask(family))[:-5]),
    }
    if family == 4:
        cases |= {
            "options": at(
                network.FRONT,
                IP(src=network.CLIENT, dst=services.PLAIN, options=[IPOption_RR()]) / ICMP(),
            ),
            "first-fragment": at(
                network.FRONT, IP(src=network.CLIENT, dst=services.PLAIN, flags="MF") / ICMP()
            ),
            "later-fragment": at(
                network.FRONT, IP(src=network.CLIENT, dst=services.PLAIN, frag=4) / ICMP()
            ),
        }
        wrong = bytearray(bytes(ask(6)))  # what the type says counts, not the version
        wrong[12:14] = b"\x08\x00"
        cases["ipv6-as-ipv4"] = Raw(bytes(wrong))
    else:
        ours = header(6, network.CLIENT, services.PLAIN)
        cases |= {
            "hop-by-hop": at(network.FRONT, ours / IPv6ExtHdrHopByHop() / ICMPv6EchoRequest()),
            "first-fragment": at(
                network.FRONT, ours / IPv6ExtHdrFragment(m=1) / ICMPv6EchoRequest()
            ),
            "later-fragment": at(
                network.FRONT, ours / IPv6ExtHdrFragment(offset=4) / Raw(bytes(16))
            ),
        }
    return cases


@pytest.mark.parametrize(
    ("family", "name"),
    [(family, name) for family in network.FAMILIES for name in list_other_echoes(family)],
)
def test_echoes_that_are_left_alone(balancer, family, name):
    frame = bytes(list_other_echoes(family)[name])
    outcome = balancer.run(frame)
    assert (outcome.verdict, outcome.frame) == (Verdict.PASS_OTHER, frame)


def test_echo_from_who_can_not_be(balancer, family):
    frame = bytes(ask(family, client=services.PLAIN))
    outcome = balancer.run(frame)
    assert (outcome.verdict, outcome.frame) == (Verdict.DROP_BAD_SOURCE, frame)


# --- errors ---

ERRORS = {
    4: {
        "unreachable": ICMP(type=3, code=1),
        "port-unreachable": ICMP(type=3, code=3),
        "too-big": ICMP(type=3, code=4, nexthopmtu=1280),
        "time-exceeded": ICMP(type=11, code=0),
        "parameter-problem": ICMP(type=12, ptr=8),
    },
    6: {
        "unreachable": ICMPv6DestUnreach(code=3),
        "port-unreachable": ICMPv6DestUnreach(code=4),
        "too-big": ICMPv6PacketTooBig(mtu=1280),
        "time-exceeded": ICMPv6TimeExceeded(code=0),
        "parameter-problem": ICMPv6ParamProblem(ptr=8),
    },
}
QUOTES = (8, 12, 16, 18, 20, None)  # bytes behind the quoted IP header; None: all


@dataclasses.dataclass(frozen=True)
class Flow:
    """What a quoted packet says of its ends."""

    src: str
    sport: int
    dst: str
    dport: int


def quote(family, protocol, flow, size):
    """The beginning of a packet of a flow."""
    l4 = make_l4(protocol, flow.sport, flow.dport) / Raw(PAYLOAD)
    whole = bytes(header(family, flow.src, flow.dst, 3) / l4)
    return whole if size is None else whole[: (20 if family == 4 else 40) + size]


def error(family, protocol, flow, *, name="unreachable", size=None, sender=ROUTER, to=None, ttl=60):
    """An error about a packet of a flow, to the one who sent it."""
    message = ERRORS[family][name].copy()
    ip = header(family, sender, to or flow.src, ttl)
    return ip / message / Raw(quote(family, protocol, flow, size))


# What the client gets from the VIP, and what the backend sent.
OUTWARD = Flow(services.PLAIN, VIP_PORT, network.CLIENT, CLIENT_PORT)
OUTWARD_INSIDE = dataclasses.replace(OUTWARD, src=services.PLAIN_BACKEND, sport=BACKEND_PORT)
# What the backend gets, and what the client sent.
INWARD_INSIDE = Flow(network.CLIENT, CLIENT_PORT, services.PLAIN_BACKEND, BACKEND_PORT)
INWARD = dataclasses.replace(INWARD_INSIDE, dst=services.PLAIN, dport=VIP_PORT)


def of_mode(flow, mode):
    return dataclasses.replace(flow, src=services.in_mode(flow.src, mode))


@pytest.mark.parametrize("size", QUOTES)
@pytest.mark.parametrize("name", ERRORS[4])
def test_to_a_nat_backend(*, balancer, protocol, family, name, size):
    """The flow that the backend knows is its own: outside and in the quote."""
    how = {"name": name, "size": size}
    before = at(network.FRONT, error(family, protocol, OUTWARD, **how))
    after = at(network.FRONT, error(family, protocol, OUTWARD_INSIDE, **how))
    outcome = balancer.run(bytes(before))
    assert outcome.verdict is Verdict.FORWARD_REDIRECT
    assert outcome.frame.hex(" ") == bytes(lower(passed_on(after))).hex(" ")


@pytest.mark.parametrize("sender", [services.PLAIN_BACKEND, ROUTER], ids=["backend", "router"])
@pytest.mark.parametrize("size", QUOTES)
@pytest.mark.parametrize("name", ERRORS[4])
def test_from_behind_nat(*, balancer, protocol, family, name, size, sender):
    """The client knows the VIP; a router keeps its own name."""
    seen = services.PLAIN if sender == services.PLAIN_BACKEND else sender
    how = {"name": name, "size": size}
    before = at(network.BACK, error(family, protocol, INWARD_INSIDE, sender=sender, **how))
    after = at(network.BACK, error(family, protocol, INWARD, sender=seen, **how))
    outcome = balancer.run(bytes(before), network.BACK)
    assert outcome.verdict is Verdict.REPLY_REDIRECT
    expected = lower(passed_on(after, network.FRONT, network.CLIENT))
    assert outcome.frame.hex(" ") == bytes(expected).hex(" ")


@pytest.mark.parametrize("vip", [services.SHARED, services.SHARED_TOO])
def test_from_a_shared_backend(balancer, protocol, family, vip):
    """The VIP that the flow came by, if it is remembered."""
    balancer.run(bytes(in_family(to_service(protocol, vip), family)))
    backend, port = services.SHARED_BACKEND, services.BACKEND_PORT[vip]
    inside = dataclasses.replace(INWARD_INSIDE, dst=backend, dport=port)
    outside = dataclasses.replace(INWARD, dst=vip)
    before = at(network.BACK, error(family, protocol, inside, sender=backend))
    after = at(network.BACK, error(family, protocol, outside, sender=vip))
    outcome = balancer.run(bytes(before), network.BACK)
    assert outcome.verdict is Verdict.REPLY_REDIRECT
    expected = lower(passed_on(after, network.FRONT, network.CLIENT))
    assert outcome.frame == bytes(expected)


def test_from_a_backend_about_a_direct_flow(balancer, protocol, family):
    direct = to_service(protocol, services.PLAIN_BACKEND, port=BACKEND_PORT)
    balancer.run(bytes(in_family(direct, family)))
    about = error(family, protocol, INWARD_INSIDE, sender=services.PLAIN_BACKEND)
    frame = bytes(at(network.BACK, about))
    outcome = balancer.run(frame, network.BACK)
    assert (outcome.verdict, outcome.frame) == (Verdict.PASS_DIRECT, frame)


def test_half_a_checksum_stays(balancer, family):
    about = error(family, Protocol.TCP, OUTWARD, size=17)
    outcome = balancer.run(bytes(at(network.FRONT, about)))
    assert outcome.frame[-1:] == bytes(about)[-1:]
    again = Ether(outcome.frame)
    message = read_ip(again).payload
    setattr(message, "chksum" if family == 4 else "cksum", None)
    assert bytes(again) == outcome.frame


@pytest.mark.parametrize("size", [8, None])
@pytest.mark.parametrize("mode", [Mode.L2DSR, *TUNNELS], ids=lambda mode: mode.name.lower())
@pytest.mark.parametrize("name", ERRORS[4])
def test_to_a_backend_of_another_mode(*, balancer, protocol, family, mode, name, size):
    """It has the VIP, so it gets the error as it is."""
    about = error(family, protocol, of_mode(OUTWARD, mode), name=name, size=size)
    packet = at(network.FRONT, about)
    outcome = balancer.run(bytes(packet))
    assert outcome.verdict is Verdict.FORWARD_REDIRECT
    if mode is Mode.L2DSR:
        assert outcome.frame == bytes(passed_on(packet))
    else:
        expect(outcome, packet, mode, has_checksum=False)


def test_errors_find_the_backend_of_their_flow(balancer, protocol, family):
    """By the client's port that they quote, not by who sends them."""
    balancer.family = family
    names = balancer.backend_names
    found = set()
    for port in range(1000, 1040):
        packet = to_service(protocol, services.TRIO, client_port=port)
        backend = balancer.send(packet).destination
        flow = dataclasses.replace(OUTWARD, src=services.TRIO, dport=port)
        outcome = balancer.run(bytes(at(network.FRONT, error(family, protocol, flow))))
        assert outcome.destination[0] == backend[0]
        found.add(names[backend, protocol])
    assert len(found) == len(services.TRIO_BACKENDS)


def remembered(balancer):
    return {name: balancer.read_flows(name)[0].tobytes() for name in ("flows", "pending")}


def test_an_error_about_an_unknown_flow_remembers_nothing(balancer, protocol, family):
    balancer.family = family
    trio = services.name_service(services.TRIO, protocol)
    suffix = protocol.name.lower()
    balancer.set_slots(trio, f"b-{suffix}", previous=f"a-{suffix}")
    flow = dataclasses.replace(OUTWARD, src=services.TRIO)
    before = remembered(balancer)
    outcome = balancer.run(bytes(at(network.FRONT, error(family, protocol, flow))))
    assert outcome.verdict is Verdict.FORWARD_REDIRECT
    assert outcome.destination[0] == balancer.locate(services.TRIO_BACKENDS["a"])
    assert remembered(balancer) == before == {"flows": b"", "pending": b""}


@pytest.mark.parametrize(("flags", "backend"), [("A", "a"), ("S", "b")])
def test_an_error_about_a_flow_on_a_moved_slot(balancer, family, flags, backend):
    """To the old backend if the flow is older than the move, to the new one if it began after."""
    balancer.family = family
    trio = services.name_service(services.TRIO, Protocol.TCP)
    balancer.set_slots(trio, "b-tcp", previous="a-tcp")
    balancer.send(to_service(Protocol.TCP, services.TRIO, flags=flags))
    flow = dataclasses.replace(OUTWARD, src=services.TRIO)
    frame = bytes(at(network.FRONT, error(family, Protocol.TCP, flow)))
    before = remembered(balancer)
    for _ in range(2):
        outcome = balancer.run(frame)
        assert outcome.destination[0] == balancer.locate(services.TRIO_BACKENDS[backend])
    assert remembered(balancer) == before


def test_direct_and_shared_flows_are_not_remembered_either(balancer, protocol, family):
    for flow, interface in ((OUTWARD, network.FRONT), (INWARD_INSIDE, network.BACK)):
        shared = {
            "src": services.SHARED if flow is OUTWARD else flow.src,
            "dst": services.SHARED_BACKEND if flow is INWARD_INSIDE else flow.dst,
            "dport": 8090 if flow is INWARD_INSIDE else flow.dport,
        }
        about = error(family, protocol, dataclasses.replace(flow, **shared))
        outcome = balancer.run(bytes(at(interface, about)), interface)
        assert outcome.verdict in (Verdict.FORWARD_REDIRECT, Verdict.REPLY_REDIRECT)
    assert remembered(balancer) == {"flows": b"", "pending": b""}


# --- errors that are not ours, or go nowhere ---


def list_other_errors(family):
    p = Protocol.TCP
    elsewhere = dataclasses.replace(OUTWARD, src="203.0.113.9")
    cases = {
        "quotes-a-stranger": error(family, p, elsewhere),
        "quotes-a-stranger-to-a-vip": error(family, p, elsewhere, to=services.PLAIN),
        "quotes-another-port": error(family, p, dataclasses.replace(OUTWARD, sport=81)),
        "quotes-a-vip-to-a-stranger": error(family, p, OUTWARD, to="203.0.113.9"),
        "quotes-a-backend-to-a-stranger": error(family, p, INWARD_INSIDE, to="203.0.113.9"),
        "quotes-a-backends-other-port": error(
            family, p, dataclasses.replace(INWARD_INSIDE, dport=22)
        ),
        "quotes-another-protocol": error(
            family, Protocol.UDP, dataclasses.replace(OUTWARD, src=services.TCP_ONLY)
        ),
        "about-a-direct-flow": error(family, p, OUTWARD_INSIDE),
        "quotes-too-little": error(family, p, OUTWARD, size=7),
        "quotes-nothing": header(family, ROUTER, services.PLAIN) / ERRORS[family]["unreachable"],
    }
    ours = header(family, ROUTER, services.PLAIN)
    quoted = header(family, services.PLAIN, network.CLIENT)
    message = ERRORS[family]["unreachable"].copy()
    if family == 4:
        later, options = quoted.copy(), quoted.copy()
        later.frag, options.options = 8, [IPOption_RR()]
        ports = make_l4(p, VIP_PORT, CLIENT_PORT)
        cases |= {
            "quotes-a-later-fragment": ours / message / later / ports,
            "quotes-options": ours / message / options / ports,
            "quotes-gre": ours / message / Raw(bytes(IP(src=quoted.src, proto=47) / ports)),
            "redirect": ours / ICMP(type=5, code=1) / quoted / ports,
            "source-quench": ours / ICMP(type=4) / quoted / ports,
            "timestamp": ours / ICMP(type=13) / quoted / ports,
        }
    else:
        first = IPv6ExtHdrFragment(m=1) / make_l4(p, VIP_PORT, CLIENT_PORT)
        cases["quotes-a-fragment"] = ours / message / Raw(bytes(quoted / first))
    return cases


@pytest.mark.parametrize(
    ("family", "name"),
    [(family, name) for family in network.FAMILIES for name in list_other_errors(family)],
)
def test_errors_that_are_left_alone(balancer, family, name):
    frame = bytes(at(network.FRONT, list_other_errors(family)[name]))
    outcome = balancer.run(frame)
    assert (outcome.verdict, outcome.frame) == (Verdict.PASS_OTHER, frame)


@pytest.mark.parametrize(
    ("vip", "verdict"),
    [
        (services.EMPTY, Verdict.DROP_NO_BACKEND),
        (services.BLACKHOLE, Verdict.DROP_NO_ROUTE),
        (services.UNRESOLVED, Verdict.FORWARD_STACK),
    ],
)
def test_errors_with_nowhere_to_go(balancer, protocol, family, vip, verdict):
    flow = dataclasses.replace(OUTWARD, src=vip)
    outcome = balancer.run(bytes(at(network.FRONT, error(family, protocol, flow))))
    assert outcome.verdict is verdict


def test_an_error_at_its_end(balancer, protocol, family):
    for flow, interface in ((OUTWARD, network.FRONT), (INWARD_INSIDE, network.BACK)):
        frame = bytes(at(interface, error(family, protocol, flow, ttl=1)))
        outcome = balancer.run(frame, interface)
        assert (outcome.verdict, outcome.frame) == (Verdict.PASS_TTL, frame)


@pytest.mark.parametrize("size", [8, 12])
def test_what_lies_behind_a_message_is_none_of_it(balancer, protocol, family, size):
    """A frame may be padded; a checksum that was not quoted is not there to be mended."""
    padding = b"\x5a" * 20
    for flow, translated, interface, hop in (
        (OUTWARD, OUTWARD_INSIDE, network.FRONT, (network.BACK, services.PLAIN_BACKEND)),
        (INWARD_INSIDE, INWARD, network.BACK, (network.FRONT, network.CLIENT)),
    ):
        frame = bytes(at(interface, error(family, protocol, flow, size=size)))
        after = passed_on(at(interface, error(family, protocol, translated, size=size)), *hop)
        outcome = balancer.run(frame + padding, interface)
        assert outcome.frame.hex(" ") == (bytes(lower(after)) + padding).hex(" ")


def test_a_quote_in_the_padding_is_none(balancer, protocol, family):
    packet = error(family, protocol, OUTWARD, size=7)
    frame = bytes(at(network.FRONT, packet)) + bytes(20)
    outcome = balancer.run(frame)
    assert (outcome.verdict, outcome.frame) == (Verdict.PASS_OTHER, frame)


@pytest.mark.parametrize("mode", TUNNELS, ids=lambda mode: mode.name.lower())
def test_nobody_is_told_that_an_error_is_too_big(balancer, protocol, family, mode):
    """RFC 1122, 3.2.2; RFC 4443, 2.4: no error about an error."""
    flow = dataclasses.replace(OUTWARD, src=services.in_mode(services.NARROW, mode))
    packet = error(family, protocol, flow)
    size = network.NARROW_MTU - overhead(mode, family)
    fits = at(network.FRONT, packet / Raw(bytes(size - len(packet))))
    assert balancer.run(bytes(fits)).verdict is Verdict.FORWARD_REDIRECT
    larger = at(network.FRONT, packet / Raw(bytes(size - len(packet) + 1)))
    assert balancer.run(bytes(larger)).verdict is Verdict.DROP_NO_NEXTHOP


@pytest.mark.parametrize("name", ["unreachable", "too-big"])
def test_an_error_cut_anywhere(balancer, protocol, family, name):
    frame = bytes(at(network.FRONT, error(family, protocol, OUTWARD, name=name)))
    for length in range(14, len(frame)):
        outcome = balancer.run(frame[:length])
        assert (outcome.verdict, outcome.frame) == (Verdict.PASS_OTHER, frame[:length])
