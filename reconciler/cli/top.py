"""`xdplb top`: how fast packets and flows go, and where, again and again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from reconciler.cli import options
from reconciler.cli.backends import make_surveyor, take_survey
from reconciler.cli.color import make_console, paint
from reconciler.cli.keyboard import reading_keys, wait_for_key
from reconciler.cli.say import show
from reconciler.cli.top_output import render_top
from reconciler.rates import compute_rates

if TYPE_CHECKING:
    from rich.live import Live

_SHORTEST_S = 0.1
_QUIT = "qQ"


class Screen(Protocol):
    """What blocks of lines are shown on."""

    def show(self, lines: list[str]) -> None:
        """Show a block."""


@click.command()
@options.config_option
@options.name_option
@options.pin_dir_option
@click.option(
    "--interval",
    type=options.Duration(),
    default="1s",
    show_default=True,
    help="How long to count for a rate.",
)
@click.option(
    "--count",
    type=click.IntRange(min=1),
    metavar="N",
    help="Stop after N refreshes. [default: at q or Ctrl-C]",
)
@options.output_options
def top(
    config: str | None,
    name: str | None,
    *,
    pin_dir: Path | None,
    interval: float,
    count: int | None,
    quiet: bool,
    verbose: bool,
) -> None:
    """Watch how fast packets and flows go, and where.

    Of every service and backend: new flows, packets, bits and replies a second, and its
    part of the new flows beside the part that its weight gives it. q or Ctrl-C ends it.
    With -v also verdicts that no packet got.
    Where the output is no terminal, prints a block of lines a refresh.
    """
    if interval < _SHORTEST_S:
        raise click.BadParameter(f"at least {_SHORTEST_S} s", param_hint="--interval")
    if quiet and count is None:
        raise click.UsageError("--quiet shows nothing: say with --count when it is to end")
    surveyor = make_surveyor(options.choose_name(name, config, pin_dir), pin_dir)
    survey = take_survey(surveyor)
    try:
        with _open_screen(quiet=quiet) as screen:
            if sys.stdout.isatty():
                screen.show(render_top(survey, None, paint, verbose=verbose))
            refreshes = 0
            while refreshes != count and not wait_for_key(_QUIT, interval):
                before, survey = survey, take_survey(surveyor)
                rates = compute_rates(before, survey)
                screen.show(render_top(survey, rates, paint, verbose=verbose))
                refreshes += 1
    except KeyboardInterrupt:
        return  # the usual way out


@contextmanager
def _open_screen(*, quiet: bool) -> Iterator[Screen]:
    if quiet:
        yield _Nowhere()
        return
    if not sys.stdout.isatty():
        yield _Pipe()
        return
    from rich.live import Live  # noqa: PLC0415  (only where needed)

    console = make_console()
    with reading_keys(), Live(console=console, screen=True, auto_refresh=False) as live:
        yield _Terminal(live)


class _Nowhere:
    """For those who only want to know that it can be counted."""

    def show(self, lines: list[str]) -> None:
        pass


class _Pipe:
    """One block below the other."""

    def show(self, lines: list[str]) -> None:
        show("\n".join([*lines, ""]))
        sys.stdout.flush()


class _Terminal:
    """One block in the place of the other; what does not fit is cut off."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, lines: list[str]) -> None:
        from rich.text import Text  # noqa: PLC0415

        shown = Text.from_ansi("\n".join(lines), no_wrap=True, overflow="crop")
        self._live.update(shown, refresh=True)
