"""HTML in which nothing is markup unless it was made here."""

from __future__ import annotations

import html
from typing import TypeAlias


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Content: TypeAlias = "str | int | None"
"""What an element may have inside: `Html` as it is, any other text escaped, None not at all."""


def tag(name: str, *content: Content, **attributes: str | int | None) -> Html:
    """Return an element with its content.

    Of an attribute's name, underscores at the end are dropped (`class_`) and others become
    hyphens; one that is None is left out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{written}>{join(*content)}</{name}>")


def join(*content: Content) -> Html:
    """Return content one behind the other."""
    return Html("".join(_escape(part) for part in content if part is not None))


def _escape(part: str | int) -> str:
    return part if isinstance(part, Html) else html.escape(str(part))
