"""One writer: an exclusive flock on the instance's pin folder.

The kernel drops it with its process, however that ends, so it is never stale.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from reconciler.errors import Locked

_POLL_S = 0.1


class Hold:
    """A folder that is held: made by `hold_lock`."""

    def __init__(self, folder: Path, timeout_s: float) -> None:
        self._folder = folder
        self._fd = _lock_folder(folder, timeout_s)

    def is_there(self) -> bool:
        """Whether the folder is still the one that is held, and not one made since."""
        return _is_still_there(self._fd, self._folder)

    def renew(self) -> None:
        """Hold the folder that stands in the place of the one that was removed.

        Raises:
            Locked: another process was faster.
        """
        fd = _lock_folder(self._folder, 0.0)
        os.close(self._fd)
        self._fd = fd

    def release(self) -> None:
        """Let go."""
        os.close(self._fd)


@contextmanager
def hold_lock(folder: Path, *, timeout_s: float = 0.0) -> Iterator[Hold]:
    """Hold the instance while the block runs, waiting at most `timeout_s` for it.

    Raises:
        Locked: another process holds it; the message says which, and since when.
    """
    hold = Hold(folder, timeout_s)
    try:
        yield hold
    finally:
        hold.release()


def _lock_folder(folder: Path, timeout_s: float) -> int:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _acquire(fd, folder, timeout_s)
        if not _is_still_there(fd, folder):
            raise Locked(f"{folder.name} was taken down meanwhile", remedy="run it again")
    except BaseException:
        os.close(fd)
        raise
    return fd


def _is_still_there(fd: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(folder))
    except FileNotFoundError:
        return False


def _acquire(fd: int, folder: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise Locked(
                    f"{folder.name} is held by {_describe_holder(fd)}",
                    remedy="stop it, or wait for it with --lock-timeout",
                ) from None
            time.sleep(_POLL_S)
        else:
            return


def find_holder(folder: Path) -> int | None:
    """Return the pid that holds an instance, or None."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _find_holder(fd)
    finally:
        os.close(fd)


def _find_holder(fd: int) -> int | None:
    """The pid in /proc/locks (proc(5)) whose lock is on this inode."""
    inode = os.fstat(fd).st_ino
    device = os.fstat(fd).st_dev
    place = f"{os.major(device):02x}:{os.minor(device):02x}:{inode}"
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if "->" not in fields and fields[1] == "FLOCK" and fields[5] == place:
            return int(fields[4])
    return None


def _describe_holder(fd: int) -> str:
    pid = _find_holder(fd)
    if not pid:
        return "another process"
    try:
        started = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
        uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return f"pid {pid}"
    age_s = uptime_s - int(started) / os.sysconf("SC_CLK_TCK")
    since = datetime.fromtimestamp(time.time() - age_s, timezone.utc)
    return f"pid {pid}, running since {since:%Y-%m-%d %H:%M:%S} UTC"
