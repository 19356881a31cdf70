"""A file is replaced in one step, or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from reconciler.replace import replace_text


def test_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    for text in ("old", "new"):
        replace_text(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be written is not left lying about, and empty at that."""
    path = tmp_path / "status.json"
    replace_text(path, "old")
    write = Path.write_text

    def write_nothing(self: Path, _text: str, encoding: str) -> int:
        write(self, "", encoding)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", write_nothing)
    with pytest.raises(OSError, match="No space left"):
        replace_text(path, "new")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text(encoding="utf-8") == "old"


def test_a_place_that_can_not_be_taken(tmp_path: Path) -> None:
    (tmp_path / "status.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        replace_text(tmp_path / "status.json", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]
