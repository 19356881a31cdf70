from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path

import pytest

from reconciler.config import ConfigInvalid, codes, parse
from reconciler.config.text import MAX_BYTES
from reconciler.config_file import load
from reconciler.model import (
    Affinity,
    BackendState,
    FlowTracking,
    Forwarding,
    Limits,
    Metrics,
    Protocol,
    Reconcile,
    Safety,
    Source,
    Tunnel,
    XdpMode,
    derive_seed,
)

EXAMPLES = Path(__file__).parents[2] / "examples"
SHORT = "interface: eth0\nport: 8080\nbackends:\n  - 10.0.0.11\n  - 10.0.0.12\n"


def read(text):
    parsed = parse(text.encode(), "lb.yaml")
    assert parsed.config, [d.message for d in parsed.diagnostics]
    return parsed.config


def find(text):
    return parse(text.encode(), "lb.yaml").diagnostics


def places(text, severity="error"):
    return [(d.code, d.source.line, d.source.column) for d in find(text) if d.severity == severity]


def make_services(*services):
    return "interface: eth0\nservices:\n" + "".join(f"  - {service}\n" for service in services)


# What a file means.


def test_short_form_is_one_service_called_default():
    config = read(SHORT)
    (service,) = config.services
    assert (config.name, config.interfaces, config.xdp_mode) == ("default", ("eth0",), XdpMode.AUTO)
    assert config.hash_seed == derive_seed("default")
    assert (config.safety, config.reconcile, config.limits) == (Safety(), Reconcile(), Limits())
    assert (service.name, service.vip, service.port) == ("default", None, 8080)
    assert (service.protocol, service.forwarding) == (Protocol.TCP, Forwarding.NAT)
    assert (service.affinity, service.ring_size) == (Affinity.FLOW, 65537)
    assert service.drain_timeout_s == 300
    assert [(b.name, str(b.address), b.port, b.weight) for b in service.backends] == [
        ("10.0.0.11:8080", "10.0.0.11", 8080, 100),
        ("10.0.0.12:8080", "10.0.0.12", 8080, 100),
    ]


def test_short_form_takes_the_keys_of_a_service():
    config = read(
        SHORT + "name: edge\nvip: 192.0.2.1\nprotocol: udp\naffinity: client\n"
        "ring_size: 251\ndrain_timeout: 1.5s\nforwarding: nat\n"
    )
    (service,) = config.services
    assert (config.name, service.name) == ("edge", "default")
    assert service.vip == IPv4Address("192.0.2.1")
    assert (service.protocol, service.affinity) == (Protocol.UDP, Affinity.CLIENT)
    assert (service.ring_size, service.drain_timeout_s) == (251, 1.5)


def test_settings():
    config = read(
        SHORT + "version: 1\nxdp_mode: native\nhash_seed: 0x5eed5eed\n"
        "defaults: {weight: 7, drain_timeout: 1h}\n"
        "safety: {max_remove_percent: 0, min_backends: 2}\n"
        "reconcile: {resync: 5m, debounce: 250ms, heal: false}\n"
        "limits: {services: 1, backends: 9, ring_slots: 65537, flows: 2000}\n"
    )
    assert (config.xdp_mode, config.hash_seed) == (XdpMode.NATIVE, 0x5EED5EED)
    assert config.safety == Safety(0, 2)
    assert config.reconcile == Reconcile(300, 0.25, False)
    assert config.limits == Limits(1, 9, 65537, 2000)
    assert config.services[0].drain_timeout_s == 3600
    assert {backend.weight for backend in config.services[0].backends} == {7}


def test_long_form_is_sorted_by_name():
    config = read(
        make_services(
            "{name: web, port: 443, backends: [{name: b, address: 10.0.0.2}, "
            "{name: a, address: 10.0.0.1, port: 8443, weight: 5}]}",
            "{name: dns, port: 53, protocol: udp, drain_timeout: 0s, backends: [10.0.0.3:5353]}",
        )
    )
    dns, web = config.services
    assert (dns.name, web.name) == ("dns", "web")
    assert dns.drain_timeout_s == 0
    assert dns.backends[0].name == "10.0.0.3:5353"
    assert [(b.name, b.port, b.weight) for b in web.backends] == [("a", 8443, 5), ("b", 443, 100)]


def test_interface_may_be_a_list():
    assert read(SHORT.replace("eth0", "[eth0, eth1.5]")).interfaces == ("eth0", "eth1.5")


def test_sources_are_places_in_the_file():
    config = read(
        make_services("{name: web, port: 443, backends: [10.0.0.1, {address: 10.0.0.2}]}")
    )
    (service,) = config.services
    assert service.source == Source("lb.yaml", 3, 5)
    assert [b.source.column for b in service.backends] == [39, 49]


def test_families_may_differ_behind_a_tunnel():
    config = read(
        "interface: e\nforwarding: gue\nservices:\n"
        "  - {name: a, vip: '2001:db8::53', port: 53, backends: ['2001:db8::1', 10.0.0.1,\n"
        "      '[2001:db8::2]:53', {address: '2001:db8::3', state: drain, weight: 0}]}\n"
        "  - {name: b, vip: 192.0.2.1, port: 53, forwarding: l2dsr,\n"
        "     backends: [{address: 10.0.0.1, state: maint}]}\n"
    )
    a, b = config.services
    assert (a.forwarding, b.forwarding) == (Forwarding.GUE, Forwarding.L2DSR)
    assert a.vip == IPv6Address("2001:db8::53")
    assert [x.name for x in a.backends] == [
        "10.0.0.1:53",
        "[2001:db8::1]:53",
        "[2001:db8::2]:53",
        "[2001:db8::3]:53",
    ]
    assert a.backends[3].state is BackendState.DRAIN
    assert b.backends[0].state is BackendState.MAINT


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ("weight: 0", BackendState.DRAIN),  # takes no new flows, keeps those it has
        ("weight: 0, state: ready", BackendState.DRAIN),
        ("weight: 0, state: maint", BackendState.MAINT),
        ("weight: 1", BackendState.READY),
    ],
)
def test_weight_zero_is_draining(fields, state):
    config = read(SHORT + f"  - {{address: 10.0.0.13, {fields}}}\n")
    assert config.services[0].backends[2].state is state


@pytest.mark.parametrize(
    ("lines", "tracking", "idle_s"),
    [
        ("", FlowTracking.ON_CHANGE, 7200),
        ("protocol: udp\n", FlowTracking.ON_CHANGE, 120),
        ("flow_tracking: always\nflow_idle_timeout: 10m\n", FlowTracking.ALWAYS, 600),
    ],
)
def test_flow_tracking_and_its_defaults(lines, tracking, idle_s):
    service = read(SHORT + lines).services[0]
    assert (service.flow_tracking, service.flow_idle_timeout_s) == (tracking, idle_s)


@pytest.mark.parametrize("name", ["lb.yaml", "full.yaml"])
def test_examples_are_valid(name):
    assert load(str(EXAMPLES / name)).warnings == ()


def test_digest_is_of_the_bytes_and_takes_no_part_in_equality():
    plain, commented = read(SHORT), read(SHORT + "# comment\n")
    assert plain == commented
    assert plain.sha256 != commented.sha256
    assert len(plain.sha256) == 64
    assert plain.path == "lb.yaml"


def test_many_backends():
    backends = "".join(
        f"  - {{name: web-{i}, address: 10.0.{i >> 8}.{i & 255}, weight: {i % 9 + 1}}}\n"
        for i in range(5000)
    )
    text = "interface: e\nport: 1\nring_size: 1048573\nlimits: {backends: 5001}\nbackends:\n"
    assert len(read(text + backends).services[0].backends) == 5000


# What a file must not be.


@pytest.mark.parametrize(
    ("data", "code", "line", "column"),
    [
        (b"", codes.EMPTY, 1, 1),
        (b"# nothing\n---\n", codes.EMPTY, 1, 1),
        (b"\xff\xfei\0", codes.NOT_TEXT, 1, 1),
        (b"a: 1\nb: \xe4\n", codes.NOT_TEXT, 2, 4),
        (b"a: 1\nb: \x00\n", codes.NOT_TEXT, 2, 4),
        (b"a: 1\nb: \x1b[0m\n", codes.NOT_TEXT, 2, 4),
        (b"\x7fELF\x02\x01\x01\x00", codes.NOT_TEXT, 1, 1),
        (b"#" * (MAX_BYTES + 1), codes.TOO_LARGE, 1, 1),
        (b"a: [1\n", codes.SYNTAX, 1, 4),
        (b"# a\n%TAG ! b\n--- c\n", codes.TAG, 2, 1),
    ],
)
def test_bytes_that_are_no_configuration(data, code, line, column):
    parsed = parse(data, "lb.yaml")
    assert parsed.config is None
    (found,) = parsed.diagnostics
    assert (found.code, found.source.line, found.source.column) == (code, line, column)


def test_byte_order_mark_is_no_part_of_the_text():
    assert parse(b"\xef\xbb\xbf" + SHORT.encode(), "f").config == read(SHORT)


@pytest.mark.parametrize(
    ("backends", "expected"),
    [
        ("[10.0.0.256]", [(codes.NOT_AN_ADDRESS, 1, 12)]),
        ("[web.example.com]", [(codes.NOT_AN_ADDRESS, 1, 12)]),
        ("[10.0.0.1/24]", [(codes.NOT_AN_ADDRESS, 1, 12)]),
        ("[10.0.0.01]", [(codes.NOT_AN_ADDRESS, 1, 12)]),
        ("[10.0.0.1:0]", [(codes.NOT_AN_ADDRESS, 1, 12)]),
        ("[10.0.0.1:70000]", [(codes.NOT_AN_ADDRESS, 1, 12)]),
        ("['[10.0.0.1]:80']", [(codes.NOT_AN_ADDRESS, 1, 12)]),
        ("['fe80::1%eth0']", [(codes.NOT_AN_ADDRESS, 1, 12)]),
        ("[{address: 10.0.0.1:80}]", [(codes.NOT_AN_ADDRESS, 1, 22)]),
        ("[0.0.0.0]", [(codes.UNUSABLE_ADDRESS, 1, 12)]),
        ("[0.1.2.3]", [(codes.UNUSABLE_ADDRESS, 1, 12)]),
        ("[224.0.0.1]", [(codes.UNUSABLE_ADDRESS, 1, 12)]),
        ("[255.255.255.255]", [(codes.UNUSABLE_ADDRESS, 1, 12)]),
        ("[10.0.0.1, 10.0.0.1]", [(codes.DUPLICATE_BACKEND_ADDRESS, 1, 22)]),
        ("[10.0.0.1, 10.0.0.1:80]", [(codes.DUPLICATE_BACKEND_ADDRESS, 1, 22)]),
        (
            "[{name: a, address: 10.0.0.1}, {name: a, address: 10.0.0.2}]",
            [(codes.DUPLICATE_BACKEND_NAME, 1, 49)],
        ),
        (
            "[{name: '10.0.0.2:80', address: 10.0.0.1}, 10.0.0.2]",
            [(codes.DUPLICATE_BACKEND_NAME, 1, 54)],
        ),
        ("[192.0.2.1:81]", [(codes.VIP_IS_BACKEND, 1, 12)]),
        ("['2001:db8::1']", [(codes.MIXED_FAMILIES, 1, 12)]),
    ],
)
def test_backends_that_mean_nothing(backends, expected):
    found = places(f"backends: {backends}\ninterface: e\nport: 80\nvip: 192.0.2.1\n")
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("web.example.com", "host names are not resolved"),
        ("10.0.0.1/24", "prefix length"),
        ("fe80::1%eth0", "zone"),
        ("10.0.0.300", "write for example"),
        ("10.0.0.010", "without leading zeros"),
    ],
)
def test_hint_at_address(text, part):
    (found,) = find(f"interface: e\nport: 80\nbackends: ['{text}']\n")
    assert part in found.hint


@pytest.mark.parametrize(
    ("line", "code", "column"),
    [
        ("flow_tracking: sometimes", codes.UNKNOWN_VALUE, 16),
        ("flow_idle_timeout: 999ms", codes.DURATION_RANGE, 20),
        ("vip: 0.0.0.0", codes.UNUSABLE_ADDRESS, 6),
        ("vip: example.com", codes.NOT_AN_ADDRESS, 6),
        ("vip: 10.0.0.9:80", codes.NOT_AN_ADDRESS, 6),
        ("vip: ''", codes.NOT_AN_ADDRESS, 6),
        ("ring_size: 65536", codes.RING_NOT_PRIME, 12),
        ("limits: {ring_slots: 65536}", codes.TOO_MANY_SLOTS, None),
        ("reconcile: {resync: 0s}", codes.DURATION_RANGE, 21),
        ("reconcile: {debounce: 61s}", codes.DURATION_RANGE, 23),
        ("drain_timeout: 25h", codes.DURATION_RANGE, 16),
        ("defaults: {drain_timeout: 9999999999h}", codes.DURATION_RANGE, 27),
        ("tunnel_source: nowhere", codes.NOT_AN_ADDRESS, 16),
        ("tunnel_source: 10.0.0.1/8", codes.NOT_AN_ADDRESS, 16),
        ("tunnel_source: 2001:db8::/64", codes.NOT_AN_ADDRESS, 16),
        ("icmp_echo: maybe", codes.UNKNOWN_VALUE, 12),
        ("gue_port: 0", codes.OUT_OF_RANGE, 11),
        ("safety: {min_up_percent: 101}", codes.OUT_OF_RANGE, 26),
        ("metrics: {listen: '127.0.0.1:0'}", codes.NOT_AN_ADDRESS, 19),
        ("metrics: {listen: '127.0.0.1:70000'}", codes.NOT_AN_ADDRESS, 19),
        ("metrics: {listen: 'localhost:9464'}", codes.NOT_AN_ADDRESS, 19),
        ("metrics: {listen: '::1:9464'}", codes.NOT_AN_ADDRESS, 19),
        ("metrics: {listen: 127.0.0.1}", codes.MALFORMED, 19),
        ("metrics: {listen: no}", codes.MALFORMED, 19),
        ("metrics: {listen: 9464}", codes.WRONG_TYPE, 19),
        ("metrics: {port: 9464}", codes.UNKNOWN_KEY, 11),
    ],
)
def test_lines_that_mean_nothing(line, code, column):
    found = [(c, col if row == 6 else None) for c, row, col in places(f"{SHORT}{line}\n")]
    assert (code, column) in found


@pytest.mark.parametrize(
    ("line", "metrics"),
    [
        ("", Metrics(ip_address("127.0.0.1"), 9464, is_named=False)),
        ("metrics: {}", Metrics()),
        ("metrics: {listen: off}", Metrics(None, is_named=True)),
        ("metrics: {listen: '127.0.0.1:9464'}", Metrics(is_named=True)),
        ("metrics: {listen: 0.0.0.0:80}", Metrics(ip_address("0.0.0.0"), 80, is_named=True)),
        ("metrics: {listen: '[::1]:9465'}", Metrics(ip_address("::1"), 9465, is_named=True)),
    ],
)
def test_where_metrics_are_served(line, metrics):
    assert read(f"{SHORT}{line}\n").metrics == metrics


def test_hint_names_the_next_prime():
    (found,) = find(SHORT + "ring_size: 65536\n")
    assert found.hint == "the next prime is 65537"


@pytest.mark.parametrize(
    ("services", "expected"),
    [
        (
            [
                "{name: a, port: 1, backends: [10.0.0.1]}",
                "{name: a, port: 2, backends: [10.0.0.1]}",
            ],
            [(codes.DUPLICATE_SERVICE, 4, 12)],
        ),
        (
            [
                "{name: a, port: 1, backends: [10.0.0.1]}",
                "{name: b, port: 1, backends: [10.0.0.2]}",
            ],
            [(codes.DUPLICATE_VIP, 4, 21)],
        ),
        (
            [
                "{name: a, vip: 192.0.2.1, port: 1, backends: [10.0.0.1]}",
                "{name: b, vip: 192.0.2.1, port: 1, backends: [10.0.0.2]}",
            ],
            [(codes.DUPLICATE_VIP, 4, 20)],
        ),
        (
            [
                "{name: a, port: 1, backends: [10.0.0.1]}",
                "{name: b, port: 1, protocol: udp, backends: [10.0.0.1]}",
                "{name: c, port: 1, vip: 192.0.2.1, backends: [10.0.0.3]}",
                "{name: d, port: 1, vip: 192.0.2.2, backends: [10.0.0.4]}",
            ],
            [],
        ),
        (
            [
                "{name: a, port: x, backends: [10.0.0.1, 10.0.0.1]}",
                "{name: a, port: 2, backends: [x]}",
            ],
            [
                (codes.WRONG_TYPE, 3, 21),
                (codes.DUPLICATE_BACKEND_ADDRESS, 3, 45),
                (codes.NOT_AN_ADDRESS, 4, 35),
            ],
        ),
        (["{name: 'a.b', port: 1, backends: [1.1.1.1]}"], [(codes.MALFORMED, 3, 12)]),
        (["{name: a, port: 1, backends: []}"], [(codes.TOO_FEW, 3, 34)]),
    ],
)
def test_services_that_mean_nothing(services, expected):
    assert places(make_services(*services)) == expected


def test_duplicate_interface():
    assert places(SHORT.replace("eth0", "[eth0, eth1, eth0]")) == [
        (codes.DUPLICATE_INTERFACE, 1, 25)
    ]


def test_too_many_services():
    services = [f"{{name: s{i}, port: {i}, backends: [10.0.0.{i}]}}" for i in range(1, 4)]
    text = make_services(*services) + "limits: {services: 2}\n"
    assert places(text) == [(codes.TOO_MANY_SERVICES, 5, 5)]


def test_there_is_room_for_as_many_backends_as_the_limit_says():
    text = "interface: e\nport: 1\nlimits: {backends: 2}\nbackends: [10.0.0.1, 10.0.0.2"
    assert not find(f"{text}]\n")
    assert places(f"{text}, 10.0.0.3]\n") == [(codes.TOO_MANY_BACKENDS, 4, 32)]


@pytest.mark.parametrize("mode", ["l2dsr", "ipip", "gue"])
def test_only_nat_may_rewrite_the_port(mode):
    (found,) = find(SHORT.replace("10.0.0.12", "10.0.0.12:80") + f"forwarding: {mode}\n")
    assert (found.code, found.source.line) == (codes.BACKEND_PORT, 5)
    assert "only 'nat' may rewrite the port" in found.message


@pytest.mark.parametrize(("mode", "count"), [("nat", 1), ("ipip", 0), ("gue", 0)])
def test_only_tunnels_may_mix_families(mode, count):
    text = f"interface: e\nport: 1\nvip: 192.0.2.1\nforwarding: {mode}\nbackends: ['2001:db8::1']\n"
    assert len(places(text)) == count


def test_tunnels_are_made_as_the_file_says():
    config = read(
        "interface: e\nport: 1\nforwarding: gue\nbackends: [10.0.0.1]\n"
        "tunnel_source: [10.200.0.0/16, '2001:db8::1']\ngue_port: 6081\ngue_checksum: false\n"
        "icmp_echo: pass\n"
    )
    assert config.tunnel == Tunnel(
        IPv4Network("10.200.0.0/16"), IPv6Network("2001:db8::1/128"), 6081, gue_checksum=False
    )
    assert not config.answers_echo


def test_own_addresses_are_of_one_family():
    text = "interface: e\nport: 1\nforwarding: gue\nbackends: [10.0.0.1, '2001:db8::1']\n"
    assert places(text) == [(codes.MIXED_FAMILIES, 4, 22)]


def test_own_addresses_of_two_families_do_not_collide():
    text = make_services(
        "{name: a, port: 1, backends: [10.0.0.1]}", "{name: b, port: 1, backends: ['2001:db8::1']}"
    )
    assert not find(text)


@pytest.mark.parametrize("address", ["::", "ff02::1", "fe80::1", "::ffff:10.0.0.1"])
def test_unusable_ipv6_addresses(address):
    assert places(f"interface: e\nport: 1\nbackends: ['{address}']\n") == [
        (codes.UNUSABLE_ADDRESS, 3, 12)
    ]


def test_ring_smaller_than_the_number_of_backends():
    backends = "".join(f"  - 10.0.{i >> 8}.{i & 255}\n" for i in range(300))
    text = f"interface: e\nport: 1\nring_size: 251\nbackends:\n{backends}"
    (found,) = find(text)
    assert (found.code, found.hint) == (codes.RING_TOO_SMALL, "set ring_size: 30011")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SHORT, []),
        (SHORT.replace("10.0.0.12", "127.0.0.1"), [(codes.LOOPBACK, 5, 5)]),
        (
            make_services(
                "{name: a, port: 1, backends: [10.0.0.1:9, 10.0.0.2:9]}",
                "{name: b, port: 2, backends: [10.0.0.3:9, 10.0.0.2:9]}",
                "{name: c, port: 3, protocol: udp, backends: [10.0.0.2:9]}",
            ),
            [(codes.SHARED_BACKEND, 4, 47)],
        ),
        ("interface: e\nport: 0017\nbackends: [1.1.1.1]\n", [(codes.LEADING_ZERO, 2, 7)]),
        (
            "interface: e\nport: 80\nbackends: ['2001:db8::1:80', '2001:db8::80']\n",
            [(codes.ADDRESS_LIKE_PORT, 3, 12)],
        ),
        (
            "interface: e\nport: 80\nbackends: [{address: '2001:db8::1:80'}]\n",
            [(codes.ADDRESS_LIKE_PORT, 3, 22)],
        ),
        (
            "interface: e\nport: 1\nring_size: 251\nbackends: [1.1.1.1, 1.1.1.2, 1.1.1.3]\n",
            [(codes.COARSE_RING, 3, 12)],
        ),
        (
            "interface: e\nport: 1\nbackends: [{address: 1.1.1.1, weight: 0}, {address: 1.1.1.2,\n"
            "  state: maint}]\n",
            [(codes.NO_READY_BACKEND, 3, 11)],
        ),
        (SHORT + "flow_tracking: never\n", [(codes.TCP_UNTRACKED, 6, 16)]),
        (SHORT + "protocol: udp\nflow_tracking: never\n", []),
    ],
)
def test_warnings(text, expected):
    assert places(text, "warning") == expected


def test_warnings_do_not_make_a_file_invalid():
    parsed = parse(SHORT.replace("10.0.0.12", "127.0.0.1").encode(), "lb.yaml")
    assert parsed.config
    assert [d.severity for d in parsed.diagnostics] == ["warning"]


def test_many_warnings_hide_no_error_and_are_no_error():
    backends = "".join(f"  - 127.0.{i >> 8}.{i & 255}\n" for i in range(2000))
    text = f"interface: e\nport: 1\nring_size: 1048573\nbackends:\n{backends}"
    assert parse(text.encode(), "f").config
    found = find(text + "  - 127.0.0.0\n")
    assert [d.code for d in found if d.is_error] == [codes.DUPLICATE_BACKEND_ADDRESS]


def test_every_problem_is_found_at_once_in_the_order_of_the_file():
    text = (
        "interface: [eth0, eth0]\n"
        "nmae: edge\n"
        "name: edge\n"
        "name: edge\n"
        "services:\n"
        "  - name: web\n"
        "    port: '80'\n"
        "    backends: [10.0.0.1, 10.0.0.1, {adress: 10.0.0.2}]\n"
        "  - {name: dns, port: 53, backends: [224.0.0.1], ring_size: 256}\n"
        "defaults: {health: {type: tcp, path: /}}\n"
    )
    assert places(text) == [
        (codes.DUPLICATE_INTERFACE, 1, 19),
        (codes.UNKNOWN_KEY, 2, 1),
        (codes.DUPLICATE_KEY, 4, 1),
        (codes.WRONG_TYPE, 7, 11),
        (codes.DUPLICATE_BACKEND_ADDRESS, 8, 26),
        (codes.UNKNOWN_KEY, 8, 37),
        (codes.UNUSABLE_ADDRESS, 9, 38),
        (codes.RING_NOT_PRIME, 9, 61),
        (codes.HEALTH_FIELD, 10, 32),
    ]


def test_alias_is_not_reported_as_a_wrong_type_too():
    assert places("x: &p 80\ninterface: e\nport: *p\nbackends: [10.0.0.1]\n") == [
        (codes.UNKNOWN_KEY, 1, 1),
        (codes.ALIAS, 3, 7),
    ]


def test_a_number_of_the_wrong_type_is_told_once():
    assert places(SHORT + "name: 017\n") == [(codes.WRONG_TYPE, 6, 7)]


@pytest.mark.parametrize("line", ['drain_timeout: "5s\\n"', 'name: "a\\n"', 'vip: "192.0.2.1\\n"'])
def test_line_break_at_the_end_of_a_value(line):
    column = line.index('"') + 1
    assert places(f"{SHORT}{line}\n") == [(codes.UNPRINTABLE, 6, column)]


def test_refused_value_hides_no_missing_key():
    assert [d.code for d in find("port: !!int 80\ninterface: e\n")] == [
        codes.MISSING_KEY,
        codes.TAG,
    ]


def test_problems_past_the_limit_are_counted_as_one():
    text = "interface: e\nport: 1\nbackends:\n" + "  - x\n" * 5000
    parsed = parse(text.encode(), "f")
    assert parsed.config is None
    assert len(parsed.diagnostics) == 1001
    assert parsed.diagnostics[0].code == codes.TOO_LARGE


def test_invalid_configuration_as_an_error():
    parsed = parse(b"port: 80\n", "lb.yaml")
    error = ConfigInvalid("lb.yaml", parsed.diagnostics, {"lb.yaml": "port: 80\n"})
    assert error.exit_code == 78
    assert error.message == "lb.yaml is not valid: 2 errors"
    assert "lb.yaml:1:1: error[XLB202]" in error.render()
