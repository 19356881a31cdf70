"""What the machine itself has: privileges, BCC, limits, a BPF file system."""

from __future__ import annotations

import importlib.util
import os
import platform
import resource
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from reconciler.dataplane.bpffs import (
    find_mount_place,
    is_bpffs,
    is_namespace_of_parent,
    is_read_only,
)
from reconciler.dataplane.libbpf import Libbpf
from reconciler.diagnosis.facts import Bcc, Bpffs, MachineFacts, Unseen
from reconciler.errors import Unavailable
from reconciler.privileges import find_missing

_JIT = Path("/proc/sys/net/core/bpf_jit_enable")
_NAMED_NAMESPACES = Path("/run/netns")


def look_at_machine(pin_root: Path, bcc: Bcc, words: Sequence[str]) -> MachineFacts:
    """Return what is the same whatever lb.yaml says; `words` are the doctor's arguments."""
    return MachineFacts(
        release=platform.release(),
        missing_capabilities=tuple(find_missing()),
        bcc=bcc,
        bpffs=_look_at_bpffs(pin_root),
        memlock_bytes=_read_memlock(),
        is_jit_on=_read_jit(),
        repeat=shlex.join(["xdplb", "doctor", *words]),
    )


def look_at_bcc() -> tuple[Bcc, Libbpf | None]:
    """Return whether BCC can be used, and the way to it if so."""
    try:
        return Bcc(), Libbpf()
    except Unavailable as error:
        problem = error.message
    return (
        Bcc(
            problem,
            is_another=importlib.util.find_spec("bcc") is not None,
            closed_environment=_find_closed_environment(),
            distribution=_read_distribution(),
            python=sys.executable,
        ),
        None,
    )


def _find_closed_environment() -> str:
    settings = Path(sys.prefix, "pyvenv.cfg")
    try:
        lines = settings.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""  # no virtual environment
    is_closed = "include-system-site-packages = false" in lines
    return str(settings) if is_closed else ""


def _read_distribution() -> tuple[str, ...]:
    try:
        described = platform.freedesktop_os_release()
    except OSError:
        return ()
    return (described.get("ID", ""), *described.get("ID_LIKE", "").split())


def _look_at_bpffs(pin_root: Path) -> Bpffs:
    place = find_mount_place(pin_root)
    if is_bpffs(place):
        return Bpffs(str(place), is_read_only=is_read_only(place))
    return Bpffs(
        str(place),
        is_mounted=False,
        mounts_last=is_namespace_of_parent(),
        namespace=_find_own_name(),
    )


def _find_own_name() -> str:
    """What `ip netns` calls this network namespace; empty if it has no name."""
    try:
        named = sorted(_NAMED_NAMESPACES.iterdir())
        own = os.stat("/proc/self/ns/net")
        return next((path.name for path in named if os.path.samestat(path.stat(), own)), "")
    except OSError:
        return ""


def _read_memlock() -> int | None:
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return None if soft == resource.RLIM_INFINITY else soft


def _read_jit() -> bool | Unseen:
    try:
        return _JIT.read_text(encoding="ascii").strip() != "0"
    except FileNotFoundError:
        return Unseen("the sysctl is in the first network namespace")
    except PermissionError:
        return Unseen("only root may read the sysctl")
