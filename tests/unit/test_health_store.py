import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.health.standing import Standing
from reconciler.health.store import FRESH_S, HealthStore, Remembered, format_health, parse_health

from ..documents import NO_DOCUMENTS

UP = Standing(True, 100.5, 0, "HTTP 200", 2, "10.0.0.11:80")
DOWN = Standing(False, 90.0, 1, 'said "no"\u2026', 3, "10.0.0.12:80")
BOTH = {("web", "a"): UP, ("web", "b"): DOWN}


@pytest.fixture
def store(tmp_path):
    return HealthStore("edge", tmp_path)


def test_what_is_kept_is_read_again(store):
    store.keep(BOTH, 120.0)
    assert store.read() == Remembered(BOTH, 120.0)
    assert [path.name for path in store.path.parent.iterdir()] == ["health.json"]


def test_nothing_is_known_where_there_is_no_file(store):
    assert store.read() == Remembered({}, None)
    assert store.read().measure_age_s(5.0) == math.inf
    assert not store.read().is_fresh(5.0)


@pytest.mark.parametrize(
    ("age_s", "is_fresh"), [(0.0, True), (FRESH_S, True), (FRESH_S + 1, False), (-5000.0, False)]
)
def test_what_was_just_written_is_fresh(age_s, is_fresh):
    remembered = Remembered(BOTH, 10_000.0)
    assert remembered.is_fresh(10_000.0 + age_s) is is_fresh
    assert remembered.measure_age_s(10_000.0 + age_s) == abs(age_s)


def read_time(store):
    return store.read().written_at


def test_a_transition_is_written_at_once_and_a_detail_is_not(store):
    store.keep(BOTH, 120.0)
    store.keep({**BOTH, ("web", "a"): replace(UP, detail="HTTP 204", streak=1)}, 121.0)
    assert read_time(store) == 120.0
    store.keep({**BOTH, ("web", "a"): replace(UP, is_up=False, transitions=3)}, 122.0)
    assert read_time(store) == 122.0
    store.keep(BOTH, 123.0)
    assert read_time(store) == 123.0
    store.keep({("web", "a"): UP}, 124.0)
    assert read_time(store) == 124.0


def test_without_a_transition_it_is_written_every_half_minute(store):
    store.keep({}, 100.0)
    assert read_time(store) == 100.0
    store.keep({}, 129.0)
    assert read_time(store) == 100.0
    store.keep({}, 130.0)
    assert read_time(store) == 130.0


def test_a_clock_that_is_put_back_stops_no_writing(store):
    store.keep({}, 100_000.0)
    store.keep({}, 500.0)
    assert read_time(store) == 500.0


@pytest.mark.parametrize(
    "text",
    [
        *NO_DOCUMENTS,
        '{"format_version": 1}',
        format_health(BOTH, 1.0).replace('"1.0"', '"2.0"'),
        format_health(BOTH, 1.0).replace('"up": true', '"up": "no"'),
        format_health(BOTH, 1.0).replace('"since"', '"sinc"'),
        format_health(BOTH, 1.0).replace("1.0,", '"x",'),
        format_health(BOTH, 1.0)[:200],
    ],
)
def test_garbage_is_ignored_with_a_warning(store, caplog, text):
    store.path.parent.mkdir()
    store.path.write_text(text, encoding="utf-8")
    assert store.read() == Remembered()
    assert "health=unreadable" in caplog.text


def test_bytes_that_are_no_text_are_ignored_too(store, caplog):
    store.path.parent.mkdir()
    store.path.write_bytes(b"\xff\xfe{}")
    assert store.read() == Remembered()
    assert "health=unreadable" in caplog.text


def test_what_a_later_minor_version_adds_is_no_garbage():
    document = json.loads(format_health(BOTH, 1.0))
    document["format_version"] = "1.7"
    document["more"] = document["backends"][0]["more"] = 5
    assert parse_health(json.dumps(document)) == Remembered(BOTH, 1.0)


def test_what_can_not_be_written_is_logged_and_tried_again(store, caplog):
    store.path.parent.write_text("a file, where a folder should be", encoding="utf-8")
    store.keep(BOTH, 100.0)
    assert "health=unwritable" in caplog.text
    store.path.parent.unlink()
    store.keep(BOTH, 101.0)
    assert not store.path.exists()
    store.keep(BOTH, 130.0)
    assert read_time(store) == 130.0


def test_it_is_forgotten_with_its_instance(store):
    store.forget()
    store.keep(BOTH, 1.0)
    store.forget()
    assert not store.path.exists()


names = st.text(max_size=8)
standings = st.builds(
    Standing,
    is_up=st.booleans(),
    since=st.floats(allow_nan=False, allow_infinity=False),
    streak=st.integers(0, 100),
    detail=st.text(max_size=20),
    transitions=st.integers(0, 10**9),
    server=st.text(max_size=20),
)


@given(st.dictionaries(st.tuples(names, names), standings), st.floats(0, 1e10))
def test_what_is_formatted_is_parsed_again(kept, now):
    assert parse_health(format_health(kept, now)) == Remembered(kept, now)
