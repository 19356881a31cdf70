"""Named network namespaces: made, entered, listed and deleted."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from reconciler.dataplane.bpffs import ensure_bpffs
from reconciler.errors import NoPermission, Unavailable, XdplbError
from reconciler.lab.waiting import wait_until

DIRECTORY = Path("/run/netns")

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_TOOLS = {"ip": "iproute2", "ethtool": "ethtool", "nsenter": "util-linux", "unshare": "util-linux"}
# A kept laboratory outlives its maker; any other is stale when its maker is dead.
_NAME = re.compile(r"(?P<tag>xdplb-(?P<kept>kept-)?(?P<maker>\d+)-\d+)-[a-z0-9]+")


def require_root_and_tools() -> None:
    """Check what every laboratory needs.

    Raises:
        NoPermission: this process is not root.
        Unavailable: a program is missing; the remedy names its package.
    """
    if os.geteuid() != 0:
        raise NoPermission("a laboratory needs root", remedy="run it with sudo")
    for tool, package in _TOOLS.items():
        if shutil.which(tool) is None:
            raise Unavailable(f"{tool} is missing", remedy=f"install {package}")


def run_tool(command: Sequence[str], stdin: str = "") -> str:
    """Run one of the programs that build a laboratory and return what it printed.

    Raises:
        XdplbError: it failed; the message is its own.
    """
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise XdplbError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def make_tag(counter: int, kept: bool) -> str:
    """The common beginning of a laboratory's names; it carries the maker's pid."""
    return f"xdplb-{'kept-' if kept else ''}{os.getpid()}-{counter}"


def add_namespaces(names: Iterable[str]) -> None:
    """Make namespaces that hold nothing but a loopback interface, which is down."""
    run_tool(["ip", "-batch", "-"], "".join(f"netns add {name}\n" for name in names))


def read_ifindexes(namespace: str) -> dict[str, int]:
    """Return the numbers of a namespace's interfaces, by name."""
    links = json.loads(run_tool(["ip", "-n", namespace, "-json", "link", "show"]))
    return {link["ifname"]: int(link["ifindex"]) for link in links}


@contextmanager
def own_bpffs(prefix: str) -> Iterator[Path]:
    """A BPF file system that ends with this process, however that ends.

    It is mounted nowhere: the descriptor is all that holds it. `prefix` names the folder where
    it was mounted for a moment.
    """
    with tempfile.TemporaryDirectory(prefix=f"{prefix}-") as directory:
        place = Path(directory) / "bpf"
        ensure_bpffs(place)
        root = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        run_tool(["umount", "--lazy", str(place)])
    try:
        yield Path(f"/proc/self/fd/{root}")
    finally:
        os.close(root)


def list_tags(*, stale: bool = False, kept: bool = False) -> set[str]:
    """Tags of the laboratories on this machine.

    Args:
        stale: those whose maker is dead and did not mean to leave them.
        kept: those that were left on purpose.
    """
    names = os.listdir(DIRECTORY) if DIRECTORY.is_dir() else []
    found = [match for name in names if (match := _NAME.fullmatch(name))]
    return {
        match["tag"]
        for match in found
        if (kept if match["kept"] else stale and not is_running(int(match["maker"])))
    }


def delete_namespaces(tag: str) -> None:
    """End whatever still runs in a laboratory's namespaces and delete them.

    Everything in there descends from the laboratory's maker or from somebody
    who entered; only the calling process itself is spared.
    """
    names = [name for name in _list_names() if name.startswith(f"{tag}-")]
    inside = {pid for name in names for pid in _list_pids(name)} - {os.getpid()}
    for pid in inside:
        _kill(pid)
    wait_until(lambda: not any(map(is_running, inside)), f"the processes of {tag} end")
    for name in names:
        _delete(name)


def _delete(namespace: str) -> None:
    try:
        run_tool(["ip", "netns", "delete", namespace])
    except XdplbError:
        if namespace in _list_names():  # nobody else has swept it meanwhile
            raise


@contextmanager
def entered(namespace: str) -> Iterator[None]:
    """Move the calling thread into a network namespace, and back at the end.

    A socket that is opened inside belongs to the namespace for good, so it can
    be used after leaving.

    Raises:
        OSError: there is no such namespace, or this process may not enter it.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(DIRECTORY / namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _set_namespace(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _set_namespace(home)
    finally:
        os.close(home)


def _set_namespace(descriptor: int) -> None:
    # os.setns came with Python 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _list_names() -> list[str]:
    return sorted(os.listdir(DIRECTORY)) if DIRECTORY.is_dir() else []


def _list_pids(namespace: str) -> list[int]:
    return [int(pid) for pid in run_tool(["ip", "netns", "pids", namespace]).split()]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def is_running(pid: int) -> bool:
    """Whether a process exists and is more than a zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    # The state follows the command's name, which is in parentheses and may hold any character.
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")
