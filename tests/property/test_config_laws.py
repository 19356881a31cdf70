"""Laws of `reconciler.config`: what of a file has no meaning, and what no file can do."""

import json
from ipaddress import IPv4Address

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.config import judge, parse
from reconciler.config.document import read_document
from reconciler.config.yaml12 import read_nodes

names = st.from_regex(r"[a-z][a-z0-9-]{0,9}", fullmatch=True)
addresses = st.integers(0x0A000001, 0x0AFFFFFF).map(lambda n: str(IPv4Address(n)))
ports = st.integers(1, 65535)
durations = st.sampled_from(["0s", "500ms", "1.5s", "5m", "1h"])


@st.composite
def backends(draw):
    chosen = draw(st.lists(addresses, min_size=1, max_size=5, unique=True))
    return [draw(backend(address)) for address in chosen]


@st.composite
def backend(draw, address):
    if draw(st.booleans()):
        return address
    fields = {"address": address, "name": f"at-{address}"}
    fields |= draw(st.fixed_dictionaries({}, optional={"port": ports, "weight": ports}))
    return fields


@st.composite
def services(draw):
    service_names = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    return [
        {
            "name": name,
            "vip": f"192.0.2.{index + 1}",
            "port": draw(ports),
            "backends": draw(backends()),
            **draw(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "protocol": st.sampled_from(["tcp", "udp"]),
                        "affinity": st.sampled_from(["flow", "client"]),
                        "ring_size": st.sampled_from([1009, 65537]),
                        "drain_timeout": durations,
                    },
                )
            ),
        }
        for index, name in enumerate(service_names)
    ]


documents = st.builds(
    lambda listed, extra: {"interface": "eth0", "services": listed, **extra},
    services(),
    st.fixed_dictionaries(
        {},
        optional={
            "name": names,
            "hash_seed": st.integers(0, 2**64 - 1),
            "reconcile": st.fixed_dictionaries({}, optional={"heal": st.booleans()}),
            "defaults": st.fixed_dictionaries({"weight": ports}),
        },
    ),
)


def read(text):
    parsed = parse(text.encode(), "lb.yaml")
    assert parsed.config, [d.message for d in parsed.diagnostics]
    return parsed.config


def shuffle(value, random):
    """Return the same document with keys, services and backends in another order."""
    if isinstance(value, dict):
        entries = [(key, shuffle(item, random)) for key, item in value.items()]
        random.shuffle(entries)
        return dict(entries)
    if isinstance(value, list):
        return random.sample([shuffle(item, random) for item in value], len(value))
    return value


@given(documents, st.randoms(use_true_random=False))
def test_order_means_nothing(document, random):
    shuffled = shuffle(document, random)
    assert read(json.dumps(document)) == read(json.dumps(shuffled))


@given(documents, st.integers(2, 8), st.sampled_from([None, True, False]), st.booleans())
def test_layout_means_nothing(document, indent, flow_style, is_explicit):
    laid_out = yaml.safe_dump(
        document,
        indent=indent,
        default_flow_style=flow_style,
        explicit_start=is_explicit,
        width=40,
        sort_keys=False,
    )
    assert read(laid_out) == read(json.dumps(document))


@given(documents, st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20))
def test_comments_mean_nothing(document, words):
    text = yaml.safe_dump(document)
    commented = "".join(f"# {words}\n\n{line} # {words}\n" for line in text.splitlines())
    assert read(commented) == read(text)


@given(documents, st.data())
def test_which_file_a_service_stands_in_means_nothing(document, data):
    listed = document["services"]
    homes = data.draw(st.lists(st.integers(0, 3), min_size=len(listed), max_size=len(listed)))
    parts = [[s for s, home in zip(listed, homes, strict=True) if home == n] for n in range(4)]
    main = {key: value for key, value in document.items() if key != "services"}
    main |= {"include": ["*"]} | ({"services": parts[0]} if parts[0] else {})
    included = [
        read_document(json.dumps({"services": part}).encode(), f"{number}.yaml")
        for number, part in enumerate(parts[1:])
        if part
    ]
    parsed = judge(read_document(json.dumps(main).encode(), "lb.yaml"), included)
    assert parsed.config == read(json.dumps(document))


@given(documents)
def test_services_and_backends_are_sorted_by_name(document):
    config = read(json.dumps(document))
    for named in (config.services, *(service.backends for service in config.services)):
        assert [item.name for item in named] == sorted(item.name for item in named)


def check_parsed(data):
    parsed = parse(data, "lb.yaml")
    has_error = any(diagnostic.is_error for diagnostic in parsed.diagnostics)
    assert (parsed.config is None) == has_error
    places = [(d.source.line, d.source.column) for d in parsed.diagnostics]
    assert places == sorted(places)
    assert all(place >= (1, 1) for place in places)


@given(st.binary(max_size=200))
def test_no_bytes_make_parse_raise(data):
    check_parsed(data)


yaml_ish = st.lists(
    st.sampled_from(
        [
            *"[]{}:,-?&*!|>'\"%@`#~ \n\t",
            "\n  ",
            "- ",
            ": ",
            "a",
            "80",
            "1e3",
            "null",
            "<<",
            "---\n",
            "interface",
            "port",
            "backends",
            "services",
            "name",
            "vip",
            "10.0.0.1",
            "::1",
        ]
    ),
    max_size=40,
).map("".join)


@settings(max_examples=500)
@given(yaml_ish)
def test_no_yaml_makes_parse_raise(text):
    check_parsed(text.encode())


words = (
    "version name interface xdp_mode hash_seed forwarding defaults safety reconcile metrics limits "
    "services include vip port protocol affinity ring_size drain_timeout backends weight health "
    "address state type interval resync debounce heal x"
)
keys = st.sampled_from(words.split())
leaves = st.sampled_from(
    [
        None,
        True,
        0,
        1,
        53,
        251,
        -1,
        1.5,
        "",
        "a",
        "nat",
        "gue",
        "10.0.0.1",
        "10.0.0.1:53",
        "::1",
        "5s",
        "5s\n",
    ]
)
trees = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=20,
)
whole = st.fixed_dictionaries(
    {},
    optional={
        "interface": trees,
        "port": trees,
        "vip": leaves,
        "forwarding": leaves,
        "backends": st.lists(st.dictionaries(keys, trees, max_size=4) | leaves, max_size=4) | trees,
        "services": st.lists(st.dictionaries(keys, trees, max_size=6) | trees, max_size=4),
        "defaults": trees,
        "limits": trees,
        "reconcile": trees,
    },
)


@settings(max_examples=300)
@given(whole | trees)
def test_no_document_makes_parse_raise(document):
    check_parsed(json.dumps(document).encode())


@settings(max_examples=300)
@given(st.lists((whole | trees).map(json.dumps) | yaml_ish, max_size=3))
def test_no_included_files_make_judge_raise(texts):
    included = [read_document(text.encode(), f"{n}.yaml") for n, text in enumerate(texts)]
    main = '{"interface": "eth0", "include": ["*.yaml"]}'
    parsed = judge(read_document(main.encode(), "lb.yaml"), included)
    assert (parsed.config is None) == any(d.is_error for d in parsed.diagnostics)


@given(st.text(max_size=60))
def test_strings_survive_quoting(text):
    if not text.isprintable():
        return
    root, problems = read_nodes(json.dumps([text], ensure_ascii=False), "f")
    assert not problems
    assert root.items[0].value == text
