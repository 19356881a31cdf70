"""The other end of a veth, wherever it is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from socket import if_indextoname

from reconciler import netlink
from reconciler.diagnosis.facts import Device, Peer, Unseen
from reconciler.ethtool import read_offloads
from reconciler.lab.namespaces import DIRECTORY, entered


def find_peer(device: Device, devices: Mapping[str, Device]) -> Peer | Unseen:
    """Return a veth's other end; `devices` are those of this network namespace.

    Enters another namespace for a moment: call it in a thread of its own.
    """
    if device.lower_namespace is None:
        name = next((d.name for d in devices.values() if d.ifindex == device.lower), "")
        return Peer(name, "", read_offloads(name)) if name else Unseen("it is gone")
    for path, entry in _list_namespaces():
        try:
            if _find_id(path) == device.lower_namespace:
                with entered(str(path)):  # an absolute path is as good as a name
                    name = if_indextoname(device.lower)
                    return Peer(name, entry, read_offloads(name))
        except OSError as error:
            return Unseen(f"it is in another network namespace: {error.strerror}")
    return Unseen("it is in a network namespace that can't be seen from here")


def _list_namespaces() -> Iterator[tuple[Path, str]]:
    """Network namespaces, and how to run a command there: those with a name come first."""
    for path in sorted(DIRECTORY.iterdir()) if DIRECTORY.is_dir() else ():
        yield path, f"ip netns exec {path.name}"
    seen = set()
    for process in Path("/proc").glob("[0-9]*"):
        path = process / "ns" / "net"
        try:
            number = path.stat().st_ino
        except OSError:
            continue  # it has ended, or is not ours to look at
        if number not in seen:
            seen.add(number)
            yield path, f"nsenter --target {process.name} --net"


def _find_id(path: Path) -> int | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None  # it has ended
    try:
        return netlink.find_namespace_id(fd)
    finally:
        os.close(fd)
