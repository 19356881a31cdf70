"""What changes of the file do to flows, here and in other designs.

`pytest -s` prints the figures of docs/adr/0003-moved-slots.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.tables import unpack_slots

from .simulation import (
    DRAIN,
    FIRST_STRANGER,
    FLOOD_PACKETS,
    READY,
    RING_SIZE,
    Clients,
    Edit,
    Fleet,
    Flood,
    Forgetful,
    Modulo,
    Recalling,
    Xdplb,
    make_config,
    play,
)

# --- scenarios: ten backends of equal weight, every edit 20 s into a window of 60 s ---

TEN: Fleet = {f"b{n}": (100, READY) for n in range(1, 11)}


def without(fleet: Fleet, *names: str) -> Fleet:
    return {name: one for name, one in fleet.items() if name not in names}


def replace_one_by_one(fleet: Fleet) -> Iterator[Fleet]:
    for number, name in enumerate(list(fleet), start=len(fleet) + 1):
        fleet = {**without(fleet, name), f"b{number}": (100, READY)}
        yield fleet


def grow_and_shrink(fleet: Fleet) -> Iterator[Fleet]:
    grown = fleet
    for number in range(11, 16):
        grown = {**grown, f"b{number}": (100, READY)}
        yield grown
    for number in range(15, 10, -1):
        grown = without(grown, f"b{number}")
        yield grown


SCENARIOS: dict[str, list[Fleet]] = {
    "add one": [{**TEN, "b11": (100, READY)}],
    "remove one": [without(TEN, "b5")],
    "halve one's weight": [{**TEN, "b5": (50, READY)}],
    "drain one": [{**TEN, "b5": (100, DRAIN)}],
    "remove one and bring it back": [without(TEN, "b5"), TEN],
    "grow to 15, shrink to 10": list(grow_and_shrink(TEN)),
    "replace all ten, one by one": list(replace_one_by_one(TEN)),
}


def make_edits(fleets: Sequence[Fleet]) -> list[Edit]:
    return [Edit(make_config(fleet)) for fleet in (TEN, *fleets)]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_flow_that_sends_once_a_window_is_broken(scenario: str) -> None:
    edits = make_edits(SCENARIOS[scenario])
    clients = Clients()
    product = Xdplb(clients)
    tally = play(product, edits, flows=1_500, opens=20)
    assert tally.broken == 0
    assert tally.opened > 1_500
    plain = play(Forgetful(clients), edits, flows=1_500, opens=20)
    modulo = play(Modulo(clients), edits, flows=1_500, opens=20)
    recalling = play(Recalling(clients), edits, flows=1_500, opens=20)
    silent = Xdplb(clients)
    idle = play(silent, edits, flows=1_500, idle=True)
    print(
        f"\n{scenario:<30} {len(edits) - 1:>2} edits, {product.moved / RING_SIZE:>7.1%} of slots"
        f" moved; broken: xdplb {tally.broken_percent:.2f} %, idle {idle.broken_percent:.2f} %,"
        f" LRU {recalling.broken_percent:.2f} %, no memory {plain.broken_percent:.2f} %,"
        f" i mod n {modulo.broken_percent:.2f} %"
    )
    # Who has been silent for a whole window is at the mercy of its slot, and of nothing else.
    assert idle.broken <= plain.broken + plain.ended
    assert idle.broken_percent <= 100 * silent.moved / RING_SIZE + 3


@pytest.mark.parametrize("flood", [Flood(is_syn=True), Flood(is_syn=False)], ids=["SYN", "ACK"])
@pytest.mark.parametrize("scenario", ["add one", "replace all ten, one by one"])
def test_no_flood_breaks_a_flow_that_shows_itself_twice(scenario: str, flood: Flood) -> None:
    edits = make_edits(SCENARIOS[scenario])
    clients = Clients(FIRST_STRANGER + FLOOD_PACKETS)
    tally = play(Xdplb(clients), edits, flows=1_500, opens=20, packets=2, flood=flood)
    single = play(Xdplb(clients), edits, flows=1_500, opens=20, flood=flood)
    recalling = play(Recalling(clients), edits, flows=1_500, opens=20, packets=2, flood=flood)
    print(
        f"\n{scenario:<30} {'SYN' if flood.is_syn else 'ACK'} flood; broken:"
        f" xdplb {tally.broken_percent:.2f} %, single packets {single.broken_percent:.2f} %,"
        f" LRU {recalling.broken_percent:.2f} %"
    )
    assert tally.broken == 0
    assert recalling.broken > 0


@st.composite
def careers(draw: st.DrawFn) -> list[Edit]:
    """Files with random backends, weights and drains, at random times."""
    edits = []
    for _ in range(draw(st.integers(2, 7))):
        names = sorted(draw(st.sets(st.integers(1, 8), min_size=2, max_size=6)))
        fleet = {
            f"b{n}": (
                draw(st.sampled_from([10, 100])),
                draw(st.sampled_from([READY, READY, DRAIN])),
            )
            for n in names
        }
        fleet[f"b{names[0]}"] = (100, READY)
        edits.append(Edit(make_config(fleet, 251), draw(st.integers(1, 9))))
    return edits


@settings(deadline=None, max_examples=25)
@given(careers())
def test_no_career_of_a_file_breaks_a_flow_whose_backend_lives(edits: list[Edit]) -> None:
    assert play(Xdplb(Clients(2_000)), edits, flows=150, opens=5).broken == 0


@settings(deadline=None, max_examples=10)
@given(careers())
def test_once_its_flows_have_ended_a_balancer_remembers_nothing(edits: list[Edit]) -> None:
    balancer = Xdplb(Clients(2_000))
    play(balancer, edits, flows=150, opens=5)
    balancer.flows.clear()
    for seconds in (100_000, 100_010):
        balancer.reconcile(edits[-1].config, seconds)
    _, previous = unpack_slots(balancer.tables.slots)
    assert not previous.any()


def test_draining_every_backend_breaks_no_flow() -> None:
    edits = [TEN, dict.fromkeys(TEN, (100, DRAIN))]
    tally = play(Xdplb(Clients(1_000)), [Edit(make_config(fleet)) for fleet in edits], flows=500)
    assert tally.broken == 0


@pytest.mark.parametrize("ring_size", [509, 1_013, 2_027])
def test_a_ring_of_another_size_keeps_what_its_slots_have_in_common(ring_size: int) -> None:
    edits = [Edit(make_config(TEN)), Edit(make_config(TEN, ring_size))]
    clients = Clients()
    tally = play(Xdplb(clients), edits, flows=1_500, opens=20, packets=2)
    plain = play(Forgetful(clients), edits, flows=1_500, opens=20, packets=2)
    print(
        f"\n{f'ring of {RING_SIZE} to {ring_size} slots':<30}"
        f" broken: xdplb {tally.broken_percent:.2f} %, no memory {plain.broken_percent:.2f} %"
    )
    # A new slot takes the owner of its middle; the flows at its edges may have had another.
    assert tally.broken < 0.6 * plain.broken
