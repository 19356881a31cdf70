"""What a driver says of itself and of its offloads: the ethtool ioctl.

Numbers and structs are those of include/uapi/linux/ethtool.h. The commands are the
oldest that say what is asked: every kernel and every driver answers them.
"""

from __future__ import annotations

import ctypes as ct
import fcntl
import socket
import struct
import sys

from reconciler.diagnosis.facts import Offloads

_SIOCETHTOOL = 0x8946  # include/uapi/linux/sockios.h
_IFREQ = struct.Struct("16sP16x")  # struct ifreq: a name, and where the command lies

_GDRVINFO, _GTXCSUM, _GFLAGS = 0x03, 0x16, 0x25
_DRVINFO_SIZE, _DRIVER = 196, slice(4, 36)
_FLAG_RXVLAN, _FLAG_LRO = 1 << 8, 1 << 15


def read_driver(interface: str) -> str:
    """Return the name of an interface's driver; empty where there is none, or no interface."""
    try:
        answer = _ask(interface, _GDRVINFO, _DRVINFO_SIZE)
    except OSError:
        return ""
    return answer[_DRIVER].split(b"\0")[0].decode()


def read_offloads(interface: str) -> Offloads:
    """Return what an interface does for the stack.

    Raises:
        OSError: there is no such interface.
    """
    flags = _ask_value(interface, _GFLAGS)
    return Offloads(
        lro=bool(flags & _FLAG_LRO),
        rxvlan=bool(flags & _FLAG_RXVLAN),
        tx_checksum=bool(_ask_value(interface, _GTXCSUM)),
    )


def _ask_value(interface: str, command: int) -> int:
    return int.from_bytes(_ask(interface, command, 8)[4:], sys.byteorder)  # struct ethtool_value


def _ask(interface: str, command: int, size: int) -> bytes:
    buffer = ct.create_string_buffer(command.to_bytes(4, sys.byteorder), size)
    request = _IFREQ.pack(interface.encode(), ct.addressof(buffer))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as anyone:
        fcntl.ioctl(anyone, _SIOCETHTOOL, request)
    return buffer.raw
