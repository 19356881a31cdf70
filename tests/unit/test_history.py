"""The last passes, kept in a file."""

from __future__ import annotations

from pathlib import Path

from reconciler.errors import Blocked, RolledBack
from reconciler.history import KEPT, History, PassRecord, record_failure

ONE = PassRecord(1.0, "applied", 1, "ab", changes=2, writes=3, slots_moved=4, took_s=0.5)


def test_records_come_back_in_order(tmp_path: Path) -> None:
    history = History("edge", tmp_path)
    assert history.read() == []
    two = record_failure(RolledBack("no", remedy="look"), 1, "cd", 2.0, 0.1)
    for record in (ONE, two):
        history.append(record)
    assert History("edge", tmp_path).read() == [ONE, two]
    assert (two.result, two.message) == ("rolled_back", "no; look")


def test_the_kind_of_failure_is_told() -> None:
    assert record_failure(Blocked("no"), 1, "", 0.0, 0.0).result == "blocked"


def test_the_oldest_are_forgotten(tmp_path: Path) -> None:
    history = History("edge", tmp_path)
    for number in range(3 * KEPT + 7):
        history.append(PassRecord(float(number), "upkeep", 1, ""))
        assert len(history.path.read_text().splitlines()) < 2 * KEPT
    assert [record.at for record in history.read()][-1] == 3 * KEPT + 6
    assert len(history.read()) <= KEPT
    assert [each.name for each in history.path.parent.iterdir()] == ["history.jsonl"]


def test_a_line_that_was_cut_off_hides_no_other(tmp_path: Path) -> None:
    history = History("edge", tmp_path)
    history.append(ONE)
    with history.path.open("a") as file:
        file.write('{"at": 2.0, "result"\n\xff[]\n{"at": 1}\n')
    history.append(ONE)
    assert history.read() == [ONE, ONE]
