"""Notices that a file may have changed.

watchdog makes it fast: any event in the file's folder, or in its target's, is a
hint. A look at the file once a second makes it sure: watchers go silent without
an error when a folder is replaced or a link is turned. The only user of watchdog.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from watchdog.events import FileClosedEvent, FileMovedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

POLL_S = 1.0

# Identity and times of what the path leads to; None while it leads nowhere.
Stamp = tuple[int, int, int, int, int] | None


def read_stamp(path: Path) -> Stamp:
    """Return what changes whenever the file does: device, inode, size, mtime, ctime."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def measure_age_s(stamp: Stamp) -> float:
    """Return how long ago the file was last written, renamed or linked, in seconds.

    What has no file, or a time in the future, is taken to be old: waiting would
    tell nothing.
    """
    if stamp is None:
        return float("inf")
    age_s = time.time() - max(stamp[3], stamp[4]) / 1e9
    return age_s if age_s >= 0 else float("inf")


class FileWatch(FileSystemEventHandler):
    """Calls `wake` when the file may have changed.

    `is_complete` says whether the last event ended a change (a rename, a writer
    that closed the file), so that there is nothing to wait for.
    """

    def __init__(self, path: Path, wake: Callable[[], None]) -> None:
        self._path = path
        self._wake = wake
        self._complete = threading.Event()
        self._observer: BaseObserver | None = None
        self._folders: dict[str, tuple[int, int]] = {}

    def take_complete(self) -> bool:
        """Return whether a change has ended since the last call."""
        was = self._complete.is_set()
        self._complete.clear()
        return was

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Pass on every event: names lie when folders are swapped under them."""
        if isinstance(event, (FileClosedEvent, FileMovedEvent)) and self._names_file(event):
            self._complete.set()
        if event.event_type not in ("opened", "closed_no_write"):
            self._wake()

    def _names_file(self, event: FileSystemEvent) -> bool:
        ended = os.path.basename(os.fsdecode(event.dest_path or event.src_path))
        return ended in (self._path.name, self._path.resolve().name)

    def refresh(self) -> None:
        """Watch the folders that the path leads through now; call it once a poll.

        Where the system has no watches to give, the poll alone remains.
        """
        folders = _find_folders(self._path)
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


def _find_folders(path: Path) -> dict[str, tuple[int, int]]:
    """The folders of the path and of every link on its way, with their identity."""
    folders = {}
    for folder in {path.absolute().parent, path.resolve().parent}:
        try:
            status = folder.stat()
        except OSError:
            continue
        folders[str(folder)] = (status.st_dev, status.st_ino)
    return folders
