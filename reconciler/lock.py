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


@contextmanager
def hold_lock(folder: Path, *, timeout_s: float = 0.0) -> Iterator[None]:
    """Hold the instance while the block runs, waiting at most `timeout_s` for it.

    Raises:
        Locked: another process holds it; the message says which, and since when.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _acquire(fd, folder, timeout_s)
        if not _is_still_there(fd, folder):
            raise Locked(f"{folder.name} was taken down meanwhile", remedy="run it again")
        yield
    finally:
        os.close(fd)


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
