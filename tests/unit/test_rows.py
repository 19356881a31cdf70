"""Only rows that have changed since they were read last are decoded again."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reconciler.rows import Cells, Rows


class Decoder:
    """Decodes rows to their bytes, and counts them."""

    def __init__(self) -> None:
        self.decoded = 0

    def __call__(self, cells: Cells) -> list[bytes]:
        self.decoded += len(cells)
        return [row.tobytes() for row in cells]


def make_cells(*rows: int) -> Cells:
    return np.array([[row, row] for row in rows], np.uint8).reshape(-1, 2)


def test_what_has_not_changed_is_the_same_object() -> None:
    decoder = Decoder()
    rows = Rows(decoder)
    first = rows.read(make_cells(1, 0, 3))
    assert first == {0: b"\1\1", 2: b"\3\3"}
    assert rows.read(make_cells(1, 0, 3)) is first
    assert decoder.decoded == 2


def test_only_what_has_changed_is_decoded() -> None:
    decoder = Decoder()
    rows = Rows(decoder)
    first = rows.read(make_cells(1, 2, 3))
    second = rows.read(make_cells(1, 9, 0))
    assert second == {0: b"\1\1", 1: b"\x09\x09"}
    assert second[0] is first[0]
    assert decoder.decoded == 4
    assert first == {0: b"\1\1", 1: b"\2\2", 2: b"\3\3"}  # as it was seen


def test_what_is_read_is_a_copy_of_what_may_change() -> None:
    rows = Rows(Decoder())
    live = make_cells(1, 2)
    rows.read(live)
    live[0] = 7
    assert rows.read(live)[0] == b"\7\7"


@given(st.lists(st.lists(st.integers(0, 3), max_size=6), max_size=6))
def test_whatever_was_read_before_makes_no_difference(history: list[list[int]]) -> None:
    rows = Rows(Decoder())
    for each in history:
        cells = make_cells(*each)
        assert rows.read(cells) == Rows(Decoder()).read(cells)
        assert list(rows.read(cells)) == sorted(rows.read(cells))
