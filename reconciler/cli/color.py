"""Colours: for people at a terminal who have not declined them.

What is printed is always painted; `click.echo` takes the colours out where they are
not wanted, and `--color` and NO_COLOR tell it where that is. A console, for what lives
on the screen, asks the same.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from rich.console import Console

_STYLES: dict[str, dict[str, Any]] = {
    "error": {"fg": "red", "bold": True},
    "warning": {"fg": "yellow", "bold": True},
    "hint": {"fg": "cyan"},
    "create": {"fg": "green"},
    "update": {"fg": "yellow"},
    "delete": {"fg": "red"},
    "good": {"fg": "green", "bold": True},
}

# By what is wanted; "auto" leaves it to the terminal and to what it heeds of the environment.
_COLOR_SYSTEMS: dict[bool | None, Literal["auto", "standard"] | None] = {
    None: "auto",
    True: "standard",
    False: None,
}


def paint(text: str, role: str) -> str:
    """Return text in the colour of what it says: an error, something that comes or goes."""
    return click.style(text, **_STYLES[role])


def heed_no_color(ctx: click.Context) -> None:
    """Have no colours under a context if NO_COLOR is set (https://no-color.org)."""
    # None leaves it to what the output is.
    ctx.color = False if os.environ.get("NO_COLOR") else None


def choose_color(ctx: click.Context, _param: click.Parameter, value: str) -> None:
    """Do what `--color` says. `auto` is what the root has chosen."""
    if value != "auto":
        # Errors are shown when the command's own context is over.
        ctx.color = ctx.find_root().color = value == "always"


def make_console(*, stderr: bool = False, quiet: bool = False, soft_wrap: bool = False) -> Console:
    """Return a console of rich that prints words as they are, in colour where that is wanted.

    Lines are never cut with `soft_wrap`.
    """
    from rich.console import Console  # noqa: PLC0415  (not for those who only print lines)

    ctx = click.get_current_context(silent=True)
    wanted = ctx.color if ctx else None
    return Console(
        stderr=stderr,
        quiet=quiet,
        soft_wrap=soft_wrap,
        highlight=False,
        markup=False,
        color_system=_COLOR_SYSTEMS[wanted],
        no_color=False if wanted else None,
    )
