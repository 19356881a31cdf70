"""Options that several verbs share."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import click

from reconciler.cli.candidates import offer_files, offer_instances
from reconciler.cli.color import choose_color
from reconciler.config import ConfigInvalid
from reconciler.config.name import NAME_RULE, is_name
from reconciler.config_file import STANDARD_INPUT, default_config_path, read_name
from reconciler.dataplane.bpffs import DEFAULT_PIN_ROOT
from reconciler.dataplane.pins import list_instances
from reconciler.errors import NoInput
from reconciler.model import DEFAULT_NAME

_Command = TypeVar("_Command", bound=Callable[..., Any])

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


# Ten years: whoever asks for more means "for ever", and calendars end.
_LONGEST_S = 10 * 365 * 24 * 3600.0


class Duration(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic from click 8.4 on
    """A duration such as 500ms, 2s or 5m, in seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return seconds."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)", str(value))
        if match is None:
            self.fail(f"{value!r} is no duration; write 500ms, 2s or 5m", param, ctx)
        seconds = float(match[1]) * _UNITS_S[match[2]]
        if seconds > _LONGEST_S:
            self.fail(f"{value!r} is more than ten years", param, ctx)
        return seconds


config_option = click.option(
    "-c",
    "--config",
    metavar="FILE",
    shell_complete=offer_files,
    help="The configuration. [default: $XDPLB_CONFIG, ./lb.yaml, /etc/xdplb/lb.yaml]",
)
pin_dir_option = click.option(
    "--pin-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where instances are pinned. [default: /sys/fs/bpf/xdplb]",
)


def _check_name(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """It becomes the name of a folder: nothing may lead out of that."""
    if value is not None and not is_name(value):
        raise click.BadParameter(f"{value!r} is no name of an instance: {NAME_RULE}")
    return value


name_option = click.option(
    "-n",
    "--name",
    metavar="NAME",
    callback=_check_name,
    shell_complete=offer_instances,
    help='The instance. [default: the file\'s, or "default"]',
)
format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["human", "json", "github"]),
    default="human",
    help="How to print it: for people, for programs, or as GitHub annotations.",
)
format_json_option = click.option(
    "--json", "form", flag_value="json", help="The same as --format json."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
json_out_option = click.option(
    "--json-out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the JSON to a file too.",
)
quiet_option = click.option(
    "-q", "--quiet", is_flag=True, help="Print errors only, and what is asked for as data."
)
verbose_option = click.option(
    "-v", "--verbose", is_flag=True, help="Say more, and show tracebacks."
)
color_option = click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    expose_value=False,
    is_eager=True,
    callback=choose_color,
    help="Colours; auto: on a terminal, unless NO_COLOR is set.",
)
detailed_option = click.option(
    "--detailed-exitcode", is_flag=True, help="Exit 2 when there are, or were, changes."
)
lock_timeout_option = click.option(
    "--lock-timeout",
    type=Duration(),
    default="0s",
    show_default=True,
    help="How long to wait for another controller to let go.",
)
no_verify_option = click.option(
    "--no-verify", is_flag=True, help="Do not read back what was written."
)
allow_large_option = click.option(
    "--allow-large-change", is_flag=True, help="Do what the safety limits refuse."
)


def output_options(command: _Command) -> _Command:
    """Declare the options of every command that prints for people."""
    return _declare(command, quiet_option, verbose_option, color_option)


def pass_options(command: _Command) -> _Command:
    """Declare the options of a command that makes a pass."""
    return _declare(
        command,
        json_option,
        json_out_option,
        detailed_option,
        allow_large_option,
        no_verify_option,
        lock_timeout_option,
        pin_dir_option,
        output_options,
    )


def _declare(command: _Command, *options: Callable[[_Command], _Command]) -> _Command:
    """As decorators in this order would: the last one is next to the command."""
    return reduce(lambda made, option: option(made), reversed(options), command)


def choose_path(file: str | None, config: str | None) -> str:
    """Return the configuration's path from the argument, the option or the default.

    Raises:
        click.UsageError: argument and option name two files.
    """
    if file and config and file != config:
        raise click.UsageError(f"two configurations are named: {file} and {config}")
    return file or config or default_config_path()


def require_two_inputs(one: str, other: str | None) -> None:
    """See that two files to be compared are not both standard input.

    Raises:
        click.UsageError: they are.
    """
    if one == other == STANDARD_INPUT:
        raise click.UsageError("standard input can't be both files")


def choose_paths(files: Sequence[str], config: str | None) -> list[str]:
    """Return the configurations' paths, as `choose_path` does for each of the arguments."""
    return [choose_path(file, config) for file in files or (None,)]


def choose_name(name: str | None, config: str | None, pin_dir: Path | None) -> str:
    """Return the instance's name: as given, else the file's, else the default's.

    What else the file says does not matter, nor whether it is valid. Where it does not tell
    its name, and there is just one instance, that is meant.

    Raises:
        NoInput: the file that the option names is not there.
        ConfigInvalid: the file does not tell its name, and there is not just one instance.
    """
    if name:
        return name
    try:
        return read_name(config or default_config_path())
    except NoInput:
        if config:
            raise
        return DEFAULT_NAME
    except ConfigInvalid:
        instances = list_instances(pin_dir or DEFAULT_PIN_ROOT)
        if len(instances) != 1:
            raise
        return instances[0]
