"""`include`, without a file system: what documents are together."""

from __future__ import annotations

import hashlib

import pytest

from reconciler.config import Parsed, codes, judge, parse
from reconciler.config.document import Document, digest_documents, read_document
from reconciler.config.include import list_includes
from reconciler.model import Source

MAIN = "interface: eth0\nforwarding: ipip\ndefaults: {weight: 7}\ninclude: [conf.d/*.yaml]\n"
WEB = "services:\n  - {name: web, vip: 192.0.2.1, port: 80, backends: [10.0.0.1]}\n"
DNS = "services:\n  - {name: dns, vip: 192.0.2.2, port: 53, backends: [10.0.0.2]}\n"


def combine(main: str, **included: str) -> Parsed:
    documents = [
        read_document(text.encode(), f"conf.d/{name}.yaml") for name, text in included.items()
    ]
    return judge(read_document(main.encode(), "lb.yaml"), documents)


def show(parsed: Parsed) -> list[tuple[str, str]]:
    return [(d.code, str(d.source)) for d in parsed.diagnostics]


def test_services_of_all_files_are_one_configuration() -> None:
    parsed = combine(MAIN, web=WEB, dns=DNS)
    assert parsed.diagnostics == ()
    assert parsed.config is not None
    assert [service.name for service in parsed.config.services] == ["dns", "web"]
    assert parsed.config.path == "lb.yaml"


def test_a_file_may_have_services_of_its_own() -> None:
    parsed = combine(MAIN + WEB, dns=DNS)
    assert parsed.config is not None
    assert [service.name for service in parsed.config.services] == ["dns", "web"]


def test_the_files_defaults_hold_in_what_it_includes() -> None:
    config = combine(MAIN, web=WEB).config
    assert config is not None
    (web,) = config.services
    assert web.forwarding.name == "IPIP"
    assert web.backends[0].weight == 7


def test_sources_are_places_of_the_included_file() -> None:
    config = combine(MAIN, web=WEB).config
    assert config is not None
    assert config.services[0].source == Source("conf.d/web.yaml", 2, 5)
    assert config.services[0].backends[0].source == Source("conf.d/web.yaml", 2, 54)


def test_where_services_stand_means_nothing() -> None:
    together = parse((MAIN + WEB + DNS.partition("\n")[2]).encode(), "lb.yaml").config
    assert together == combine(MAIN, web=WEB, dns=DNS).config
    assert together == combine(MAIN, dns=DNS, web=WEB).config
    assert together == combine(MAIN + WEB, dns=DNS).config


@pytest.mark.parametrize(
    ("included", "found"),
    [
        ("name: edge\n" + WEB, [(codes.NOT_IN_INCLUDED, "1:1")]),
        ("include: [x.yaml]\n" + WEB, [(codes.NOT_IN_INCLUDED, "1:1")]),
        (
            "interface: eth0\nport: 80\n",
            [
                (codes.MISSING_KEY, "1:1"),
                (codes.NOT_IN_INCLUDED, "1:1"),
                (codes.NOT_IN_INCLUDED, "2:1"),
            ],
        ),
        ("servces: []\n", [(codes.NOT_IN_INCLUDED, "1:1")]),
        ("", [(codes.EMPTY, "1:1")]),
        ("# nothing\n", [(codes.EMPTY, "1:1")]),
        ("- {name: web}\n", [(codes.WRONG_TYPE, "1:1")]),
        ("services\n", [(codes.WRONG_TYPE, "1:1")]),
        ("services:\n", [(codes.WRONG_TYPE, "1:10")]),
        ("services: []\n", [(codes.TOO_FEW, "1:11")]),
        ("{}\n", [(codes.MISSING_KEY, "1:1")]),
        ("services: [\n", [(codes.SYNTAX, "2:1")]),
        (WEB.replace("port", "prot"), [(codes.UNKNOWN_KEY, "2:33")]),
        (WEB.replace("10.0.0.1", "10.0.0.300"), [(codes.NOT_AN_ADDRESS, "2:54")]),
        (WEB.replace("10.0.0.1", "0.0.0.1"), [(codes.UNUSABLE_ADDRESS, "2:54")]),
    ],
)
def test_problems_of_an_included_file_have_its_place(
    included: str, found: list[tuple[str, str]]
) -> None:
    parsed = combine(MAIN + DNS, web=included)
    assert parsed.config is None
    expected = [(code, f"conf.d/web.yaml:{place}") for code, place in found]
    assert show(parsed)[: len(expected)] == expected


def test_problems_of_all_files_are_told_at_once_in_order_of_their_places() -> None:
    parsed = combine(MAIN + "wieght: 1\n", web=WEB.replace("80", "0"), dns=DNS.replace("53", "x"))
    assert [str(d.source) for d in parsed.diagnostics] == [
        "conf.d/dns.yaml:2:39",
        "conf.d/web.yaml:2:39",
        "lb.yaml:5:1",
    ]


def test_duplicates_show_both_places() -> None:
    parsed = combine(MAIN + WEB, more=WEB)
    assert [(d.code, str(d.source), d.message) for d in parsed.diagnostics if d.is_error] == [
        (
            codes.DUPLICATE_SERVICE,
            "conf.d/more.yaml:2:12",
            "service 'web' is already defined at lb.yaml:6",
        ),
        (
            codes.DUPLICATE_VIP,
            "conf.d/more.yaml:2:22",
            "192.0.2.1 port 80 (tcp) is already taken by service 'web' at lb.yaml:6",
        ),
    ]


def test_capacities_count_all_files() -> None:
    parsed = combine(MAIN + "limits: {services: 1}\n" + WEB, dns=DNS)
    assert show(parsed) == [(codes.TOO_MANY_SERVICES, "conf.d/dns.yaml:2:5")]


def test_no_service_anywhere_is_an_error() -> None:
    """An emptied directory must not empty the balancer."""
    assert show(combine(MAIN)) == [(codes.TOO_FEW, "lb.yaml:4:1")]


def test_that_no_service_is_left_is_not_told_beside_the_reason() -> None:
    assert show(combine(MAIN, web="")) == [(codes.EMPTY, "conf.d/web.yaml:1:1")]


def test_the_short_form_includes_nothing() -> None:
    short = "interface: eth0\nport: 80\nbackends: [10.0.0.1]\ninclude: [conf.d/*.yaml]\n"
    found = show(combine(short, web=WEB))
    assert found == [(codes.MIXED_FORMS, "lb.yaml:2:1"), (codes.MIXED_FORMS, "lb.yaml:3:1")]


def test_a_file_of_services_alone_says_who_can_judge_it() -> None:
    (problem,) = parse(WEB.encode(), "web.yaml").diagnostics
    assert problem.code == codes.MISSING_KEY
    assert problem.hint == "a file of services only is included by another: check that one"


@pytest.mark.parametrize("value", ["x", "[]", "[1]", "{}", "[[a]]", "['']", "[a, 5]"])
def test_what_the_schema_refuses_is_not_looked_for(value: str) -> None:
    document = read_document(f"interface: eth0\ninclude: {value}\n{WEB}".encode(), "lb.yaml")
    assert [include.pattern for include in list_includes(document)] in ([], ["a"])
    assert judge(document).config is None


def test_more_problems_than_are_shown() -> None:
    bad = "services:\n" + "  - {x: 1}\n" * 600
    parsed = combine(MAIN, one=bad, other=bad)
    assert parsed.config is None
    assert len(parsed.diagnostics) == 1001


# --- the digest ---


def test_a_file_alone_has_its_own_digest() -> None:
    config = parse((MAIN + WEB).encode(), "lb.yaml").config
    assert config is not None
    assert config.sha256 == hashlib.sha256((MAIN + WEB).encode()).hexdigest()


def test_several_files_have_the_digest_of_their_digests() -> None:
    config = combine(MAIN, web=WEB, dns=DNS).config
    assert config is not None
    listed = "".join(hashlib.sha256(t.encode()).hexdigest() + "\n" for t in (MAIN, WEB, DNS))
    assert config.sha256 == hashlib.sha256(listed.encode()).hexdigest()


def test_what_could_not_be_read_is_part_of_the_digest() -> None:
    main = read_document(MAIN.encode(), "lb.yaml")
    unreadable = Document("conf.d/web.yaml", "", None, [])
    assert digest_documents([main]) != digest_documents([main, unreadable])
