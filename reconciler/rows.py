"""Rows of a map as they were read last: only those that have changed are decoded again.

Ten thousand rows take a tenth of a second to decode, and a pass that finds them as it
left them need not do it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Cells: TypeAlias = NDArray[np.uint8]
"""Rows as bytes, shape (rows, bytes of one)."""


class Rows:
    """Decodes the rows of one map.

    `decode` turns rows that lie one behind the other into as many values. A row of
    zeros is absent.
    """

    def __init__(self, decode: Callable[[Cells], list[Any]]) -> None:
        self._decode = decode
        self._cells: Cells | None = None  # up to the last row that is there
        self._values: dict[int, Any] = {}

    def read(self, cells: Cells) -> dict[int, Any]:
        """Return the values by the index of their row; not to be changed."""
        changed = self._find_changed(cells)
        if not changed.size:
            return self._values
        present = changed[cells[changed].any(axis=1)]
        decoded = dict(zip(present.tolist(), self._decode(cells[present]), strict=True))
        gone = {*changed.tolist()} - decoded.keys()
        values = {**self._values, **decoded}
        self._values = {index: values[index] for index in sorted(values.keys() - gone)}
        self._cells = cells[: max(self._values, default=-1) + 1].copy()
        return self._values

    def _find_changed(self, cells: Cells) -> NDArray[np.intp]:
        if self._cells is None or len(self._cells) > len(cells):
            self._cells, self._values = cells[:0].copy(), {}
        known = len(self._cells)
        again = np.flatnonzero((self._cells != cells[:known]).any(axis=1))
        return np.concatenate([again, known + np.flatnonzero(cells[known:].any(axis=1))])
