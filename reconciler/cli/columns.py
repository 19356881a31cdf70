"""Tables of aligned columns, painted cell by cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from reconciler.diagnostics import Paint

_GAP = "  "


class Cell(NamedTuple):
    """What stands in a column, and the role whose colour it has; none if that is empty."""

    text: str
    role: str = ""


class Column(NamedTuple):
    """A column's title; numbers are aligned to the right."""

    title: str
    is_number: bool = False


def align(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], paint: Paint) -> list[str]:
    """Return the lines of a table: the titles, then the rows."""
    titles = [Cell(column.title) for column in columns]
    widths = [max(len(row[at].text) for row in (titles, *rows)) for at, _ in enumerate(columns)]
    return [
        _GAP.join(
            _pad(cell, width, column, paint)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ).rstrip()
        for row in (titles, *rows)
    ]


def _pad(cell: Cell, width: int, column: Column, paint: Paint) -> str:
    room = " " * (width - len(cell.text))
    text = paint(cell.text, cell.role) if cell.role else cell.text
    return room + text if column.is_number else text + room
