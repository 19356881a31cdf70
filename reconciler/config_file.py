"""Finds and reads lb.yaml. What it says is `reconciler.config`'s matter."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from reconciler.config import ConfigInvalid, Parsed, judge
from reconciler.config.document import Document, digest_documents, read_document
from reconciler.config.include import list_includes
from reconciler.config.name import find_name
from reconciler.config.reread import Rereader
from reconciler.config.text import MAX_BYTES, decode_leniently
from reconciler.diagnostics import Diagnostic
from reconciler.errors import NoInput
from reconciler.included_files import IncludedFiles, open_at_once
from reconciler.model import Config

STANDARD_INPUT = "-"
STANDARD_INPUT_NAME = "<stdin>"
_SYSTEM_PATH = "/etc/xdplb/lb.yaml"


@dataclass(frozen=True, slots=True)
class Files:
    """A configuration's files as they were read: its own, and those that it includes.

    `patterns` are the paths that `include` asks for, with their wildcards, and
    `texts` what the files hold, by the name that each has in diagnostics. `known` is
    what they say, if that is known already.
    """

    document: Document
    included: tuple[Document, ...]
    patterns: tuple[str, ...]
    texts: Mapping[str, str]
    known: Config | None = None

    @property
    def sha256(self) -> str:
        """The digest of all of them; see `digest_documents`."""
        return digest_documents([self.document, *self.included])

    def parse(self) -> Parsed:
        """Return what they say. To be called once: the documents are used up."""
        if self.known is not None:
            return Parsed(self.known, ())
        return judge(self.document, self.included)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration, what its author should know about it, and its files' texts."""

    config: Config
    warnings: tuple[Diagnostic, ...]
    texts: Mapping[str, str]


def default_config_path() -> str:
    """Return `$XDPLB_CONFIG`, or `lb.yaml` if there is one here, or `/etc/xdplb/lb.yaml`."""
    if configured := os.environ.get("XDPLB_CONFIG"):
        return configured
    return "lb.yaml" if Path("lb.yaml").exists() else _SYSTEM_PATH


def name_config(path: str) -> str:
    """Return what a path is called in diagnostics."""
    return STANDARD_INPUT_NAME if path == STANDARD_INPUT else path


def read_config(path: str, *, takes_pipe: bool = False) -> bytes:
    """Return the bytes of a file, or of standard input for `-`.

    At most one byte more than a configuration may have is read, so that a device
    that never ends is refused like any other file that is too large. What is no regular
    file is read with `takes_pipe` only: it may keep its reader waiting.

    Raises:
        NoInput: there is no such file, or it can't be read.
    """
    try:
        if path == STANDARD_INPUT:
            return _read_standard_input()
        return _read_file(path, takes_pipe=takes_pipe)
    except FileNotFoundError:
        remedy = "name one, set XDPLB_CONFIG, or start from examples/lb.yaml"
        raise NoInput(f"there is no file {_list_places(path)}", remedy=remedy) from None
    except IsADirectoryError:
        raise NoInput(f"{path} is a directory", remedy="name the file in it") from None
    except PermissionError:
        remedy = "make it readable, or run as a user who may read it"
        raise NoInput(f"{path} may not be read by this user", remedy=remedy) from None
    except (OSError, ValueError) as error:
        remedy = "name a regular file, or '-' for standard input"
        raise NoInput(f"{path} can't be read: {error}", remedy=remedy) from None


def _read_standard_input() -> bytes:
    if sys.stdin is None:  # as Python has it for a descriptor that is closed
        raise NoInput("standard input is closed", remedy="name a file, or open it")
    return sys.stdin.buffer.read(MAX_BYTES + 1)


def _list_places(path: str) -> str:
    """A path that is missing, and where else was looked if it is the last of the defaults."""
    is_last = path == _SYSTEM_PATH == default_config_path()
    return f"{path}, nor lb.yaml here" if is_last else path


def _read_file(path: str, *, takes_pipe: bool) -> bytes:
    with open(open_at_once(path), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if not (stat.S_ISREG(mode) or takes_pipe):
            raise NoInput(f"{path} is not a regular file", remedy="name one")
        os.set_blocking(file.fileno(), True)
        data = file.read(MAX_BYTES + 1)
    if stat.S_ISFIFO(mode) and not data:
        raise NoInput(f"{path} is a pipe, and nothing was written to it", remedy="name a file")
    return data


def read_files(path: str, *, takes_pipe: bool = False, needed: Collection[str] = ()) -> Files:
    """Read a file, or standard input for `-`, and what it includes.

    Only the file itself must be there: what else is wrong is in the documents. What standard
    input includes is looked for from the working directory on. Who looks at it again and
    again can't take a pipe.

    Args:
        path: the file.
        takes_pipe: see `read_config`.
        needed: directories of included files that have to be there.

    Raises:
        NoInput: there is no such file, or it can't be read.
    """
    data = read_config(path, takes_pipe=takes_pipe)
    name = name_config(path)
    document = read_document(data, name)
    texts = {name: decode_leniently(data)}
    includes = list_includes(document)
    included = IncludedFiles("" if path == STANDARD_INPUT else path, data, document, needed)
    patterns = tuple(included.read(include) for include in includes)
    document.problems.extend(included.problems)
    return Files(document, tuple(included.documents), patterns, texts | included.texts)


def read_name(path: str) -> str:
    """Return the name of the instance that a file is of, as cheaply as that can be known.

    What else is wrong with the file does not matter.

    Raises:
        NoInput: there is no such file, or it can't be read.
        ConfigInvalid: the name can't be told; the exception carries why.
    """
    data = read_config(path, takes_pipe=True)
    document = read_document(data, name_config(path))
    name = find_name(document)
    if name is None:
        texts = {document.path: decode_leniently(data)}
        raise ConfigInvalid(document.path, judge(document).diagnostics, texts)
    return name


class FileReader:
    """Reads one configuration again and again: what is as it was is not parsed again."""

    def __init__(self, path: str, first: Loaded) -> None:
        self._path = path
        self._rereader = Rereader()
        self.remember(first)

    def read(self) -> Files:
        """Return the files as they are now; see `read_files`.

        Raises:
            NoInput: there is no such file, or it can't be read.
        """
        data = read_config(self._path)
        known = self._rereader.reread(data, self._path)
        if known is None:
            return read_files(self._path, needed=self._folders)
        document = Document(self._path, known.sha256, None, [])
        return Files(document, (), (), {self._path: decode_leniently(data)}, known)

    def remember(self, loaded: Loaded) -> None:
        """Remember what was read, if it is one file about which there was nothing to tell.

        Directories that files were included from have to be there from now on: who moves one
        away has not asked for its services to go.
        """
        self._folders = {os.path.dirname(path) for path in loaded.texts if path != self._path}
        text = loaded.texts.get(self._path)
        if text is not None and len(loaded.texts) == 1 and not loaded.warnings:
            self._rereader.remember(loaded.config, text)


def parse_files(files: Files) -> Loaded:
    """Return the valid configuration that the files are.

    Raises:
        ConfigInvalid: they have errors; the exception carries all of them.
    """
    parsed = files.parse()
    if parsed.config is None:
        raise ConfigInvalid(files.document.path, parsed.diagnostics, files.texts)
    return Loaded(parsed.config, parsed.diagnostics, files.texts)


def load(path: str, *, takes_pipe: bool = True) -> Loaded:
    """Read and parse a configuration; from a pipe too, once, unless it is to be followed.

    Raises:
        NoInput: there is no such file, or it can't be read.
        ConfigInvalid: it has errors; the exception carries all of them.
    """
    return parse_files(read_files(path, takes_pipe=takes_pipe))
