"""The file of --json-out."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path

from reconciler.errors import NoInput


def require_place(path: Path) -> None:
    """See that a document can be written there, before what it tells of is done.

    Raises:
        NoInput: it can't.
    """
    if os.path.exists(path):
        number = 0 if os.access(path, os.W_OK) else errno.EACCES
    elif not os.path.isdir(path.parent):
        number = errno.ENOENT
    else:
        number = 0 if os.access(path.parent, os.W_OK | os.X_OK) else errno.EACCES
    if number:
        raise _refuse_place(path, os.strerror(number))


def _refuse_place(path: Path, reason: str | None) -> NoInput:
    return NoInput(f"cannot write {path}: {reason}", remedy="name a file in a folder that is there")


def write_json(document: Mapping[str, object], path: Path) -> None:
    """Write a document to a file.

    Raises:
        NoInput: it can't be written there.
    """
    try:
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise _refuse_place(path, error.strerror) from None
