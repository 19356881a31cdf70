"""Finds and reads the files that `include` names, within bounds.

Nothing here waits: what is no regular file is refused, not read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase

from reconciler.config import codes
from reconciler.config.document import Document, read_document
from reconciler.config.include import EMPTY_HINT, Include
from reconciler.config.nodes import count_nodes, diagnose
from reconciler.config.text import MAX_BYTES, decode_leniently
from reconciler.config.yaml12 import MAX_NODES
from reconciler.diagnostics import Diagnostic, quote

MAX_FILES = 1024

_WILDCARDS = frozenset("*?[")


class _RefusedError(Exception):
    """A pattern or a file can't be followed, for this reason."""

    def __init__(self, message: str, hint: str = "", code: str = codes.INCLUDE) -> None:
        super().__init__(message)
        self.message, self.hint, self.code = message, hint, code


class _NoDirectoryError(_RefusedError):
    """The directory of a pattern with wildcards is not there."""


def has_wildcard(pattern: str) -> bool:
    """Whether a pattern, or a part of one, stands for whatever files there are."""
    return not _WILDCARDS.isdisjoint(pattern)


def find_files(pattern: str) -> list[str]:
    """Return the paths that a pattern leads to, sorted by name.

    One without wildcards leads to itself, whether or not that is there. A wildcard
    does not stand for a dot in front, nor for a '/'.

    Raises:
        OSError, ValueError: the pattern's directory can't be listed.
    """
    folder, name = os.path.split(pattern)
    if not has_wildcard(name):
        return [pattern]
    with os.scandir(folder or ".") as entries:
        names = [entry.name for entry in entries if _matches(entry.name, name)]
    return [os.path.join(folder, each) for each in sorted(names)]


def _matches(name: str, pattern: str) -> bool:
    is_hidden = name.startswith(".") and not pattern.startswith(".")
    return not is_hidden and fnmatchcase(name, pattern)


class IncludedFiles:
    """Reads what one file includes; `documents` and `texts` grow with every entry.

    What can't be read is a document without a root: its problem stands at the
    entry that names it. All files together are within the bounds of one.

    Attributes:
        documents: in the order of the entries, each file once.
        texts: their text, by path.
        problems: of entries that lead to no file at all.
    """

    def __init__(
        self, main: str, data: bytes, document: Document, needed: Collection[str] = ()
    ) -> None:
        """Begin after the file `main`, which is `data` and was read as `document`.

        `needed` are the directories that have to be there: files were in them before.
        """
        self.documents: list[Document] = []
        self.problems: list[Diagnostic] = []
        self.texts: dict[str, str] = {}
        self._needed = needed
        self._folder = os.path.dirname(main)
        self._main = os.path.abspath(main)
        self._seen: set[str] = set()
        self._bytes_left = MAX_BYTES - len(data)
        self._values_left = MAX_NODES - (count_nodes(document.root) if document.root else 0)

    def read(self, include: Include) -> str:
        """Read the files of an entry; return its pattern as a path."""
        pattern = os.path.join(self._folder, include.pattern)
        try:
            paths = list(self._find(include.pattern, pattern))
        except _NoDirectoryError as error:
            self._tell_absence(pattern, include, error)
            return pattern
        except _RefusedError as error:
            self._refuse(pattern, include, error)
            return pattern
        for path in paths:
            try:
                self._read_file(path)
            except _RefusedError as error:
                self._refuse(path, include, error)
        return pattern

    def _find(self, written: str, pattern: str) -> Iterator[str]:
        """Yield the files of a pattern that have not been read yet."""
        for path in _list_files(written, pattern):
            absolute = os.path.abspath(path)
            if absolute == self._main:
                hint = "keep the files that it includes in a directory of their own: conf.d/*.yaml"
                raise _RefusedError(f"{quote(written)} names this file itself", hint)
            if absolute in self._seen:
                continue
            if len(self._seen) == MAX_FILES:
                raise _RefusedError(f"more than {MAX_FILES} files", code=codes.TOO_LARGE)
            self._seen.add(absolute)
            yield path

    def _read_file(self, path: str) -> None:
        data = _read_regular(path, self._bytes_left + 1)
        if len(data) > self._bytes_left:
            message = f"the files together are larger than {MAX_BYTES // 1024 // 1024} MiB"
            raise _RefusedError(message, code=codes.TOO_LARGE)
        self._bytes_left -= len(data)
        self.texts[path] = decode_leniently(data)
        document = read_document(data, path, room=self._values_left, hint=EMPTY_HINT)
        # One that was given up may have held as many values as fit into its bytes.
        held = count_nodes(document.root) if document.root else len(data) // 2
        self._values_left = max(self._values_left - held, 0)
        self.documents.append(document)

    def _tell_absence(self, pattern: str, include: Include, error: _NoDirectoryError) -> None:
        """A directory that is not there holds no file; one that was there may have been lost."""
        if os.path.dirname(pattern) in self._needed:
            problem = diagnose(codes.INCLUDE, include.place, error.message, error.hint)
        else:
            message = f"{error.message}: nothing is included from it"
            problem = diagnose(
                codes.NO_DIRECTORY, include.place, message, error.hint, severity="warning"
            )
        self.problems.append(problem)

    def _refuse(self, path: str, include: Include, error: _RefusedError) -> None:
        problem = diagnose(error.code, include.place, error.message, error.hint)
        self.documents.append(Document(path, "", None, [problem]))


def _list_files(written: str, pattern: str) -> list[str]:
    folder, name = os.path.split(pattern)
    if has_wildcard(os.path.dirname(written)):
        hint = "wildcards stand in the file name; list each directory by itself"
        raise _RefusedError(f"{quote(written)} has a wildcard in a directory's name", hint)
    if not name:
        hint = f"write {written}*.yaml for the files in it"
        raise _RefusedError(f"{quote(written)} is a directory", hint)
    try:
        return find_files(pattern)
    except FileNotFoundError:
        hint = "make it, or take the entry away"
        raise _NoDirectoryError(f"there is no directory {folder}", hint) from None
    except (OSError, ValueError) as error:
        raise _RefusedError(f"{folder or '.'} can't be listed: {_say(error)}") from None


def open_at_once(path: str) -> int:
    """Return a descriptor to read by, without waiting for a pipe's writer or taking a terminal.

    Raises:
        OSError, ValueError: it can't be opened.
    """
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)


def _read_regular(path: str, limit: int) -> bytes:
    """Return at most `limit` bytes of a regular file."""
    try:
        fd = open_at_once(path)
        try:
            _check_kind(path, os.fstat(fd).st_mode)
            with open(fd, "rb", closefd=False) as file:
                return file.read(limit)
        finally:
            os.close(fd)
    except FileNotFoundError:
        if os.path.lexists(path):
            raise _RefusedError(f"{path} is a link that leads nowhere") from None
        hint = "write it, or take the entry away"
        raise _RefusedError(f"there is no file {path}", hint) from None
    except (OSError, ValueError) as error:
        raise _RefusedError(f"{path} can't be read: {_say(error)}") from None


def _check_kind(path: str, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise _RefusedError(f"{path} is a directory", f"write {path}/*.yaml for the files in it")
    if not stat.S_ISREG(mode):
        raise _RefusedError(f"{path} is not a regular file")


def _say(error: OSError | ValueError) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)
