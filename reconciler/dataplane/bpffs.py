"""The BPF file system, where pins live."""

from __future__ import annotations

import ctypes as ct
import os
from pathlib import Path

from reconciler.errors import NoPermission, Unavailable

DEFAULT_PIN_ROOT = Path("/sys/fs/bpf/xdplb")
_BPF_FS_MAGIC = 0xCAFE4A11  # include/uapi/linux/magic.h


class _Statfs(ct.Structure):
    _fields_ = (("f_type", ct.c_long), ("rest", ct.c_char * 512))


def is_bpffs(path: Path) -> bool:
    """Whether `path` lies in a BPF file system."""
    libc = ct.CDLL(None, use_errno=True)
    buffer = _Statfs()
    if libc.statfs(os.fsencode(path), ct.byref(buffer)):
        return False
    return bool(buffer.f_type & 0xFFFFFFFF == _BPF_FS_MAGIC)


def ensure_bpffs(root: Path) -> bool:
    """Make `root` a folder of a BPF file system, mounting one above it where none is.

    The mount goes to /sys/fs/bpf, or, for a root elsewhere, to the root itself.

    Returns:
        Whether the pins will outlive the processes of this mount namespace. They
        don't where `ip netns exec` made it for one command and we mounted in it.

    Raises:
        NoPermission: mounting needs CAP_SYS_ADMIN.
        Unavailable: there is no place to mount to, or something is in it.
    """
    place = find_mount_place(root)
    if place == root:
        place.mkdir(parents=True, exist_ok=True)
    lasts = True
    if not is_bpffs(place):
        if place == root:
            _require_empty(place)
        _mount(place)
        lasts = is_namespace_of_parent()
    root.mkdir(mode=0o700, exist_ok=True)
    return lasts


def is_read_only(path: Path) -> bool:
    """Whether the file system of `path` is mounted read-only."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def require_writable(folder: Path) -> None:
    """See that pins in `folder` can be made and removed.

    Raises:
        Unavailable: its file system is mounted read-only.
    """
    if is_read_only(folder):
        place = next(each for each in (folder, *folder.parents) if os.path.ismount(each))
        raise Unavailable(
            f"{folder} is on a file system that is mounted read-only",
            remedy=f"make it writable: mount -o remount,rw {place}",
        )


def find_mount_place(root: Path) -> Path:
    """Return where a BPF file system has to be for pins under `root`."""
    usual = Path("/sys/fs/bpf")
    return usual if root.is_relative_to(usual) else root


def is_namespace_of_parent() -> bool:
    """Whether whoever started this process sees the same mounts."""
    try:
        return os.path.samefile("/proc/self/ns/mnt", f"/proc/{os.getppid()}/ns/mnt")
    except OSError:
        return True  # another user's process: nobody knows better


def _require_empty(place: Path) -> None:
    """See that a mount would hide nothing."""
    if any(place.iterdir()):
        raise Unavailable(
            f"{place} is no BPF file system, and there is something in it",
            remedy="name a new or an empty folder with --pin-dir, or one where you have mounted"
            " one: mount -t bpf bpf FOLDER",
        )


def _mount(place: Path) -> None:
    libc = ct.CDLL(None, use_errno=True)
    if libc.mount(b"bpf", os.fsencode(place), b"bpf", 0, b"mode=0700"):
        number = ct.get_errno()
        message = f"cannot mount a BPF file system at {place}: {os.strerror(number)}"
        remedy = f"mount it yourself: mount -t bpf bpf {place}"
        if isinstance(OSError(number, ""), PermissionError):
            raise NoPermission(message, remedy=remedy)
        raise Unavailable(message, remedy=remedy)
