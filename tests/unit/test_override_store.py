"""Overrides on disk: whole or not at all, and never lost between two commands."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import Blocked, NoPermission, XdplbError
from reconciler.model import BackendState
from reconciler.override_store import (
    OverrideFollower,
    OverrideStore,
    format_overrides,
    parse_overrides,
)
from reconciler.overrides import Override, Overrides, put_override

from ..documents import NO_DOCUMENTS

LASTING = Override("web", "a", BackendState.DRAIN, "alice", 'a "quoted" word', 1.5, None)
BRIEF = Override("web", "b", BackendState.MAINT, "bob", "", 2.0, 10.0)

OVERRIDES = st.builds(
    Override,
    service=st.text(),
    backend=st.text(),
    state=st.sampled_from(BackendState),
    owner=st.text(),
    reason=st.text(),
    since=st.floats(0, 1e11),
    until=st.none() | st.floats(0, 1e11),
)


@pytest.fixture
def store(tmp_path: Path) -> OverrideStore:
    return OverrideStore("edge", tmp_path)


def keep(store: OverrideStore, *overrides: Override) -> Overrides:
    def edit(kept: Overrides) -> Overrides:
        for each in overrides:
            kept = put_override(kept, each)
        return kept

    return store.change(edit, now=5.0)


@given(st.lists(OVERRIDES).map(tuple))
def test_what_is_written_is_read(overrides: Overrides) -> None:
    assert parse_overrides(format_overrides(overrides)) == overrides


def test_nothing_is_kept_at_first(store: OverrideStore) -> None:
    assert store.read() == ()


def test_what_is_kept_is_read_by_others(store: OverrideStore, tmp_path: Path) -> None:
    assert keep(store, BRIEF, LASTING) == (LASTING, BRIEF)
    assert OverrideStore("edge", tmp_path).read() == (LASTING, BRIEF)
    assert OverrideStore("core", tmp_path).read() == ()
    assert [path.name for path in store.path.parent.iterdir()] == ["overrides.json"]


def test_what_is_over_is_dropped_at_the_next_write(store: OverrideStore) -> None:
    keep(store, BRIEF, LASTING)
    seen: list[Overrides] = []
    store.change(lambda kept: seen.append(kept) or kept, now=10.0)  # type: ignore[func-returns-value]
    assert seen == [(LASTING,)]
    assert store.read() == (LASTING,)


def test_an_edit_that_changes_nothing_writes_nothing(store: OverrideStore) -> None:
    keep(store, LASTING)
    before = store.path.stat().st_ino
    keep(store, LASTING)
    assert store.path.stat().st_ino == before


def test_an_edit_that_is_refused_writes_nothing(store: OverrideStore) -> None:
    keep(store, LASTING)

    def refuse(_kept: Overrides) -> Overrides:
        raise Blocked("too much")

    with pytest.raises(Blocked):
        store.change(refuse, now=5.0)
    assert store.read() == (LASTING,)


def test_commands_at_once_lose_nothing(store: OverrideStore, tmp_path: Path) -> None:
    names = [f"b{number}" for number in range(8)]

    def add(name: str) -> None:
        made = Override("web", name, BackendState.DRAIN, "alice", "", 1.0, None)
        OverrideStore("edge", tmp_path).change(lambda kept: put_override(kept, made), now=5.0)

    threads = [threading.Thread(target=add, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.backend for each in store.read()] == names


def test_a_detached_instance_has_none(store: OverrideStore) -> None:
    store.forget()
    keep(store, LASTING)
    store.forget()
    assert store.read() == ()


GOOD = json.loads(format_overrides((LASTING,)))


@pytest.mark.parametrize(
    "text",
    [
        *NO_DOCUMENTS,
        json.dumps(GOOD | {"kind": "xdplb.health"}),
        json.dumps(GOOD | {"format_version": "2.0"}),
        json.dumps(GOOD | {"overrides": None}),
        json.dumps(GOOD | {"overrides": [{}]}),
        json.dumps(GOOD | {"overrides": [GOOD["overrides"][0] | {"state": "off"}]}),
        json.dumps(GOOD | {"overrides": [GOOD["overrides"][0] | {"until": "noon"}]}),
        json.dumps(GOOD | {"overrides": [GOOD["overrides"][0] | {"until": 1e12}]}),
        json.dumps(GOOD | {"overrides": [GOOD["overrides"][0] | {"since": -1}]}),
    ],
)
def test_what_can_not_be_read_is_no_reason_to_end_one(store: OverrideStore, text: str) -> None:
    keep(store, LASTING)
    store.path.write_text(text)
    with pytest.raises(XdplbError) as caught:
        store.read()
    assert str(store.path) in caught.value.message
    assert "remove it" in caught.value.remedy
    with pytest.raises(XdplbError):
        keep(store, BRIEF)
    assert store.path.read_text() == text


def test_a_newer_minor_version_is_read(store: OverrideStore) -> None:
    entry = GOOD["overrides"][0] | {"colour": "green"}
    text = json.dumps(GOOD | {"format_version": "1.7", "overrides": [entry]})
    assert parse_overrides(text) == (LASTING,)


def test_a_file_of_somebody_else(store: OverrideStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path, *_text: str, **_options: str) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(NoPermission, match="Permission denied; run as root"):
        store.read()
    monkeypatch.setattr(Path, "write_text", refuse)
    monkeypatch.setattr(Path, "read_text", lambda _path, **_options: format_overrides(()))
    with pytest.raises(NoPermission, match="cannot write"):
        keep(store, LASTING)


# --- as a controller follows them ---


def test_a_follower_goes_by_those_in_force(store: OverrideStore) -> None:
    follower = OverrideFollower(store)
    assert not follower.have_changed(5.0)
    assert follower.take(5.0) == ()
    assert follower.measure_rest_s(5.0) == float("inf")
    keep(store, BRIEF, LASTING)
    assert follower.have_changed(5.0)
    assert follower.take(5.0) == follower.taken == (LASTING, BRIEF)
    assert not follower.have_changed(9.0)
    assert follower.measure_rest_s(9.0) == 1.0
    assert follower.have_changed(10.0)
    assert follower.measure_rest_s(11.0) == 0.0
    assert follower.take(10.0) == (LASTING,)


def test_a_follower_keeps_what_it_could_read(
    store: OverrideStore, caplog: pytest.LogCaptureFixture
) -> None:
    keep(store, BRIEF, LASTING)
    follower = OverrideFollower(store)
    follower.take(5.0)
    store.path.write_text("{")
    caplog.set_level(logging.WARNING, "xdplb")
    assert not follower.have_changed(6.0)
    assert follower.take(7.0) == (LASTING, BRIEF)
    assert follower.take(12.0) == (LASTING,)  # its time is over all the same
    (message,) = caplog.messages
    assert message.startswith("overrides=unreadable kept=2 reason=")
    store.path.write_text(format_overrides((BRIEF,)))
    assert follower.take(7.0) == (BRIEF,)
    store.path.write_text("{")
    follower.take(7.0)
    assert len(caplog.messages) == 2


def test_a_follower_that_could_read_none_says_so(store: OverrideStore) -> None:
    store.path.parent.mkdir()
    store.path.write_text("{")
    with pytest.raises(XdplbError):
        OverrideFollower(store).take(5.0)
