"""Finds and reads lb.yaml. What it says is `reconciler.config`'s matter."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from reconciler.config import ConfigInvalid, parse
from reconciler.config.text import MAX_BYTES, decode_leniently
from reconciler.diagnostics import Diagnostic
from reconciler.errors import NoInput
from reconciler.model import Config

STANDARD_INPUT = "-"
STANDARD_INPUT_NAME = "<stdin>"
_SYSTEM_PATH = "/etc/xdplb/lb.yaml"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration, what its author should know about it, and its text."""

    config: Config
    warnings: tuple[Diagnostic, ...]
    text: str


def default_config_path() -> str:
    """Return `$XDPLB_CONFIG`, or `lb.yaml` if there is one here, or `/etc/xdplb/lb.yaml`."""
    if configured := os.environ.get("XDPLB_CONFIG"):
        return configured
    return "lb.yaml" if Path("lb.yaml").exists() else _SYSTEM_PATH


def name_config(path: str) -> str:
    """Return what a path is called in diagnostics."""
    return STANDARD_INPUT_NAME if path == STANDARD_INPUT else path


def read_config(path: str) -> bytes:
    """Return the bytes of a file, or of standard input for `-`.

    At most one byte more than a configuration may have is read, so that a device
    that never ends is refused like any other file that is too large.

    Raises:
        NoInput: there is no such file, or it can't be read.
    """
    try:
        if path == STANDARD_INPUT:
            return sys.stdin.buffer.read(MAX_BYTES + 1)
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        remedy = "name one, set XDPLB_CONFIG, or start from examples/lb.yaml"
        raise NoInput(f"there is no file {path}", remedy=remedy) from None
    except IsADirectoryError:
        raise NoInput(f"{path} is a directory", remedy="name the file in it") from None
    except PermissionError:
        remedy = "make it readable, or run as a user who may read it"
        raise NoInput(f"{path} may not be read by this user", remedy=remedy) from None
    except (OSError, ValueError) as error:
        remedy = "name a regular file, or '-' for standard input"
        raise NoInput(f"{path} can't be read: {error}", remedy=remedy) from None


def load(path: str) -> Loaded:
    """Read and parse a configuration.

    Raises:
        NoInput: there is no such file, or it can't be read.
        ConfigInvalid: it has errors; the exception carries all of them.
    """
    data = read_config(path)
    name = name_config(path)
    parsed = parse(data, name)
    text = decode_leniently(data)
    if parsed.config is None:
        raise ConfigInvalid(name, parsed.diagnostics, {name: text})
    return Loaded(parsed.config, parsed.diagnostics, text)
