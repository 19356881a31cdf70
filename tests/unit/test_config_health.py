from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from reconciler.config import codes, parse
from reconciler.model import Health, HealthType, Safety, digest_meaning

SHORT = "interface: eth0\nport: 8080\nbackends: [10.0.0.11]\n"
UDP = SHORT + "protocol: udp\n"


def read(text):
    parsed = parse(text.encode(), "lb.yaml")
    assert parsed.config, [d.message for d in parsed.diagnostics]
    return parsed.config


def read_health(text):
    (service,) = read(text).services
    return service.health


def find(text):
    return [
        (d.code, d.source.line, d.source.column)
        for d in parse(text.encode(), "lb.yaml").diagnostics
    ]


def find_one(text):
    (found,) = parse(text.encode(), "lb.yaml").diagnostics
    return found


# What a file means.


def test_a_tcp_service_is_checked_unless_it_says_otherwise():
    assert read_health(SHORT) == Health(HealthType.TCP, 2.0, 1.0, 2, 3)
    assert read_health(SHORT + "health: {type: none}\n") is None


def test_a_udp_service_is_checked_only_if_it_says_how():
    assert read_health(UDP) is None
    assert read_health(UDP + "health: {type: udp, send: PING}\n").type is HealthType.UDP


def test_every_field_of_http():
    health = read_health(
        SHORT + "health: {type: https, interval: 5s, timeout: 500ms, rise: 1, fall: 5, port: 9000, "
        "method: GET, path: '/healthz?deep=1', host: www.example.com, status: [204, 300-308], "
        "body: ready, tls_name: www.example.com, tls_verify: true, ca_file: /etc/ca.pem}\n"
    )
    assert health == Health(
        type=HealthType.HTTPS,
        interval_s=5.0,
        timeout_s=0.5,
        rise=1,
        fall=5,
        port=9000,
        method="GET",
        path="/healthz?deep=1",
        host="www.example.com",
        status=((204, 204), (300, 308)),
        body="ready",
        tls_name="www.example.com",
        tls_verify=True,
        ca_file="/etc/ca.pem",
    )


def test_every_field_of_udp_and_dns():
    udp = read_health(UDP + "health: {type: udp, send: '\\x00a\\r\\n\\t\\\\', expect: 'é\\xff'}\n")
    assert (udp.send, udp.expect) == (b"\x00a\r\n\t\\", b"\xc3\xa9\xff")
    dns = read_health(
        UDP + "health: {type: dns, query: ., query_type: NS, rcode: [NOERROR, NXDOMAIN]}\n"
    )
    assert (dns.query, dns.query_type, dns.rcodes) == (".", "NS", ("NOERROR", "NXDOMAIN"))


@pytest.mark.parametrize(
    ("status", "ranges"),
    [("204", ((204, 204),)), ("200-299", ((200, 299),)), ("['404']", ((404, 404),))],
)
def test_status_is_a_number_a_range_or_a_list(status, ranges):
    assert read_health(f"{SHORT}health: {{type: http, status: {status}}}\n").status == ranges


def test_a_service_names_only_what_differs_from_the_defaults():
    defaults = "defaults: {health: {type: http, path: /up, port: 9000, interval: 10s, fall: 5}}\n"
    health = read_health(SHORT + defaults + "health: {path: /live}\n")
    assert health == Health(HealthType.HTTP, interval_s=10.0, fall=5, port=9000, path="/live")
    assert read_health(SHORT + defaults + "health: {type: https}\n").path == "/up"


def test_another_type_takes_nothing_of_the_default_type_along():
    defaults = "defaults: {health: {type: http, path: /up, interval: 10s}}\n"
    health = read_health(SHORT + defaults + "health: {type: tcp}\n")
    assert health == Health(HealthType.TCP, interval_s=10.0)


@pytest.mark.parametrize(
    ("default", "tcp", "udp"),
    [
        ("{}", "tcp", None),
        ("{type: tcp}", "tcp", None),
        ("{type: http, path: /up}", "http", None),
        ("{type: udp, send: PING}", "tcp", "udp"),
        ("{type: dns, query: example.com}", "dns", "dns"),
        ("{type: none}", None, None),
    ],
)
def test_a_default_type_is_for_services_whose_protocol_it_can_ask(default, tcp, udp):
    for protocol, expected in (("tcp", tcp), ("udp", udp)):
        health = read_health(f"{SHORT}protocol: {protocol}\ndefaults: {{health: {default}}}\n")
        assert (health and health.type.value) == expected


def test_a_udp_service_may_be_asked_over_tcp_if_it_says_so_itself():
    assert read_health(UDP + "health: {type: http, port: 80}\n").type is HealthType.HTTP


def test_a_short_interval_shortens_the_usual_timeout():
    assert read_health(SHORT + "health: {interval: 500ms}\n").timeout_s == 0.5


def test_a_backend_may_be_checked_elsewhere():
    text = (
        "interface: eth0\nport: 80\nbackends:\n"
        "  - {address: 10.0.0.11, health: {address: '2001:db8::11', port: 9000}}\n"
        "  - 10.0.0.12\n"
    )
    (service,) = read(text).services
    first, second = service.backends
    assert (first.health_address, first.health_port) == (IPv6Address("2001:db8::11"), 9000)
    assert (second.health_address, second.health_port) == (None, None)
    assert first.address == IPv4Address("10.0.0.11")


def test_slow_start_and_panic():
    config = read(SHORT + "slow_start: 60s\nsafety: {min_up_percent: 0}\n")
    assert config.services[0].slow_start_s == 60.0
    assert config.safety == Safety(min_up_percent=0)
    assert read(SHORT).services[0].slow_start_s == 0.0
    assert Safety().min_up_percent == 50


def test_services_of_the_long_form_have_health_too():
    text = (
        "interface: eth0\nservices:\n"
        "  - {name: a, port: 1, health: {fall: 9}, slow_start: 1m, backends: [10.0.0.1]}\n"
    )
    (service,) = read(text).services
    assert (service.health.fall, service.slow_start_s) == (9, 60.0)
    assert find(text + "health: {}\n") == [(codes.MIXED_FORMS, 4, 1)]


def test_health_asks_nothing_of_the_tables():
    checked = SHORT.replace("[10.0.0.11]", "[{address: 10.0.0.11, health: {port: 1}}]")
    others = [
        SHORT + "health: {type: none}\n",
        SHORT + "health: {type: http}\nslow_start: 1m\n",
        SHORT + "safety: {min_up_percent: 1}\n",
        checked,
    ]
    assert {digest_meaning(read(text)) for text in others} == {digest_meaning(read(SHORT))}
    assert digest_meaning(read(SHORT + "vip: 192.0.2.1\n")) != digest_meaning(read(SHORT))


VIA = "vip: 192.0.2.1\nforwarding: ipip\n"


def test_via_the_vip():
    assert read_health(SHORT + VIA + "health: {via: vip}\n").via_vip
    assert not read_health(SHORT + VIA).via_vip
    assert not read_health(SHORT + VIA + "health: {via: backend}\n").via_vip


@pytest.mark.parametrize(
    ("service", "by_vip"),
    [
        ("vip: 192.0.2.1, forwarding: ipip", True),
        ("vip: 192.0.2.1, forwarding: nat", False),
        ("forwarding: l2dsr", False),
        ("vip: 192.0.2.1, forwarding: gue, health: {type: http}", False),
        ("vip: 192.0.2.1, forwarding: gue, health: {via: backend}", False),
        ("vip: 192.0.2.1, forwarding: gue, health: {type: dns, query: a}", False),
        ("vip: 192.0.2.1, forwarding: gue, protocol: udp, health: {type: dns, query: a}", True),
    ],
)
def test_via_of_the_defaults_is_for_services_that_can_be_asked_so(service, by_vip):
    text = (
        "interface: eth0\ndefaults: {health: {via: vip}}\n"
        f"services: [{{name: a, port: 80, backends: [10.0.0.1], {service}}}]\n"
    )
    assert read_health(text).via_vip is by_vip


def test_via_of_udp_defaults_is_kept():
    defaults = "defaults: {health: {type: udp, send: x, via: vip}}\n"
    assert read_health(UDP + VIA + defaults).via_vip


def test_what_is_out_of_range_is_told_once():
    """No timeout that is allowed fits into that interval: there is nothing to hint at."""
    text = SHORT + "health: {interval: 1ms, timeout: 2h}\n"
    found = parse(text.encode(), "lb.yaml").diagnostics
    assert [each.code for each in found] == [codes.DURATION_RANGE] * 2


# What a file can't mean.


@pytest.mark.parametrize(
    ("health", "code", "column"),
    [
        ("{interval: 1s, timeout: 2s}", codes.HEALTH_TIMEOUT, 33),
        ("{interval: 50ms}", codes.DURATION_RANGE, 20),
        ("{interval: 2h}", codes.DURATION_RANGE, 20),
        ("{timeout: 1ms}", codes.DURATION_RANGE, 19),
        ("{path: /up}", codes.HEALTH_FIELD, 10),
        ("{type: none, body: ready}", codes.HEALTH_FIELD, 22),
        ("{type: http, tls_verify: true}", codes.HEALTH_FIELD, 22),
        ("{type: http, method: HEAD, body: ready}", codes.HEALTH_FIELD, 9),
        ("{type: udp}", codes.HEALTH_INCOMPLETE, 9),
        ("{type: dns}", codes.HEALTH_INCOMPLETE, 9),
        ("{type: http, status: 399-200}", codes.HEALTH_VALUE, 30),
        ("{type: http, status: 600}", codes.OUT_OF_RANGE, 30),
        ("{type: http, status: 2xx}", codes.MALFORMED, 30),
        ("{type: http, status: [200, 2]}", codes.OUT_OF_RANGE, 36),
        ("{type: http, status: []}", codes.TOO_FEW, 30),
        ("{type: http, path: up}", codes.MALFORMED, 28),
        ("{type: http, path: '/a b'}", codes.MALFORMED, 28),
        ("{type: http, host: 'a b'}", codes.MALFORMED, 28),
        ("{type: https, ca_file: ca.pem}", codes.MALFORMED, 32),
        ("{type: udp, send: '\\q'}", codes.HEALTH_VALUE, 27),
        ("{type: udp, send: '\\x1'}", codes.HEALTH_VALUE, 27),
        ("{type: dns, query: 'a..b'}", codes.MALFORMED, 28),
        ("{type: dns, query: a, rcode: OK}", codes.UNKNOWN_VALUE, 38),
        ("{type: icmp, path: /up}", codes.UNKNOWN_VALUE, 16),
        ("{rise: 0}", codes.OUT_OF_RANGE, 16),
        ("{intervall: 2s}", codes.UNKNOWN_KEY, 10),
        ("tcp", codes.WRONG_TYPE, 9),
    ],
)
def test_health_that_means_nothing(health, code, column):
    assert find(f"{SHORT}health: {health}\n") == [(code, 4, column)]


@pytest.mark.parametrize(
    ("lines", "row", "column"),
    [
        ("health: {via: vip}\n", 4, 15),
        ("forwarding: ipip\nhealth: {via: vip}\n", 5, 15),
        (VIA + "health: {via: vip, type: dns, query: a}\n", 6, 15),
    ],
)
def test_who_can_not_be_asked_by_the_vip(lines, row, column):
    assert find(SHORT + lines) == [(codes.HEALTH_VIA, row, column)]


def test_a_backend_with_an_address_to_be_checked_at_is_not_asked_by_the_vip():
    backend = "{address: 10.0.0.1, health: {address: 10.0.0.2}}"
    text = f"interface: e\nport: 1\n{VIA}health: {{via: vip}}\nbackends:\n- {backend}\n"
    assert find(text) == [(codes.HEALTH_VIA, 7, 31)]


def test_http_does_not_go_by_the_vip():
    found = find_one(SHORT + VIA + "health: {type: http, via: vip}\n")
    assert (found.code, found.hint) == (codes.HEALTH_FIELD, "write type: tcp, or take 'via' away")
    assert found.message == "'via' is of tcp, udp and dns, but this check is http"


def test_a_udp_service_has_to_say_what_to_ask():
    assert find(UDP + "health: {interval: 5s}\n") == [(codes.HEALTH_INCOMPLETE, 5, 9)]


def test_a_mistake_in_the_defaults_is_told_once():
    services = "".join(
        f"  - {{name: s{n}, port: {n}, backends: [10.0.0.1]}}\n" for n in range(1, 4)
    )
    text = "interface: eth0\ndefaults: {health: {type: http, status: 300-200, send: a}}\n"
    assert find(f"{text}services:\n{services}") == [
        (codes.HEALTH_VALUE, 2, 41),
        (codes.HEALTH_FIELD, 2, 50),
    ]


def test_a_timeout_that_only_together_with_the_defaults_is_too_long():
    text = SHORT + "defaults: {health: {timeout: 5s, interval: 10s}}\nhealth: {interval: 2s}\n"
    found = find_one(text)
    assert (found.code, found.source.line, found.source.column) == (codes.HEALTH_TIMEOUT, 5, 20)
    assert found.hint == "set a timeout of 2s or less"


def test_a_field_of_another_type_says_which():
    found = find_one(SHORT + "health: {type: tcp, path: /up}\n")
    assert found.message == "'path' is of http and https, but this check is tcp"
    assert found.hint == "write type: http, or take 'path' away"


@pytest.mark.parametrize(
    ("address", "code"), [("x", codes.NOT_AN_ADDRESS), ("224.0.0.1", codes.UNUSABLE_ADDRESS)]
)
def test_an_address_that_can_not_be_checked(address, code):
    backend = f"{{address: 10.0.0.1, health: {{address: {address}}}}}"
    assert find(f"interface: e\nport: 1\nbackends:\n- {backend}\n") == [(code, 4, 41)]


def test_health_is_part_of_what_a_file_means():
    one, other = read(SHORT), read(SHORT + "health: {fall: 4}\n")
    assert one != other
    same = read(SHORT + "health: {fall: 3}\n")
    assert replace(one, path="", sha256="") == replace(same, path="", sha256="")
