"""What becomes of established connections, change by change."""

import dataclasses

import numpy as np
import pytest

from reconciler.config import parse
from reconciler.disruption import Ending, find_disruptions
from reconciler.environment import imagine_environment
from reconciler.model import Protocol
from reconciler.proposal import propose
from reconciler.tables import make_empty_tables

S = 1_000_000_000
SLOTS = 4096
WEB = """\
interface: eth0
limits: {ring_slots: 4096}
services:
  - name: web
    vip: 192.0.2.1
    port: 80
    ring_size: 251
    backends:
      - {name: a, address: 10.0.0.1}
      - {name: b, address: 10.0.0.2}
      - {name: c, address: 10.0.0.3}
      - {name: d, address: 10.0.0.4}
"""


def step(text, observed=None, now_s=1):
    parsed = parse(text.encode(), "lb.yaml")
    assert parsed.config, parsed.diagnostics
    before = make_empty_tables(SLOTS) if observed is None else observed
    return propose(parsed.config, imagine_environment(parsed.config), before, now_ns=now_s * S)


def disrupt(before, after, remembered=None, now_s=10):
    observed = step(before).desired
    return find_disruptions(step(after, observed, now_s).desired, observed, remembered)


def replace(old, new):
    assert old in WEB
    return WEB.replace(old, new)


def test_nothing_is_touched_by_the_same_file():
    assert disrupt(WEB, WEB + "# a comment\n") == ()


def test_a_new_service_touches_nobody():
    more = WEB + "  - {name: dns, vip: 192.0.2.2, port: 53, ring_size: 251, backends: [10.0.0.9]}\n"
    assert disrupt(WEB, more) == ()
    empty = make_empty_tables(SLOTS)
    assert find_disruptions(step(WEB).desired, empty) == ()


@pytest.mark.parametrize(
    "after",
    [
        WEB + "      - {name: e, address: 10.0.0.5}\n",
        replace("10.0.0.4}", "10.0.0.4, weight: 10}"),
        replace("name: web", "name: shop"),
    ],
    ids=["added", "weighted", "renamed"],
)
def test_no_connection_breaks(after):
    for one in disrupt(WEB, after):
        assert (one.broken_share, one.causes) == (0.0, ())


def test_a_backend_that_leaves_has_a_while():
    (one,) = disrupt(WEB, replace("      - {name: d, address: 10.0.0.4}\n", ""))
    assert (one.service, one.broken_share, one.causes) == ("web", 0.0, ())
    assert one.endings == (Ending("d", 300.0, None),)


def test_remembered_flows_are_counted():
    counts = np.array([0, 1, 2, 3, 4])
    (one,) = disrupt(WEB, replace("      - {name: d, address: 10.0.0.4}\n", ""), counts)
    assert one.endings == (Ending("d", 300.0, 4),)


QUARTER = pytest.approx(0.25, abs=0.005)


@pytest.mark.parametrize(
    ("after", "share", "cause"),
    [
        (replace("10.0.0.4", "10.0.0.9"), QUARTER, "d gets another address or port"),
        (replace("10.0.0.4}", "10.0.0.4, port: 81}"), QUARTER, "d gets another address or port"),
        (replace("    ring_size", "    forwarding: gue\n    ring_size"), 1.0, "another forwarding"),
        (replace("192.0.2.1", "192.0.2.9"), 1.0, "nothing listens on 192.0.2.1 port 80 any more"),
        (replace("port: 80", "port: 81"), 1.0, "nothing listens on 192.0.2.1 port 80 any more"),
        ("hash_seed: 1\n" + WEB, pytest.approx(0.75, abs=0.01), "another hash_seed"),
        (
            replace("port: 80", "port: 80\n    affinity: client"),
            pytest.approx(0.75, abs=0.01),
            "another affinity",
        ),
    ],
)
def test_what_breaks_and_why(after, share, cause):
    (one,) = disrupt(WEB, after)
    assert one.broken_share == share
    assert one.causes == (cause,)


def test_a_service_that_goes_takes_its_connections_along():
    more = WEB + "  - {name: dns, vip: 192.0.2.2, port: 53, ring_size: 251, backends: [10.0.0.9]}\n"
    (one,) = disrupt(more, WEB)
    assert (one.service, one.broken_share) == ("dns", 1.0)


def test_a_backend_that_may_not_stay_breaks_at_once():
    now = WEB + "defaults: {drain_timeout: 0s}\n"
    (one,) = disrupt(now, now.replace("      - {name: d, address: 10.0.0.4}\n", ""))
    assert one.causes == ("d goes at once",)
    assert one.broken_share == QUARTER
    assert one.endings == ()


@pytest.mark.parametrize(("before", "after"), [(251, 509), (1009, 251)])
def test_another_ring_size_breaks_what_it_can_not_remember(before, after):
    """A slot of the one ring overlaps several of the other; one of them is remembered."""
    (one,) = disrupt(
        replace("ring_size: 251", f"ring_size: {before}"),
        replace("ring_size: 251", f"ring_size: {after}"),
    )
    assert one.causes == ("another ring_size",)
    # Somebody else's, where it is not remembered, in three cases of four.
    assert 0 < one.broken_share < 0.75


def test_the_share_of_another_ring_size_is_what_a_walk_over_the_hashes_finds():
    before = step(WEB).desired
    after = step(replace("ring_size: 251", "ring_size: 509"), before, 10).desired
    (one,) = find_disruptions(after, before)
    hashes = np.arange(0, 2**32, 4001, dtype=np.uint64)

    def find_home(tables):
        (row,) = {row for row in tables.services.values() if row.ring_size}
        words = tables.slots[row.ring_offset :][: row.ring_size]
        backend, previous = words.view(np.uint16).reshape(-1, 2).T
        return np.where(previous, previous, backend)[hashes * row.ring_size >> np.uint64(32)]

    lost = np.mean(find_home(before) != find_home(after))
    assert one.broken_share == pytest.approx(lost, abs=0.001)


def test_a_second_move_within_the_window_keeps_the_first_owner():
    first = step(WEB).desired
    second = step(WEB + "      - {name: e, address: 10.0.0.5}\n", first, 10).desired
    third = step(replace("10.0.0.4}", "10.0.0.4, weight: 7}"), second, 20).desired
    assert all(one.broken_share == 0 for one in find_disruptions(third, second))


@pytest.mark.parametrize("open_flows", [0, 3])
def test_who_leaves_within_a_window_has_only_what_is_remembered(open_flows):
    """Its slots keep their older owner, so no slot tells of its flows."""
    renamed = WEB.replace("name: d,", "name: e,")
    first = step(WEB).desired
    second = step(renamed, first, 10).desired
    (newer,) = [i for i, info in second.backend_info.items() if info.name == "e"]
    counts = np.zeros(1 << 16, np.int64)
    counts[newer] = open_flows
    third = step(renamed.replace("      - {name: e, address: 10.0.0.4}\n", ""), second, 20).desired
    (one,) = find_disruptions(third, second, counts)
    endings = [each for each in one.endings if each.backend == "e"]
    assert endings == ([Ending("e", 300.0, open_flows)] if open_flows else [])


def test_what_another_service_remembers_is_not_told_here():
    more = WEB + "  - {name: dns, vip: 192.0.2.2, port: 53, ring_size: 251, backends: [10.0.0.9]}\n"
    counts = np.full(1 << 16, 2)
    after = more.replace("      - {name: d, address: 10.0.0.4}\n", "")
    both = after.replace("[10.0.0.9]", "[10.0.0.8]")
    assert {
        one.service: [e.backend for e in one.endings] for one in disrupt(more, both, counts)
    } == {
        "dns": ["10.0.0.9:53"],
        "web": ["d"],
    }


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_what_is_never_remembered_moves_with_its_slot(protocol):
    text = replace("port: 80", f"port: 80\n    protocol: {protocol}\n    flow_tracking: never")
    (one,) = disrupt(text, text + "      - {name: e, address: 10.0.0.5}\n")
    assert one.protocol is Protocol[protocol.upper()]
    assert one.causes == ("flow_tracking: never",)
    assert one.broken_share == pytest.approx(0.2, abs=0.03)


ALWAYS = replace("ring_size: 251", "flow_tracking: always\n    ring_size: 251")


@pytest.mark.parametrize(
    "after",
    [
        "hash_seed: 1\n" + ALWAYS,
        ALWAYS.replace("ring_size: 251", "ring_size: 509"),
        ALWAYS.replace("    port: 80", "    affinity: client\n    port: 80"),
        ALWAYS.replace("always", "on_change"),
    ],
    ids=["hash_seed", "ring_size", "affinity", "flow_tracking"],
)
def test_what_is_always_remembered_survives_another_hash(after):
    for one in disrupt(ALWAYS, after):
        assert (one.broken_share, one.causes) == (0.0, ())


def test_what_is_always_remembered_ends_with_its_backend():
    (one,) = disrupt(ALWAYS, ALWAYS.replace("10.0.0.4}", "10.0.0.4, state: maint}"))
    assert one.causes == ("d goes into maint",)
    assert one.broken_share == QUARTER


def test_maint_breaks_what_a_backend_has():
    (one,) = disrupt(WEB, replace("10.0.0.4}", "10.0.0.4, state: maint}"))
    assert one.causes == ("d goes into maint",)
    assert one.broken_share == QUARTER
    assert one.endings == ()


@pytest.mark.parametrize("drained", ["state: drain", "weight: 0"])
def test_a_backend_that_drains_has_as_long_as_it_needs(drained):
    (one,) = disrupt(WEB, replace("10.0.0.4}", f"10.0.0.4, {drained}}}"))
    assert (one.broken_share, one.causes) == (0.0, ())
    assert one.endings == (Ending("d", None, None),)


def test_drift_that_is_mended_moves_no_connection():
    tables = step(WEB).desired
    slots = tables.slots.copy()
    slots[0], slots[1] = slots[1], slots[0]
    spoilt = dataclasses.replace(tables, slots=slots)
    (one,) = find_disruptions(step(WEB, spoilt, 10).desired, spoilt)
    assert one.broken_share == 0
