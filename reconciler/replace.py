"""Replaces a file in one step: its readers see the old one or the new one."""

from __future__ import annotations

import os
from pathlib import Path


def replace_text(path: Path, text: str) -> None:
    """Make `text` what is in the file; where that fails, leave nothing but what was there.

    Raises:
        OSError: it can't be written.
    """
    new = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
