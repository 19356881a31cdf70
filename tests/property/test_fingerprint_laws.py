"""Laws of `reconciler.fingerprint`: equal exactly where every flow gets the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.fingerprint import fingerprint_rings
from reconciler.model import Affinity, BackendState, Config, Forwarding, Service
from reconciler.tables import Endpoint, Tables, pack_slots, unpack_slots

from .test_desired_laws import configs, follow, histories, steps


def name_fingerprints(tables: Tables) -> dict[str, str]:
    found = fingerprint_rings(tables).services
    return {tables.service_info[number].name: digest for number, digest in found.items()}


def list_destinations(tables: Tables) -> dict[Endpoint, object]:
    """By VIP, what decides where new flows go, spelt out slot by slot."""
    named: dict[int, object] = {
        number: (tables.backend_info[number].name, row.address, row.port, row.forwarding)
        for number, row in tables.backends.items()
    }
    return {
        vip: (
            tables.settings[0].hash_seed,
            row.affinity,
            [
                named.get(number)
                for number in unpack_slots(
                    tables.slots[row.ring_offset : row.ring_offset + row.ring_size]
                )[0].tolist()
            ],
        )
        for vip, row in tables.services.items()
        if row.ring_size
    }


def swap_endings(service: Service, one: int, other: int) -> Service:
    """The same names with two backends' addresses changed over."""
    backends = list(service.backends)
    one, other = one % len(backends), other % len(backends)
    first, second = backends[one], backends[other]
    backends[one] = replace(first, address=second.address)
    backends[other] = replace(second, address=first.address)
    return replace(service, backends=tuple(backends))


@st.composite
def edits(draw: st.DrawFn, config: Config) -> Config:
    """A file that differs from `config` in one place, or in nothing that counts."""
    which = draw(st.integers(0, len(config.services) - 1))
    service = config.services[which]
    backend = draw(st.integers(0, len(service.backends) - 1))

    def edit_backend(**edit: object) -> Service:
        backends = list(service.backends)
        backends[backend] = replace(backends[backend], **edit)  # type: ignore[arg-type]
        return replace(service, backends=tuple(backends))

    kind = draw(st.integers(0, 9))
    if kind == 0:
        return replace(config, hash_seed=draw(st.sampled_from([1, 2])))
    edited = [
        lambda: service,
        lambda: replace(service, drain_timeout_s=7.0, name="other"),
        lambda: replace(service, affinity=draw(st.sampled_from(Affinity))),
        lambda: replace(
            service, forwarding=draw(st.sampled_from([Forwarding.NAT, Forwarding.GUE]))
        ),
        lambda: replace(service, ring_size=draw(st.sampled_from([251, 509]))),
        lambda: edit_backend(weight=draw(st.sampled_from([1, 50, 100]))),
        lambda: edit_backend(state=draw(st.sampled_from(BackendState))),
        lambda: swap_endings(service, backend, draw(st.integers(0, 4))),
        lambda: replace(service, port=draw(st.sampled_from([service.port, 9000]))),
    ][kind - 1]()
    listed = [*config.services]
    listed[which] = edited
    return replace(config, services=tuple(sorted(listed, key=lambda each: each.name)))


@settings(deadline=None, max_examples=40)
@given(histories, histories, configs(), st.sampled_from([0, 5, 90]))
def test_balancers_of_different_pasts_have_one_fingerprint(
    one: list[tuple[Config, int]], other: list[tuple[Config, int]], config: Config, gap_s: int
) -> None:
    first, second = follow([*one, (config, 5)])[0], follow([*other, (config, gap_s)])[0]
    assert fingerprint_rings(first).whole == fingerprint_rings(second).whole
    assert name_fingerprints(first) == name_fingerprints(second)


@settings(deadline=None, max_examples=60)
@given(histories, st.data())
def test_fingerprints_are_equal_exactly_where_destinations_are(
    history: list[tuple[Config, int]], data: st.DataObject
) -> None:
    config = data.draw(configs())
    edited = data.draw(edits(config))
    before, after = follow([(config, 0)])[0], follow([*history, (edited, 5)])[0]
    is_same = list_destinations(before) == list_destinations(after)
    assert (fingerprint_rings(before).whole == fingerprint_rings(after).whole) == is_same
    services = name_fingerprints(before).values(), name_fingerprints(after).values()
    assert (sorted(services[0]) == sorted(services[1])) == is_same


@settings(deadline=None, max_examples=40)
@given(st.lists(steps, min_size=1, max_size=3), st.data())
def test_one_slot_that_leads_elsewhere_is_seen(
    history: list[tuple[Config, int]], data: st.DataObject
) -> None:
    tables, _ = follow(history)
    owners = {row.id: row for row in tables.services.values() if row.ring_size}
    row = owners[data.draw(st.sampled_from(sorted(owners)))]
    index = row.ring_offset + data.draw(st.integers(0, row.ring_size - 1))
    backend, previous = unpack_slots(tables.slots.copy())
    own = {number for number, each in tables.backends.items() if each.service == row.id}
    backend[index] = data.draw(st.sampled_from(sorted({0, *own} - {int(backend[index])})))
    slots = pack_slots(backend, previous)
    meddled = fingerprint_rings(replace(tables, slots=slots))
    assert meddled.whole != fingerprint_rings(tables).whole
    changed = {n for n, d in fingerprint_rings(tables).services.items() if meddled.services[n] != d}
    assert changed == {row.id}


@settings(deadline=None, max_examples=40)
@given(st.lists(steps, min_size=1, max_size=3), st.integers(0, 2**32 - 1))
def test_what_moved_slots_remember_plays_no_part(
    history: list[tuple[Config, int]], seed: int
) -> None:
    tables, _ = follow(history)
    backend, _ = unpack_slots(tables.slots)
    previous = np.random.default_rng(seed).integers(0, 9, len(backend), np.uint16)
    slots = pack_slots(backend, previous)
    assert fingerprint_rings(replace(tables, slots=slots)) == fingerprint_rings(tables)
