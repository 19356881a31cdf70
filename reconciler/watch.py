"""Notices that a file may have changed, or one of those that it includes.

watchdog makes it fast: any event in the files' folders, or in their targets', is a
hint. A look at the files once a second makes it sure: watchers go silent without
an error when a folder is replaced or a link is turned. The only user of watchdog.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from watchdog.events import FileClosedEvent, FileMovedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from reconciler.included_files import MAX_FILES, find_files, has_wildcard

POLL_S = 1.0

# Identity and times of what a path leads to; None while it leads nowhere.
FileStamp: TypeAlias = tuple[int, int, int, int, int] | None
Stamp: TypeAlias = dict[str, FileStamp]


class Sources:
    """The files that a configuration is read from: one, and what `patterns` lead to.

    Attributes:
        path: of the file itself.
        patterns: the paths that it includes, with their wildcards.
    """

    def __init__(self, path: Path, patterns: tuple[str, ...] = ()) -> None:
        self.path = path
        self.patterns = patterns

    def list_files(self) -> set[Path]:
        """Return the paths of the files that are there now, and of those that should be.

        Of more than may be read there are no more than that, and one.
        """
        files = {self.path}
        for pattern in self.patterns:
            with contextlib.suppress(OSError, ValueError):  # nor can it be read: said then
                files.update(map(Path, find_files(pattern)[: MAX_FILES + 1]))
        return files

    def list_folders(self) -> set[Path]:
        """Return the folders in which files may come and go unasked."""
        return {Path(pattern).parent for pattern in self.patterns if has_wildcard(pattern)}

    def read_stamp(self) -> Stamp:
        """Return what changes whenever one of the files does, comes or goes.

        That is device, inode, size, mtime and ctime of each, by path. Folders are
        among them, so that one who takes a file away and puts it back is noticed
        in between.
        """
        paths = self.list_files() | self.list_folders()
        return {str(path): _read_file_stamp(path) for path in paths}


def _read_file_stamp(path: Path) -> FileStamp:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def measure_age_s(stamp: Stamp) -> float:
    """Return how long ago one of the files was last written, renamed or linked, in seconds.

    What has no file, or a time in the future, is taken to be old: waiting would
    tell nothing.
    """
    return min(map(_measure_file_age_s, stamp.values()), default=float("inf"))


def _measure_file_age_s(stamp: FileStamp) -> float:
    if stamp is None:
        return float("inf")
    age_s = time.time() - max(stamp[3], stamp[4]) / 1e9
    return age_s if age_s >= 0 else float("inf")


class FileWatch(FileSystemEventHandler):
    """Calls `wake` when one of the files may have changed."""

    def __init__(self, sources: Sources, wake: Callable[[], None]) -> None:
        self._sources = sources
        self._wake = wake
        self._complete = threading.Event()
        self._observer: BaseObserver | None = None
        self._folders: dict[str, tuple[int, int]] = {}

    def take_complete(self) -> bool:
        """Return whether a change has ended since the last call: nothing is to be waited for.

        A rename or a writer that closed the file ends the change of one file. Where
        there are several nothing does: who edits them goes from one to the next.
        """
        was = self._complete.is_set()
        self._complete.clear()
        return was and not self._sources.patterns

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Pass on every event: names lie when folders are swapped under them."""
        if isinstance(event, (FileClosedEvent, FileMovedEvent)) and self._names_file(event):
            self._complete.set()
        if event.event_type not in ("opened", "closed_no_write"):
            self._wake()

    def _names_file(self, event: FileSystemEvent) -> bool:
        ended = os.path.basename(os.fsdecode(event.dest_path or event.src_path))
        path = self._sources.path
        return ended in (path.name, os.path.basename(os.path.realpath(path)))

    def refresh(self) -> None:
        """Watch the folders that the paths lead through now; call it once a poll.

        Where the system has no watches to give, the poll alone remains.
        """
        folders = _find_folders(self._sources)
        if folders == self._folders:
            return
        self.stop()
        observer = Observer()
        try:
            for folder in folders:
                observer.schedule(self, folder)
            observer.start()
        except OSError:
            return
        self._observer, self._folders = observer, folders

    def stop(self) -> None:
        """Stop watching."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
        self._observer, self._folders = None, {}


def _find_folders(sources: Sources) -> dict[str, tuple[int, int]]:
    """The folders of the files and of every link on their way, with their identity."""
    folders = {folder.absolute() for folder in sources.list_folders()}
    for path in sources.list_files():
        folders |= {path.absolute().parent, Path(os.path.realpath(path)).parent}
    found = {}
    for folder in folders:
        try:
            status = folder.stat()
        except OSError:
            continue
        found[str(folder)] = (status.st_dev, status.st_ino)
    return found
