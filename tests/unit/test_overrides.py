"""Overrides as values: whose, until when, and what they make of the file."""

from __future__ import annotations

import pytest

from reconciler.config import parse
from reconciler.errors import Unavailable
from reconciler.model import BackendState, Config, digest_meaning
from reconciler.overrides import (
    Override,
    apply_overrides,
    ask_for,
    choose_reason,
    drop_override,
    find_in_force,
    find_next_end,
    find_override,
    find_strays,
    list_backends,
    put_override,
)

TEXT = """\
interface: eth0
services:
  - {name: dns, vip: 192.0.2.2, port: 53, protocol: udp, backends: [{name: a, address: 10.0.1.1}]}
  - name: web
    vip: 192.0.2.1
    port: 80
    backends: [{name: a, address: 10.0.0.1}, {name: b, address: 10.0.0.2}]
"""


def make(
    service: str = "web",
    backend: str = "a",
    state: BackendState = BackendState.DRAIN,
    until: float | None = None,
) -> Override:
    return Override(service, backend, state, "alice", "", 1.0, until)


def read(text: str = TEXT) -> Config:
    config = parse(text.encode(), "lb.yaml").config
    assert config is not None
    return config


def states(config: Config) -> dict[str, str]:
    return {"/".join(t): b.state.name.lower() for t, b in list_backends(config).items()}


def test_a_target_has_one_override_and_they_are_sorted() -> None:
    first, second = make(backend="b"), make(backend="a")
    both = put_override(put_override((), first), second)
    assert both == (second, first)
    other = make(backend="b", state=BackendState.MAINT)
    assert put_override(both, other) == (second, other)
    assert find_override(both, ("web", "b")) == first
    assert find_override(both, ("dns", "b")) is None
    assert drop_override(both, ("web", "a")) == (first,)
    assert drop_override(both, ("dns", "b")) == both


@pytest.mark.parametrize(("now", "count"), [(0.0, 3), (9.9, 3), (10.0, 2), (20.0, 1), (1e12, 1)])
def test_an_end_is_over_when_it_has_come(now: float, count: int) -> None:
    overrides = (make(until=10.0), make(until=20.0), make())
    assert len(find_in_force(overrides, now)) == count


def test_the_next_end() -> None:
    assert find_next_end(()) is None
    assert find_next_end((make(),)) is None
    assert find_next_end((make(), make(until=20.0), make(until=10.0))) == 10.0


def test_states_are_overridden_and_nothing_else() -> None:
    config = read()
    overridden = apply_overrides(config, (make(), make("dns", state=BackendState.MAINT)))
    assert states(overridden) == {"dns/a": "maint", "web/a": "drain", "web/b": "ready"}
    assert apply_overrides(config, ()) == config
    back = (make(state=BackendState.READY), make("dns", state=BackendState.READY))
    assert apply_overrides(overridden, back) == config
    assert digest_meaning(apply_overrides(overridden, back)) == digest_meaning(config)


def test_what_the_file_does_not_have_is_a_stray_and_changes_nothing() -> None:
    strays = (make("web", "c"), make("ftp", "a"))
    assert apply_overrides(read(), strays) == read()
    assert find_strays((*strays, make()), list_backends(read())) == strays


# --- what a command asks for ---

READY, DRAIN, MAINT = BackendState
OUT = TEXT.replace("address: 10.0.0.1}", "address: 10.0.0.1, state: drain}")
ZERO = TEXT.replace("address: 10.0.0.1}", "address: 10.0.0.1, weight: 0}")


@pytest.mark.parametrize(
    ("text", "asked", "is_kept"),
    [
        (TEXT, DRAIN, True),
        (TEXT, MAINT, True),
        (TEXT, READY, False),
        (OUT, READY, True),
        (OUT, MAINT, True),
        (OUT, DRAIN, False),
        (ZERO, DRAIN, False),
        (ZERO, MAINT, True),
    ],
)
def test_what_the_file_says_needs_no_override(
    text: str, asked: BackendState, is_kept: bool
) -> None:
    config = read(text)
    other, asked_for = make(backend="b"), make(state=asked)
    for before in ((other,), (make(state=MAINT), other)):
        after = ask_for(before, asked_for, config)
        assert after == ((asked_for, other) if is_kept else (other,))


@pytest.mark.parametrize("state", BackendState)
def test_where_nobody_knows_the_file_what_is_asked_for_is_kept(state: BackendState) -> None:
    assert ask_for((), make(state=state), None) == (make(state=state),)


def test_of_a_backend_that_left_the_file_an_override_can_only_be_taken_away() -> None:
    stray = make(backend="c")
    assert ask_for((stray,), make(backend="c", state=READY), read()) == ()
    for state in (DRAIN, MAINT):
        with pytest.raises(Unavailable, match="does not have backend c of service web"):
            ask_for((stray,), make(backend="c", state=state), read())


def test_ready_gives_no_flows_to_a_backend_without_weight() -> None:
    with pytest.raises(Unavailable, match=r"weight 0 in lb\.yaml; give it a weight there"):
        ask_for((), make(state=READY), read(ZERO))


# --- why ---


@pytest.mark.parametrize(
    ("keys", "is_overridden", "is_file_applied", "reason"),
    [
        # The file is another one: what it changes is its own, but for who is overridden.
        ([], False, False, "config"),
        (["weight"], False, False, "config"),
        (["state"], False, False, "config"),
        (["weight"], True, False, "config"),
        (["state"], True, False, "override"),
        (["weight", "state"], True, False, "override"),
        # The file is the one that was applied: a state is put on, or an override has ended.
        ([], False, True, "drift"),
        ([], True, True, "drift"),
        (["address"], True, True, "drift"),
        (["state"], True, True, "override"),
        (["state"], False, True, "override"),
    ],
)
def test_why_a_resource_changes(
    keys: list[str], is_overridden: bool, is_file_applied: bool, reason: str
) -> None:
    found = choose_reason(keys, is_overridden=is_overridden, is_file_applied=is_file_applied)
    assert found == reason
