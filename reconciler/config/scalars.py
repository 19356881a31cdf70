"""What an unquoted YAML scalar means: the core schema of YAML 1.2.2, section 10.3.2.

YAML 1.1 reads `22:22` as 1342, `no` as false and `017` as 15. Here they are two
strings and seventeen.
"""

from __future__ import annotations

import re

from reconciler.config.nodes import ScalarValue

_CONSTANTS: dict[str, ScalarValue] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NOT_A_NUMBER = frozenset((".nan", ".NaN", ".NAN"))

# Python reads decimal numbers in quadratic time; no number of ours is near this long.
_MAX_DIGITS = 64


def resolve_plain(text: str) -> ScalarValue:
    """Return what an unquoted scalar means.

    Raises:
        ValueError: it is a number with more digits than any number needs.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] not in "+-.0123456789":
        return text
    return _resolve_number(text)


def has_leading_zero(text: str) -> bool:
    """Whether it is a decimal number that YAML 1.1 takes for an octal one, such as `017`."""
    return text[:1] in "+-0" and bool(_LEADING_ZERO.fullmatch(text))


def _resolve_number(text: str) -> ScalarValue:
    for pattern, convert in (
        (_DECIMAL, int),
        (_OCTAL, _from_octal),
        (_HEXADECIMAL, _from_hexadecimal),
        (_FLOAT, float),
        (_INFINITY, _from_infinity),
    ):
        if pattern.fullmatch(text):
            if len(text) > _MAX_DIGITS:
                raise ValueError("this number is too long")
            return convert(text)
    return float("nan") if text in _NOT_A_NUMBER else text


def _from_octal(text: str) -> int:
    return int(text[2:], 8)


def _from_hexadecimal(text: str) -> int:
    return int(text[2:], 16)


def _from_infinity(text: str) -> float:
    return float("-inf") if text.startswith("-") else float("inf")
