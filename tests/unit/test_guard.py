"""What the guard refuses, and what it lets pass."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from reconciler.config import parse
from reconciler.guard import find_objection, find_objection_to_file, find_override_objection
from reconciler.model import BackendState, Config, Safety
from reconciler.overrides import Override, Overrides, apply_overrides
from reconciler.resources import Resources


def resources(services: dict[str, Iterable[int]], seed: int = 1) -> Resources:
    """Services with backends numbered so."""
    found: Resources = {"settings": {"hash_seed": seed}}
    for name, numbers in services.items():
        found[f"service.{name}"] = {"name": name, "ring_size": 251}
        for number in numbers:
            found[f"service.{name}.backend.b{number}"] = {"state": "ready", "weight": 100}
    return found


def turn(found: Resources, address: str, **attributes: object) -> Resources:
    return {**found, address: {**found[address], **attributes}}


@pytest.mark.parametrize(
    ("present", "kept", "percent", "reason"),
    [
        (3, 1, 30, None),  # of two or three, one is always too many percent
        (3, 2, 0, None),
        (4, 3, 30, None),
        (4, 2, 30, "removes 2 of 4 backends (50 %)"),
        (4, 3, 24, "removes 1 of 4 backends (25 %)"),
        (4, 3, 25, None),
        (10, 7, 30, None),
        (10, 6, 30, "removes 4 of 10 backends (40 %)"),
        (10, 9, 0, "removes 1 of 10 backends (10 %)"),
        (10, 1, 100, None),
        (10, 10, 0, None),
    ],
)
def test_how_many_percent_may_go(present: int, kept: int, percent: int, reason: str | None) -> None:
    before, after = resources({"web": range(present)}), resources({"web": range(kept)})
    objection = find_objection(Safety(max_remove_percent=percent), after, before)
    expected = reason and f"service web: {reason}, safety.max_remove_percent is {percent}"
    assert objection == expected


def test_replacing_is_removing() -> None:
    before, after = resources({"web": range(4)}), resources({"web": range(2, 6)})
    objection = find_objection(Safety(), after, before)
    assert objection is not None
    assert "removes 2 of 4" in objection


@pytest.mark.parametrize("attributes", [{"state": "drain"}, {"state": "maint"}, {"weight": 0}])
def test_who_gets_no_new_flows_is_removed_too(attributes: dict[str, object]) -> None:
    before = resources({"web": range(4)})
    after = before
    for number in (0, 1):
        after = turn(after, f"service.web.backend.b{number}", **attributes)
    assert "removes 2 of 4" in str(find_objection(Safety(), after, before))
    # Coming back is no removal, and who was out already does not count.
    assert find_objection(Safety(), before, after) is None
    del after["service.web.backend.b0"]
    assert find_objection(Safety(), after, turn(after, "service.web.backend.b1")) is None


@pytest.mark.parametrize(
    ("before", "after", "fewest", "reason"),
    [
        ([1, 2], [1], 1, None),
        ([1, 2], [], 1, "leaves 0 backends, safety.min_backends is 1"),
        ([1, 2, 3], [1], 2, "leaves 1 backends, safety.min_backends is 2"),
        ([1], [], 0, None),
        (None, [1], 1, None),
        (None, [], 1, "leaves 0 backends, safety.min_backends is 1"),
    ],
)
def test_how_few_may_be_left(
    before: list[int] | None, after: list[int], fewest: int, reason: str | None
) -> None:
    observed = {} if before is None else resources({"web": before})
    objection = find_objection(Safety(min_backends=fewest), resources({"web": after}), observed)
    assert objection == (reason and f"service web: {reason}")


def test_what_stays_as_it_is_is_not_refused() -> None:
    found = resources({"web": [1]})
    assert find_objection(Safety(min_backends=2), found, found) is None


@pytest.mark.parametrize(
    ("before", "after", "is_refused"),
    [
        (resources({"web": [1]}, 1), resources({"web": [1]}, 2), True),
        (resources({"web": [1]}, 1), resources({"web": [1, 2]}, 1), False),
        (resources({}, 1), resources({"web": [1]}, 2), False),  # no flow can move
        ({}, resources({"web": [1]}, 2), False),
    ],
)
def test_another_seed_moves_every_flow(
    before: Resources, after: Resources, is_refused: bool
) -> None:
    objection = find_objection(Safety(), after, before)
    assert (objection or "").startswith("the hash seed changes") == is_refused


def test_another_affinity_moves_every_flow() -> None:
    before = turn(resources({"web": [1]}), "service.web", affinity="flow")
    after = turn(resources({"web": [1]}), "service.web", affinity="client")
    assert find_objection(Safety(), after, before) is not None


def test_a_new_service_takes_nothing_away() -> None:
    before, after = resources({"a": range(9)}), resources({"a": range(9), "b": range(9)})
    assert find_objection(Safety(), after, before) is None


def test_a_service_may_be_removed_whole() -> None:
    before, after = resources({"a": range(9), "b": range(9)}), resources({"a": range(9)})
    assert find_objection(Safety(), after, before) is None


def test_services_whose_names_begin_alike_are_two() -> None:
    before = resources({"web": range(4), "web-2": range(4)})
    after = resources({"web": range(4), "web-2": range(2)})
    assert str(find_objection(Safety(), after, before)).startswith("service web-2: removes 2 of 4")


def test_the_first_service_by_name_is_told() -> None:
    before = resources({"b": range(4), "a": range(4)})
    after = resources({"b": [1], "a": [1]})
    assert str(find_objection(Safety(), after, before)).startswith("service a:")


# --- overrides ---


def drained(found: Resources, *numbers: int) -> Resources:
    for number in numbers:
        found = turn(found, f"service.web.backend.b{number}", state="drain")
    return found


def addresses(*numbers: int) -> set[str]:
    return {f"service.web.backend.b{number}" for number in numbers}


FOUR = resources({"web": range(4)})


@pytest.mark.parametrize(
    ("before", "after", "overridden", "reason"),
    [
        # Put on, in force, ended: none of it is the file's doing.
        (FOUR, drained(FOUR, 0, 1, 2, 3), (0, 1, 2, 3), None),
        (drained(FOUR, 0, 1, 2, 3), drained(FOUR, 0, 1, 2, 3), (0, 1, 2, 3), None),
        (drained(FOUR, 0, 1), FOUR, (0, 1), None),
        (FOUR, drained(FOUR, 0, 1, 2, 3), (0, 1, 2), None),  # the file drains one
        # Beside it the file is judged as ever: an override makes no room,
        (drained(FOUR, 0), drained(FOUR, 0, 2, 3), (0,), "removes 2 of 4"),
        (drained(FOUR, 0), drained(resources({"web": [0, 1]}), 0), (0,), "removes 2 of 4"),
        # and the last ones that take flows are not the file's to take.
        (
            drained(FOUR, 0, 1, 2),
            drained(resources({"web": [0, 1, 2]}), 0, 1, 2),
            (0, 1, 2),
            "leaves 0 backends",
        ),
        # Who was taken out by an override may leave the file.
        (drained(FOUR, 0, 1), resources({"web": [2, 3]}), (0, 1), None),
        # A service that comes is not refused for an override that waited for it.
        (resources({}), drained(resources({"web": [0]}), 0), (0,), None),
    ],
)
def test_an_override_never_holds_the_file_up(
    before: Resources, after: Resources, overridden: tuple[int, ...], reason: str | None
) -> None:
    objection = find_objection_to_file(Safety(), after, before, addresses(*overridden))
    assert (reason or "") in (objection or "")
    assert (objection is None) == (reason is None)


def read(count: int) -> Config:
    backends = "".join(f"  - {{name: b{n}, address: 10.0.0.{n + 1}}}\n" for n in range(count))
    text = f"interface: eth0\nport: 80\nbackends:\n{backends}"
    config = parse(text.encode(), "lb.yaml").config
    assert config is not None
    return config


def make(numbers: Iterable[int], state: BackendState = BackendState.DRAIN) -> Overrides:
    return tuple(Override("default", f"b{n}", state, "alice", "", 1.0, None) for n in numbers)


@pytest.mark.parametrize(
    ("count", "out", "reason"),
    [
        (4, [0], None),
        (4, [0, 1], "removes 2 of 4 backends (50 %)"),
        (10, [0, 1, 2], None),
        (10, [0, 1, 2, 3], "removes 4 of 10 backends (40 %)"),
        (2, [0], None),
        (2, [0, 1], "leaves 0 backends"),
        (1, [0], "leaves 0 backends"),
    ],
)
def test_overrides_are_judged_together(count: int, out: list[int], reason: str | None) -> None:
    config = read(count)
    objection = find_override_objection(config, apply_overrides(config, make(out)))
    assert (reason or "") in (objection or "")
    assert (objection is None) == (reason is None)
    ready = apply_overrides(config, make(out, BackendState.READY))
    assert find_override_objection(config, ready) is None
