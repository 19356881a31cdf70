"""Colours: for people at a terminal who have not declined them.

What is printed is always painted; `click.echo` takes the colours out where they are
not wanted, and `--color` tells it where that is.
"""

from __future__ import annotations

import os
from typing import Any

import click

_STYLES: dict[str, dict[str, Any]] = {
    "error": {"fg": "red", "bold": True},
    "warning": {"fg": "yellow", "bold": True},
    "hint": {"fg": "cyan"},
    "create": {"fg": "green"},
    "update": {"fg": "yellow"},
    "delete": {"fg": "red"},
    "good": {"fg": "green", "bold": True},
}


def paint(text: str, role: str) -> str:
    """Return text in the colour of what it says: an error, something that comes or goes."""
    return click.style(text, **_STYLES[role])


def _choose_color(ctx: click.Context, _param: click.Parameter, value: str) -> None:
    # None leaves it to what the output is; https://no-color.org for the variable.
    automatic = False if os.environ.get("NO_COLOR") else None
    chosen = {"always": True, "never": False}.get(value, automatic)
    # Errors are shown when the command's own context is over.
    ctx.color = ctx.find_root().color = chosen


color_option = click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    expose_value=False,
    is_eager=True,
    callback=_choose_color,
    help="Colours; auto: on a terminal, unless NO_COLOR is set.",
)
