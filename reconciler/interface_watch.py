"""Notices that an interface came, went, or got another address or MTU.

The kernel tells rtnetlink's groups (rtnetlink(7)); what it tells is not read, any
message only says "look again". So a message that is lost (ENOBUFS) is one as well.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
from collections.abc import Callable

# include/uapi/linux/netlink.h, rtnetlink.h
_RTNETLINK = 0
_LINK, _IPV4_ADDRESS, _IPV6_ADDRESS = 0x1, 0x10, 0x100
_BIGGEST = 1 << 16


class InterfaceWatch:
    """Calls `on_event` from a thread of its own whenever something may have changed."""

    def __init__(self, on_event: Callable[[], None]) -> None:
        self._on_event = on_event
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _RTNETLINK
        )
        self._socket.setblocking(False)
        self._socket.bind((0, _LINK | _IPV4_ADDRESS | _IPV6_ADDRESS))
        self._stop_fd = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._listen, name="interface-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and close what it read from."""
        os.eventfd_write(self._stop_fd, 1)
        self._thread.join()
        self._socket.close()
        os.close(self._stop_fd)

    def _listen(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            selector.register(self._stop_fd, selectors.EVENT_READ)
            while not any(key.fd == self._stop_fd for key, _ in selector.select()):
                with contextlib.suppress(OSError):  # some were lost: that is news too
                    self._socket.recv(_BIGGEST)
                self._on_event()
