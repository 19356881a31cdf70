"""What the controller says while it runs: events of named values, a line each.

As text a line is key=value, and words of free text stand in quotes; as JSON it is one
object. Both say the same.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping

_LOGGER = logging.getLogger("xdplb")

# Written for people: quoted, however few words it is.
_FREE_TEXT = frozenset(("advice", "hint", "message", "problem", "reason"))
_PLAIN = re.compile(r"[^\s\"=]+")


def log_event(level: int, **fields: object) -> None:
    """Tell an event; the first field names it (`reconcile="applied"`).

    Args:
        level: of `logging`, such as `logging.INFO`.
        fields: values that JSON knows; others are told by their `str`.
    """
    if _LOGGER.isEnabledFor(level):
        _LOGGER.log(level, "%s", _Line(fields))


class _Line:
    """Fields that are text only when somebody reads them."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        self.fields = fields

    def __str__(self) -> str:
        return " ".join(f"{key}={_render(key, value)}" for key, value in self.fields.items())


def _render(key: str, value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else " ".join(str(value).split())
    if key not in _FREE_TEXT and _PLAIN.fullmatch(text):
        return text
    return '"' + text.replace('"', "'") + '"'


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = record.args[0] if isinstance(record.args, tuple) and record.args else None
        fields = line.fields if isinstance(line, _Line) else {"message": record.getMessage()}
        head = {"time": self.formatTime(record, self.datefmt), "level": record.levelname}
        return json.dumps(head | dict(fields), default=str)


def start_log(*, quiet: bool, verbose: bool, as_json: bool) -> None:
    """Log to standard error, a line an event; other libraries' warnings too."""
    text_format = "time=%(asctime)s level=%(levelname)s %(message)s"
    make_formatter = _JsonFormatter if as_json else logging.Formatter
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(make_formatter(text_format, datefmt="%Y-%m-%dT%H:%M:%S%z"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    _LOGGER.setLevel(logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO)
