import pytest

from reconciler.config import codes, parse

SHORT = "interface: eth0\nport: 80\nbackends: [10.0.0.1]\n"
NAMED = (
    "interface: eth0\nservices:\n"
    "- {{name: {service}, port: 80, backends: [{{name: {backend}, address: 10.0.0.1}}]}}\n"
)


def find(text):
    return parse(text.encode(), "lb.yaml").diagnostics


def places(text):
    return [(d.code, d.source.line, d.source.column) for d in find(text)]


@pytest.mark.parametrize(
    ("line", "code", "column"),
    [
        ("versoin: 1", codes.UNKNOWN_KEY, 1),
        ("version: 2", codes.UNKNOWN_VALUE, 10),
        ("version: 1.0", codes.WRONG_TYPE, 10),
        ("name: Edge", codes.MALFORMED, 7),
        ("name: a.b", codes.MALFORMED, 7),
        ("name: 5", codes.WRONG_TYPE, 7),
        ("name: " + "a" * 33, codes.MALFORMED, 7),
        ("xdp_mode: fast", codes.UNKNOWN_VALUE, 11),
        ("hash_seed: -1", codes.OUT_OF_RANGE, 12),
        ("hash_seed: 0x10000000000000000", codes.OUT_OF_RANGE, 12),
        ("hash_seed: 1e3", codes.WRONG_TYPE, 12),
        ("forwarding: dsr", codes.UNKNOWN_VALUE, 13),
        ("defaults: []", codes.WRONG_TYPE, 11),
        ("defaults: {weight: 70000}", codes.OUT_OF_RANGE, 20),
        ("defaults: {wieght: 7}", codes.UNKNOWN_KEY, 12),
        ("safety: {max_remove_percent: 101}", codes.OUT_OF_RANGE, 30),
        ("safety: {min_backends: 1.0}", codes.WRONG_TYPE, 24),
        ("reconcile: {resync: 30}", codes.MALFORMED, 21),
        ("reconcile: {resync: 30 s}", codes.MALFORMED, 21),
        ("reconcile: {heal: yes}", codes.WRONG_TYPE, 19),
        ("limits: {flows: 1}", codes.OUT_OF_RANGE, 17),
        ("ring_size: 250", codes.OUT_OF_RANGE, 12),
        ("ring_size: 1048574", codes.OUT_OF_RANGE, 12),
        ("protocol: icmp", codes.UNKNOWN_VALUE, 11),
        ("protocol: 6", codes.WRONG_TYPE, 11),
        ("affinity: source", codes.UNKNOWN_VALUE, 11),
        ("drain_timeout: 1d", codes.MALFORMED, 16),
    ],
)
def test_line_that_the_schema_refuses(line, code, column):
    assert places(f"{SHORT}{line}\n") == [(code, 4, column)]


@pytest.mark.parametrize(
    ("backend", "code", "column"),
    [
        ("42", codes.WRONG_TYPE, 5),
        ("", codes.WRONG_TYPE, 4),
        ("[10.0.0.1]", codes.WRONG_TYPE, 5),
        ("{address: 10.0.0.1, wieght: 5}", codes.UNKNOWN_KEY, 25),
        ("{address: 10.0.0.1, weight: '5'}", codes.WRONG_TYPE, 33),
        ("{address: 10.0.0.1, weight: -1}", codes.OUT_OF_RANGE, 33),
        ("{address: 10.0.0.1, weight: 5.0}", codes.WRONG_TYPE, 33),
        ("{address: 10.0.0.1, port: 0}", codes.OUT_OF_RANGE, 31),
        ("{address: 10.0.0.1, state: down}", codes.UNKNOWN_VALUE, 32),
        ("{address: 10.0.0.1, name: a/b}", codes.MALFORMED, 31),
        ("{address: 10.0.0.1, name: a b}", codes.MALFORMED, 31),
        ("{name: a}", codes.MISSING_KEY, 5),
        ("{adress: 10.0.0.1}", codes.UNKNOWN_KEY, 6),
    ],
)
def test_backend_that_the_schema_refuses(backend, code, column):
    assert places(f"interface: e\nport: 80\nbackends:\n  - {backend}\n") == [(code, 4, column)]


@pytest.mark.parametrize(
    ("interface", "code", "column"),
    [
        ("5", codes.WRONG_TYPE, 12),
        ("[]", codes.TOO_FEW, 12),
        ("[eth0, 5]", codes.WRONG_TYPE, 19),
        ("a/b", codes.MALFORMED, 12),
        ("'a b'", codes.MALFORMED, 12),
        ("'..'", codes.MALFORMED, 12),
        ("abcdefghijklmnop", codes.MALFORMED, 12),
        ("{name: eth0}", codes.WRONG_TYPE, 12),
    ],
)
def test_interface_that_the_schema_refuses(interface, code, column):
    text = f"interface: {interface}\nport: 80\nbackends: [10.0.0.1]\n"
    assert places(text) == [(code, 1, column)]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (SHORT + "protocl: tcp\n", "did you mean 'protocol'?"),
        (SHORT + "ring-size: 251\n", "did you mean 'ring_size'?"),
        (SHORT + "protocol: tpc\n", "did you mean 'tcp'?"),
        (SHORT + "weight: 5\n", "'weight' belongs in a backend or in 'defaults'"),
        (SHORT + "resync: 5s\n", "'resync' belongs in 'reconcile'"),
        (SHORT + "hash_seed: '5'\n", "take the quotes away"),
        (SHORT + "hash_seed: 80.0\n", "write 80"),
        (SHORT + "name: 5\n", "put quotes around it"),
        (SHORT + "reconcile: {heal: no}\n", "write false"),
        (SHORT + "reconcile: {heal: n}\n", "write false"),
        (SHORT + "reconcile: {resync: 5}\n", "write 5s"),
        (SHORT + "reconcile: {resync: 5 s}\n", "write for example 500ms, 2s, 5m, 1h"),
        (SHORT + "helath: {}\n", "did you mean 'health'?"),
        (SHORT + "hash_seed: 1_000\n", "write 1000"),
        (NAMED.format(service="_a", backend="b"), "not '_' or '-' first"),
        (NAMED.format(service="a", backend="-b"), "start with a letter, a digit or '['"),
        (SHORT + "hash_seed: 22:22\n", "it is one number; a backend's port goes behind"),
        (SHORT + "hash_seed: 80,443\n", "list a service for each"),
        ("interface: e\nport: 1\nbackends:\n- [2001:db8::1]\n", "put quotes around"),
        ("interface: e\nport: 1\nbackends: 10.0.0.1\n", "on its own line after '- '"),
    ],
)
def test_hint(text, hint):
    (found,) = find(text)
    assert hint in found.hint


def test_mistyped_key_is_not_reported_as_missing_too():
    assert places("interface: e\nprot: 1\nbackends: [10.0.0.1]\n") == [(codes.UNKNOWN_KEY, 2, 1)]


def test_mistyped_services_are_not_taken_for_the_short_form():
    text = "interface: e\nservces: [{name: a, port: 1, backends: [10.0.0.1]}]\n"
    assert places(text) == [(codes.UNKNOWN_KEY, 2, 1)]


def test_missing_keys_are_reported_one_by_one():
    found = find("services:\n  - {name: a}\n")
    assert [d.message for d in found] == [
        "the file needs 'interface'",
        "a service needs 'backends'",
        "a service needs 'port'",
    ]


@pytest.mark.parametrize(
    "key", ["port: 80", "backends: [10.0.0.1]", "protocol: tcp", "vip: 10.0.0.1"]
)
def test_short_and_long_form_do_not_mix(key):
    text = f"interface: e\nservices: [{{name: a, port: 1, backends: [10.0.0.9]}}]\n{key}\n"
    (found,) = find(text)
    assert found.code == codes.MIXED_FORMS
    assert (found.source.line, found.source.column) == (3, 1)
    assert "short form" in found.message


@pytest.mark.parametrize("text", ["[]\n", "eth0\n", "5\n"])
def test_root_that_is_no_mapping(text):
    (found,) = find(text)
    assert found.code == codes.WRONG_TYPE
    assert found.message.startswith("the file must be a mapping")


def test_messages_never_dump_what_they_refuse():
    text = SHORT + "defaults: [" + "x, " * 1000 + "]\n"
    (found,) = find(text)
    assert len(found.message) < 100


def test_one_place_is_refused_once():
    assert places(SHORT + "limits: {flows: 80.0}\n") == [(codes.WRONG_TYPE, 4, 17)]
