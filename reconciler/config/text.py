"""From bytes to text: what a file must be before it can be YAML."""

from __future__ import annotations

import codecs
import re

from reconciler.config import codes
from reconciler.config.nodes import Place, diagnose
from reconciler.diagnostics import Diagnostic, split_lines

MAX_BYTES = 4 * 1024 * 1024

# libyaml compares every %TAG with all before it, so many of them are a file without end.
_TAG_DIRECTIVE = re.compile(r"^%TAG\b", re.MULTILINE)

# The complement of c-printable, YAML 1.2.2 section 5.1.
_NOT_YAML = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class RefusedError(Exception):
    """The file can't be read any further, for this reason."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


def decode(data: bytes, file: str) -> str:
    """Return the file's text, without a byte order mark.

    Raises:
        RefusedError: it is too large, not UTF-8, or holds characters that YAML forbids
            or directives that declare tags.
    """
    if len(data) > MAX_BYTES:
        message = f"the file is larger than {MAX_BYTES // 1024 // 1024} MiB"
        raise RefusedError(diagnose(codes.TOO_LARGE, Place(file, 1, 1, 1), message))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RefusedError(_diagnose_encoding(data, error, file)) from None
    if match := _NOT_YAML.search(text):
        message = f"character U+{ord(match.group()):04X} is not allowed in YAML"
        place = _place_after(text[: match.start()], file)
        raise RefusedError(diagnose(codes.NOT_TEXT, place, message)) from None
    if match := _TAG_DIRECTIVE.search(text):
        place = _place_after(text[: match.start()], file)
        message, hint = "YAML tags are not supported", "take this line away"
        raise RefusedError(diagnose(codes.TAG, place, message, hint))
    return text


def decode_leniently(data: bytes) -> str:
    """Return text to show beside a diagnostic, whatever the bytes are."""
    return data[:MAX_BYTES].decode("utf-8-sig", errors="replace")


def _diagnose_encoding(data: bytes, error: UnicodeDecodeError, file: str) -> Diagnostic:
    before = data[: error.start].decode("utf-8-sig", errors="replace")
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    hint = "the file is UTF-16; save it as UTF-8" if is_utf16 else "save the file as UTF-8"
    return diagnose(codes.NOT_TEXT, _place_after(before, file), "the file is not UTF-8 text", hint)


def _place_after(before: str, file: str) -> Place:
    lines = split_lines(before)
    return Place(file, len(lines), len(lines[-1]) + 1, 1)
