"""What the tables came from: the parts that laws don't show."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from ipaddress import IPv4Address

import pytest

from reconciler.config import parse
from reconciler.config.render import render_duration
from reconciler.environment import Environment, InterfaceFacts
from reconciler.errors import Unavailable
from reconciler.export import export_tables
from reconciler.model import BackendState, Config, XdpMode
from reconciler.plan import step
from reconciler.proposal import propose
from reconciler.tables import Tables, make_empty_tables

HEAD = "name: edge\ninterface: [eth1, eth0]\nlimits: {ring_slots: 4096}\n"
WEB = (
    "services:\n  - name: web\n    port: 80\n    ring_size: 251\n    backends:\n"
    "      - {name: a, address: 10.0.0.1}\n      - {name: b, address: 10.0.0.2, weight: 50}\n"
)
FACTS = {
    "eth0": InterfaceFacts(1, (IPv4Address("192.0.2.1"),), transmits=True, redirects=True),
    "eth1": InterfaceFacts(2, (IPv4Address("192.0.2.2"),), transmits=True, redirects=True),
}


def read(text: str) -> Config:
    config = parse(text.encode(), "lb.yaml").config
    assert config is not None
    return config


def apply(text: str, tables: Tables | None = None, now_ns: int = 1) -> Tables:
    config = read(text)
    before = tables or make_empty_tables(4_096)
    facts = {name: FACTS[name] for name in config.interfaces}
    proposal = propose(config, Environment(facts), before, now_ns=now_ns)
    after = reduce(step, proposal.operations, before)
    attached = {name: a._replace(mode=XdpMode.NATIVE) for name, a in after.attachments.items()}
    return replace(after, attachments=dict(sorted(attached.items())))


def export(tables: Tables, **more: object) -> str:
    return export_tables(tables, "edge", read(HEAD + WEB).limits, **more)  # type: ignore[arg-type]


def test_the_whole_text() -> None:
    assert export(apply(HEAD + WEB)) == (
        "# Instance edge, generation 1: what the kernel holds.\n"
        "# It does not hold health, safety, reconcile and metrics: here they have their defaults.\n"
        "name: edge\n"
        "interface: [eth1, eth0]\n"
        "limits: {ring_slots: 4096}\n"
        "services:\n"
        "  - name: web\n"
        "    port: 80\n"
        "    ring_size: 251\n"
        "    backends:\n"
        "      - {name: a, address: 10.0.0.1}\n"
        "      - {name: b, address: 10.0.0.2, weight: 50}\n"
    )


def test_who_left_the_file_is_a_comment() -> None:
    tables = apply(HEAD + WEB)
    fewer = HEAD + WEB.replace("      - {name: b, address: 10.0.0.2, weight: 50}\n", "")
    text = export(apply(fewer, tables, now_ns=2))
    assert text.endswith(
        "      - {name: a, address: 10.0.0.1}\n"
        "      # left the file, stays for its flows: b, 10.0.0.2:80\n"
    )
    assert read(text) == read(fewer)


def test_who_left_the_file_and_is_named_for_its_place_is_named_once() -> None:
    named = HEAD + WEB.replace("{name: b, address: 10.0.0.2, weight: 50}", "10.0.0.2")
    tables = apply(named)
    text = export(apply(named.replace("      - 10.0.0.2\n", ""), tables, now_ns=2))
    assert text.endswith("      # left the file, stays for its flows: 10.0.0.2:80\n")


@pytest.mark.parametrize("mode", ["auto", "native"])
def test_the_mode_that_was_asked_for_is_told_from_the_one_that_was_found(mode: str) -> None:
    text = export(apply(f"{HEAD}xdp_mode: {mode}\n{WEB}"))
    assert read(text).xdp_mode is XdpMode(mode)
    assert "may not be" not in text


def test_without_the_meaning_the_first_interface_is_the_one_with_the_vips() -> None:
    tables = replace(apply(HEAD + "xdp_mode: native\n" + WEB), meta={})
    text = export(tables)
    assert read(text).interfaces == ("eth1", "eth0")
    assert read(text).xdp_mode is XdpMode.AUTO
    assert "# This may not be what the file said" in text


@pytest.mark.parametrize("state", [BackendState.DRAIN, BackendState.MAINT])
def test_an_override_does_not_become_the_files(state: BackendState) -> None:
    tables = apply(HEAD + WEB)
    rows = {
        number: row._replace(state=state) if tables.backend_info[number].name == "b" else row
        for number, row in tables.backends.items()
    }
    tables = replace(tables, backends=rows)
    text = export(tables, overridden=[("web", "b")])
    assert read(text) == read(HEAD + WEB)
    assert "may not be" not in text
    assert "- {name: b, address: 10.0.0.2, weight: 50}  # its state is an override's\n" in text
    unknown = export(tables)
    assert f"weight: 50, state: {state.name.lower()}}}\n" in unknown
    assert "may not be" in unknown


def test_a_state_that_the_file_has_is_kept_under_an_override() -> None:
    tables = apply(HEAD + WEB.replace("weight: 50", "state: drain"))
    text = export(tables, overridden=[("web", "b")])
    assert "{name: b, address: 10.0.0.2, state: drain}" in text


@pytest.mark.parametrize("table", ["attachments", "settings", "service_info", "backends"])
def test_tables_that_are_not_whole_are_no_file(table: str) -> None:
    with pytest.raises(Unavailable, match="instance edge is not whole"):
        export(replace(apply(HEAD + WEB), **{table: {}}))


@pytest.mark.parametrize(
    ("duration_s", "text"),
    [(0, "0h"), (0.001, "1ms"), (1.5, "1500ms"), (90, "90s"), (300, "5m"), (7200, "2h")],
)
def test_durations(duration_s: float, text: str) -> None:
    assert render_duration(duration_s) == text
