"""Documents that were written as JSON, read again: whatever is in them, it is no traceback."""

from __future__ import annotations

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """Return what a text says.

    Raises:
        ValueError: it is no JSON, or nested deeper than Python goes.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def open_document(text: str, kind: str, format_version: str) -> dict[str, Any]:
    """Return a document that says itself of which kind and version it is.

    Raises:
        ValueError: it is of another, or says nothing.
    """
    document = parse_json(text)
    if not isinstance(document, dict) or document.get("kind") != kind:
        raise ValueError(f"it is no {kind}")
    version = str(document.get("format_version"))
    if version.partition(".")[0] != format_version.partition(".")[0]:
        raise ValueError(f"its format_version is {version}")
    return document
