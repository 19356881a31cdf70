"""Laws of an apply, by the controller's own code on a data plane that is nothing but `step`.

An apply ends in one of three ways: what the file says is there and verified; what was
before is there and verified; or it stopped in the middle, and then every slot is as it
was or as it shall be, and whoever comes next finishes.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.apply import Outcome
from reconciler.config import parse
from reconciler.errors import Degraded, RolledBack, XdplbError
from reconciler.model import Config
from reconciler.plan import Operation, Store
from reconciler.tables import ROW_TABLES, Tables

from ..fake import FakeDataplane, FakeInstance
from .test_plan_laws import find_fault, services_without_backends

numbers = st.integers(1, 8)
HEAD = {"interface": "eth0", "limits": {"ring_slots": 4096, "backends": 64, "services": 8}}


@st.composite
def backends(draw: st.DrawFn) -> list[Any]:
    chosen = draw(st.lists(numbers, min_size=1, max_size=4, unique=True))
    weights = st.sampled_from([1, 50, 100])
    return [
        {"name": f"b{n}", "address": f"10.0.0.{n}", "weight": draw(weights)}
        if draw(st.booleans())
        else f"10.0.0.{n}"
        for n in chosen
    ]


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """A small lb.yaml in the long form, with services that come and go between two of them."""
    names = draw(st.sets(st.sampled_from(["web", "dns", "api"]), min_size=1))
    return HEAD | {
        "services": [
            {
                "name": name,
                "vip": f"192.0.2.{draw(st.integers(1, 2))}",
                "port": {"web": 80, "dns": 53, "api": 81}[name],
                "protocol": "udp" if name == "dns" else "tcp",
                "ring_size": draw(st.sampled_from([251, 251, 509])),
                "backends": draw(backends()),
            }
            for name in sorted(names)
        ]
    }


def read(document: Any, text: str = "") -> Config:
    parsed = parse((text or json.dumps(document)).encode(), "lb.yaml")
    assert parsed.config, parsed.diagnostics
    return parsed.config


def reconcile(dataplane: FakeDataplane, config: Config) -> Outcome:
    return FakeInstance(dataplane).reconcile(config, allow_large_change=True)


def prepare(document: Any) -> FakeDataplane:
    dataplane = FakeDataplane()
    reconcile(dataplane, read(document))
    return dataplane


several = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
few = settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])


@several
@given(documents(), documents())
def test_apply_then_plan_is_empty(before: Any, after: Any) -> None:
    dataplane = prepare(before)
    config = read(after)
    outcome = reconcile(dataplane, config)
    again = FakeInstance(dataplane).propose(config)
    assert again.operations == again.changes == ()
    assert again.is_in_sync
    assert dataplane.read().generation == outcome.proposal.desired.generation


@several
@given(documents(), documents())
def test_apply_moves_just_what_the_plan_says(before: Any, after: Any) -> None:
    dataplane = prepare(before)
    planned = FakeInstance(dataplane).propose(read(after))
    outcome = reconcile(dataplane, read(after))
    assert outcome.proposal.rings == planned.rings
    assert outcome.proposal.changes == planned.changes


def shuffle(value: Any, random: Any) -> Any:
    if isinstance(value, dict):
        entries = [(key, shuffle(item, random)) for key, item in value.items()]
        random.shuffle(entries)
        return dict(entries)
    if isinstance(value, list):
        return random.sample([shuffle(item, random) for item in value], len(value))
    return value


@several
@given(documents(), st.randoms(use_true_random=False), st.sampled_from([None, True, False]))
def test_order_comments_and_layout_write_nothing(document: Any, random: Any, flow: Any) -> None:
    dataplane = prepare(document)
    before = dataplane.read()
    laid_out = yaml.safe_dump(shuffle(document, random), default_flow_style=flow, sort_keys=False)
    text = "".join(f"# why\n\n{line}  # {n}\n" for n, line in enumerate(laid_out.splitlines()))
    outcome = reconcile(dataplane, read(None, text))
    assert outcome.writes == 0
    assert dataplane.read() is before


# --- faults ---


class Stopped(BaseException):
    """kill -9."""


Write = Callable[[Operation], None]
Fault = Callable[[Write, Operation], None]


def refuse(_write: Write, _operation: Operation) -> None:
    raise XdplbError("the kernel refuses")


def break_down(_write: Write, _operation: Operation) -> None:
    raise OSError(12, "Cannot allocate memory")


def lose(_write: Write, _operation: Operation) -> None:
    """Say nothing and do nothing."""


def stop_before(_write: Write, _operation: Operation) -> None:
    raise Stopped


def stop_within(write: Write, operation: Operation) -> None:
    if isinstance(operation, Store):
        half = len(operation.indexes) // 2
        write(Store(operation.indexes[:half], operation.words[:half]))
    raise Stopped


class Writes:
    """A data plane's `write` that fails at the k-th call, and if it lasts at all after it."""

    def __init__(self, write: Write, number: int, fault: Fault, lasts: bool) -> None:
        self.write, self.number, self.fault, self.lasts = write, number, fault, lasts
        self.calls = 0

    def __call__(self, operation: Operation) -> None:
        self.calls += 1
        if self.calls == self.number or (self.lasts and self.has_struck):
            self.fault(self.write, operation)
        else:
            self.write(operation)

    @property
    def has_struck(self) -> bool:
        return self.calls >= self.number


def fail_at_each_write(
    before: Any, fault: Fault, *, lasts: bool = False
) -> Iterator[tuple[FakeDataplane, Writes]]:
    """Yield, for every k, a data plane on which the k-th write fails."""
    for number in itertools.count(1):
        dataplane = prepare(before)
        writes = Writes(dataplane.write, number, fault, lasts)
        dataplane.write = writes  # type: ignore[method-assign]
        yield dataplane, writes
        if not writes.has_struck:
            return


def assert_correct(tables: Tables, *sides: Tables) -> None:
    may_lead_nowhere = set().union(*(services_without_backends(side) for side in sides))
    assert find_fault(tables, may_lead_nowhere) == ""


@few
@given(documents(), documents(), st.sampled_from([refuse, break_down]))
def test_a_write_that_fails_is_taken_back_with_all_before_it(
    before: Any, after: Any, fault: Any
) -> None:
    for dataplane, writes in fail_at_each_write(before, fault):
        was = dataplane.read()
        try:
            reconcile(dataplane, read(after))
        except RolledBack:
            assert writes.has_struck
            assert dataplane.read() == was
        else:
            assert not writes.has_struck


@few
@given(documents(), documents())
def test_when_taking_back_fails_too_it_says_so(before: Any, after: Any) -> None:
    for dataplane, writes in fail_at_each_write(before, refuse, lasts=True):
        was = dataplane.read()
        desired = FakeInstance(dataplane).propose(read(after)).desired
        try:
            reconcile(dataplane, read(after))
        except Degraded:
            assert_correct(dataplane.read(), was, desired)
        except RolledBack:  # nothing had been written that was to be taken back
            assert dataplane.read() == was
        else:
            assert not writes.has_struck


@few
@given(documents(), documents())
def test_a_write_that_is_lost_is_noticed(before: Any, after: Any) -> None:
    for dataplane, _ in fail_at_each_write(before, lose):
        was = dataplane.read()
        try:
            reconcile(dataplane, read(after))
        except RolledBack:
            assert dataplane.read() == was
        else:
            assert FakeInstance(dataplane).propose(read(after)).operations == ()


@few
@given(documents(), documents(), st.sampled_from([stop_before, stop_within]))
def test_killed_at_any_write_slots_are_old_or_new_and_the_next_pass_finishes(
    before: Any, after: Any, fault: Any
) -> None:
    config = read(after)
    for dataplane, writes in fail_at_each_write(before, fault):
        was = dataplane.read()
        desired = FakeInstance(dataplane).propose(config).desired
        try:
            reconcile(dataplane, config)
        except Stopped:
            halfway = dataplane.read()
            is_old_or_new = (halfway.slots == was.slots) | (halfway.slots == desired.slots)
            assert np.all(is_old_or_new)
            assert_correct(halfway, was, desired)
            reconcile(dataplane, config)
        else:
            assert not writes.has_struck
        assert FakeInstance(dataplane).propose(config).operations == ()
        assert_correct(dataplane.read(), was, desired)


# --- the read-back ---

# The first look is what the plan starts from.
LOOK_THAT_VERIFIES = 2


def spoil_each_row(tables: Tables) -> Iterator[tuple[str, Tables]]:
    """Yield these tables, once for every row that is missing and every ring that is off."""
    for name in ROW_TABLES:
        rows = tables.rows(name)
        for key in rows:
            spoilt: dict[str, Any] = {name: {k: row for k, row in rows.items() if k != key}}
            yield f"{name}[{key}]", replace(tables, **spoilt)
    for row in {row for row in tables.services.values() if row.ring_size}:
        slots = tables.slots.copy()
        slots[row.ring_offset] = 0
        yield f"ring of {row.id}", replace(tables, slots=slots)


@few
@given(documents(), documents())
def test_a_read_back_that_differs_anywhere_is_not_believed(before: Any, after: Any) -> None:
    config = read(after)
    desired = FakeInstance(prepare(before)).propose(config).desired
    for place, spoilt in spoil_each_row(desired):
        dataplane = prepare(before)
        was, looks, look = dataplane.read(), 0, dataplane.read
        if not FakeInstance(dataplane).propose(config).operations:
            return

        def read_wrongly(spoilt: Tables = spoilt, look: Any = look) -> Tables:
            nonlocal looks
            looks += 1
            return spoilt if looks == LOOK_THAT_VERIFIES else look()

        dataplane.read = read_wrongly  # type: ignore[method-assign]
        with pytest.raises(RolledBack, match="read back, the kernel differs"):
            FakeInstance(dataplane).reconcile(config, allow_large_change=True)
        assert look() == was, place
