"""What a plan means to people: changes and their reasons, slots, upkeep, the guard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from ipaddress import IPv4Address

import numpy as np
import pytest

from reconciler.cli.plan import propose_offline
from reconciler.config import parse
from reconciler.environment import Environment, InterfaceFacts, imagine_environment
from reconciler.maglev import least_moved, share_slots
from reconciler.model import BackendState, Config
from reconciler.overrides import Override, Overrides
from reconciler.plan import step
from reconciler.proposal import Change, Proposal, RingChange, propose
from reconciler.tables import Tables, make_empty_tables

S = 1_000_000_000
SLOTS = 2_048
TEXT = """\
interface: eth0
limits: {ring_slots: 2048}
services:
  - name: web
    vip: 192.0.2.1
    port: 80
    ring_size: 251
    backends:
      - {name: a, address: 10.0.0.1}
      - {name: b, address: 10.0.0.2}
"""
SIZE = 251


def read(text: str) -> Config:
    parsed = parse(text.encode(), "lb.yaml")
    assert parsed.config is not None, parsed.diagnostics
    return parsed.config


def propose_text(
    text: str, observed: Tables | None = None, now_s: float = 1, overrides: Overrides = ()
) -> Proposal:
    config = read(text)
    before = make_empty_tables(SLOTS) if observed is None else observed
    machine = imagine_environment(config)
    return propose(config, machine, before, now_ns=int(now_s * S), overrides=overrides)


def apply(
    text: str, observed: Tables | None = None, now_s: float = 1, overrides: Overrides = ()
) -> Tables:
    proposal = propose_text(text, observed, now_s, overrides)
    after = reduce(step, proposal.operations, proposal.observed)
    assert after == proposal.desired
    return after


def summary(proposal: Proposal) -> list[tuple[str, str, str]]:
    return [(change.address, change.action, change.reason) for change in proposal.changes]


def test_the_first_apply_creates_everything() -> None:
    proposal = propose_text(TEXT)
    assert summary(proposal) == [
        ("interface.eth0", "create", "config"),
        ("service.web", "create", "config"),
        ("service.web.backend.a", "create", "config"),
        ("service.web.backend.b", "create", "config"),
        ("settings", "create", "config"),
    ]
    assert proposal.rings == (RingChange("web", SIZE, 0, 0),)  # no flow has been anywhere yet
    assert proposal.objection is None
    assert not proposal.is_in_sync
    assert proposal.desired.generation == 1
    assert proposal.desired.config_sha256 == proposal.config.sha256
    by_address = {change.address: change for change in proposal.changes}
    backend = by_address["service.web.backend.b"]
    assert backend.before == {}
    facts = {"address": "10.0.0.2", "port": 80, "weight": 100, "state": "ready", "health": "up"}
    assert backend.after == facts
    assert backend.slots == (0, 125)
    assert str(backend.source) == "lb.yaml:10:9"
    assert by_address["service.web"].slots is None
    assert by_address["settings"].source is None


def test_the_same_file_changes_nothing() -> None:
    proposal = propose_text(TEXT, apply(TEXT), 1_000)
    assert proposal.is_in_sync
    assert proposal.operations == ()
    assert proposal.desired.generation == 1
    assert [(r.slots_moved, r.slots_moved_min) for r in proposal.rings] == [(0, 0)]


def test_a_comment_changes_nothing() -> None:
    assert propose_text(TEXT + "# hello\n", apply(TEXT)).operations == ()


def test_a_weight() -> None:
    proposal = propose_text(TEXT.replace("10.0.0.2}", "10.0.0.2, weight: 50}"), apply(TEXT))
    (change,) = proposal.changes
    assert change == Change(
        "service.web.backend.b",
        "update",
        "config",
        {"weight": 100},
        {"weight": 50},
        (125, 84),
        change.source,
    )
    (ring,) = proposal.rings
    least = least_moved(
        share_slots({"a": 100, "b": 100}, SIZE), share_slots({"a": 100, "b": 50}, SIZE)
    )
    assert ring.slots_moved_min == least == 41
    assert least <= ring.slots_moved <= least + 0.02 * SIZE
    assert proposal.desired.generation == 2


def test_a_backend_comes_and_goes() -> None:
    longer = TEXT + "      - {name: c, address: 10.0.0.3}\n"
    added = propose_text(longer, apply(TEXT))
    assert summary(added) == [("service.web.backend.c", "create", "config")]
    assert added.changes[0].slots == (0, 83)
    removed = propose_text(TEXT, apply(longer), 10)
    (change,) = removed.changes
    assert (change.action, change.after, change.slots) == ("delete", {}, (83, 0))
    assert change.source is None
    assert removed.rings[0].slots_moved_min == 83


def test_a_service_goes() -> None:
    two = TEXT + (
        "  - {name: dns, vip: 192.0.2.2, port: 53, protocol: udp, ring_size: 251,"
        " backends: [10.0.0.3]}\n"
    )
    proposal = propose_text(TEXT, apply(two), 10)
    assert summary(proposal) == [
        ("service.dns", "delete", "config"),
        ("service.dns.backend.10.0.0.3:53", "delete", "config"),
    ]
    assert [ring.service for ring in proposal.rings] == ["web"]


def test_another_ring_size_moves_every_slot() -> None:
    proposal = propose_text(TEXT.replace("ring_size: 251", "ring_size: 509"), apply(TEXT))
    assert summary(proposal) == [("service.web", "update", "config")]
    assert proposal.changes[0].before == {"ring_size": 251}
    assert proposal.rings == (RingChange("web", 509, 509, 509),)


def test_a_refused_change_is_planned_and_says_why() -> None:
    proposal = propose_text("hash_seed: 1\n" + TEXT, apply("hash_seed: 2\n" + TEXT))
    assert proposal.objection is not None
    assert "hash seed changes" in proposal.objection
    assert summary(proposal) == [("settings", "update", "config")]


# --- drift: the file is what was applied, the kernel is not ---


def drop_backend(tables: Tables) -> Tables:
    return replace(tables, backends={1: tables.backends[1]}, backend_info=tables.backend_info)


def write_slot(tables: Tables) -> Tables:
    slots = tables.slots.copy()
    slots[0] = 3 - slots[0]
    return replace(tables, slots=slots)


@pytest.mark.parametrize(
    ("spoil", "changes"),
    [
        (drop_backend, [("service.web.backend.b", "create")]),
        (lambda t: replace(t, attachments={}), [("interface.eth0", "create")]),
        (lambda t: replace(t, settings={}), [("settings", "create")]),
        (write_slot, [("service.web.ring", "update")]),
        (
            lambda t: replace(t, nat_replies={}),
            [("nat_replies.10.0.0.1:80", "create"), ("nat_replies.10.0.0.2:80", "create")],
        ),
        (
            lambda t: replace(t, services={e: r for e, r in t.services.items() if e.port}),
            [("services.192.0.2.1:0", "create")],
        ),
    ],
    ids=["backend", "interface", "settings", "slot", "replies", "services"],
)
def test_what_others_wrote_is_drift_and_is_mended(
    spoil: Callable[[Tables], Tables], changes: list[tuple[str, str]]
) -> None:
    applied = apply(TEXT)
    spoilt = spoil(applied)
    proposal = propose_text(TEXT, spoilt, 10)
    assert summary(proposal) == [(*change, "drift") for change in changes]
    mended = reduce(step, proposal.operations, spoilt)
    assert propose_text(TEXT, mended, 10_000).is_in_sync
    assert mended.services == applied.services
    assert mended.nat_replies == applied.nat_replies


def test_drift_is_drift_whatever_the_layout_of_the_file() -> None:
    spoilt = replace(apply(TEXT), settings={})
    assert summary(propose_text(TEXT + "# hello\n", spoilt)) == [("settings", "create", "drift")]


def test_beside_a_change_of_the_file_nothing_is_drift() -> None:
    spoilt = replace(apply(TEXT), settings={})
    changed = TEXT.replace("10.0.0.2}", "10.0.0.2, weight: 50}")
    assert {reason for *_, reason in summary(propose_text(changed, spoilt))} == {"config"}


def test_a_new_program_is_no_drift() -> None:
    config = read(TEXT)
    machine = replace(imagine_environment(config), program_sha256="ab" * 32)
    proposal = propose(config, machine, apply(TEXT), now_ns=S)
    assert summary(proposal) == [("interface.eth0", "update", "config")]


def test_drift_is_drift_after_a_change_of_the_file_that_changed_nothing() -> None:
    own = TEXT.replace("    vip: 192.0.2.1\n", "")
    named = TEXT.replace("192.0.2.1", "198.51.100.1")
    interface = InterfaceFacts(1, (IPv4Address("198.51.100.1"),), True, True)
    machine = Environment({"eth0": interface})
    tables = make_empty_tables(SLOTS)
    for text in (own, named):
        proposal = propose(read(text), machine, tables, now_ns=S)
        tables = proposal.desired
    assert proposal.is_in_sync
    spoilt = replace(tables, settings={})
    assert summary(propose(read(named), machine, spoilt, now_ns=S)) == [
        ("settings", "create", "drift")
    ]


# --- overrides ---


def override(backend: str, state: BackendState = BackendState.DRAIN) -> Override:
    return Override("web", backend, state, "alice", "", 1.0, None)


DRAINED = (override("b"),)


def test_an_override_is_put_on_and_ends() -> None:
    applied = apply(TEXT)
    on = propose_text(TEXT, applied, 10, DRAINED)
    assert summary(on) == [("service.web.backend.b", "update", "override")]
    (change,) = on.changes
    assert (change.before, change.after) == ({"state": "ready"}, {"state": "drain"})
    assert change.slots == (125, 0)
    assert on.overrides == DRAINED
    assert on.desired.generation == 2
    drained = apply(TEXT, applied, 10, DRAINED)
    assert propose_text(TEXT, drained, 11, DRAINED).is_in_sync
    off = propose_text(TEXT, drained, 12)
    assert summary(off) == [("service.web.backend.b", "update", "override")]
    assert off.changes[0].slots == (0, 125)
    # The meaning is the file's: a comment changes nothing of that.
    assert summary(propose_text(TEXT + "# hello\n", drained, 12)) == summary(off)


def test_beside_a_change_of_the_file_only_the_overridden_say_override() -> None:
    changed = TEXT.replace("10.0.0.1}", "10.0.0.1, weight: 50}")
    assert summary(propose_text(changed, apply(TEXT), 10, DRAINED)) == [
        ("service.web.backend.a", "update", "config"),
        ("service.web.backend.b", "update", "override"),
    ]


def test_beside_an_override_drift_is_drift() -> None:
    spoilt = replace(apply(TEXT), settings={})
    assert summary(propose_text(TEXT, spoilt, 10, DRAINED)) == [
        ("service.web.backend.b", "update", "override"),
        ("settings", "create", "drift"),
    ]
    drained = apply(TEXT, apply(TEXT), 10, DRAINED)
    assert summary(propose_text(TEXT, write_slot(drained), 11, DRAINED)) == [
        ("service.web.ring", "update", "drift")
    ]


def test_an_override_may_be_there_before_its_backend() -> None:
    stray = (override("c"),)
    applied = apply(TEXT, None, 1, stray)
    assert applied == apply(TEXT)
    longer = TEXT + "      - {name: c, address: 10.0.0.3}\n"
    proposal = propose_text(longer, applied, 10, stray)
    assert summary(proposal) == [("service.web.backend.c", "create", "config")]
    assert proposal.changes[0].slots == (0, 0)


def test_an_override_holds_no_file_up() -> None:
    both = (override("a"), override("b", BackendState.MAINT))
    emptied = propose_text(TEXT, apply(TEXT), 10, both)
    assert emptied.objection is None
    longer = TEXT + "      - {name: c, address: 10.0.0.3}\n"
    assert propose_text(longer, emptied.desired, 11, both).objection is None
    # Nor does its end.
    assert propose_text(TEXT, emptied.desired, 11).objection is None


# --- upkeep is no change ---


def test_the_end_of_a_window_is_upkeep() -> None:
    changed = TEXT.replace("      - {name: b, address: 10.0.0.2}\n", "")
    moved = apply(changed, apply(TEXT), 10)
    later = propose_text(changed, moved, 1_000)
    assert later.is_in_sync
    assert later.operations != ()
    assert later.desired.generation == moved.generation
    assert "b" not in {info.name for info in later.desired.backend_info.values()}
    assert later.rings[0].slots_moved == 0


def test_what_an_interface_can_do_is_upkeep() -> None:
    config, applied = read(TEXT), apply(TEXT)
    machine = imagine_environment(config)
    slower = {"eth0": replace(machine.interfaces["eth0"], redirects=False)}
    proposal = propose(config, replace(machine, interfaces=slower), applied, now_ns=S)
    assert proposal.is_in_sync
    assert len(proposal.operations) == 1


# --- figures ---


def test_the_plan_says_what_the_apply_moves() -> None:
    longer = TEXT + "      - {name: c, address: 10.0.0.3}\n"
    before = apply(TEXT)
    proposal = propose_text(longer, before)
    after = reduce(step, proposal.operations, before)
    moved = np.count_nonzero((before.slots ^ after.slots) & np.uint32(0xFFFF))
    assert proposal.rings[0].slots_moved == moved > 0


def test_filling_an_empty_service_moves_no_more_than_it_must() -> None:
    config = read(TEXT)
    (service,) = config.services
    out = tuple(replace(backend, state=BackendState.MAINT) for backend in service.backends)
    empty = replace(config, services=(replace(service, backends=out),))
    machine = imagine_environment(config)
    before = propose(empty, machine, make_empty_tables(SLOTS), now_ns=S).desired
    (ring,) = propose(config, machine, before, now_ns=S).rings
    assert ring.slots_moved <= ring.slots_moved_min + 0.01 * SIZE


# --- offline: one file against another ---


def test_a_file_against_an_older_one() -> None:
    longer = TEXT + "      - {name: c, address: 10.0.0.3}\n"
    proposal = propose_offline(read(longer), read(TEXT))
    assert summary(proposal) == [("service.web.backend.c", "create", "config")]
    live = propose_text(longer, apply(TEXT))
    assert proposal.rings == live.rings
    assert [change.slots for change in proposal.changes] == [c.slots for c in live.changes]


def test_a_file_against_itself() -> None:
    assert propose_offline(read(TEXT), read("# other\n" + TEXT)).is_in_sync


@pytest.mark.parametrize(("old", "new"), [(2_048, 4_096), (4_096, 2_048)])
def test_files_with_other_limits_can_be_compared(old: int, new: int) -> None:
    texts = [TEXT.replace("ring_slots: 2048", f"ring_slots: {slots}") for slots in (old, new)]
    assert propose_offline(read(texts[1]), read(texts[0])).is_in_sync
