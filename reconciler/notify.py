"""Tells the service manager how it goes: the protocol of sd_notify(3).

Without a service manager that asks for it, nothing is told.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from reconciler.log import log_event


class Notifier:
    """Says to the one who started this process what it is asked to say.

    Args:
        environment: where NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID stand.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # An abstract socket's name begins with a zero byte (unix(7)).
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._is_watched = "WATCHDOG_USEC" in environment and environment.get(
            "WATCHDOG_PID", str(os.getpid())
        ) == str(os.getpid())
        self._has_failed = False

    def say_ready(self) -> None:
        """The first pass is over: what depends on the balancer may start."""
        self._send("READY=1")

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Say that the file is being taken, while the block runs."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1_000}")
        try:
            yield
        finally:
            self._send("READY=1")

    def say_stopping(self) -> None:
        """The controller ends."""
        self._send("STOPPING=1")

    def say_status(self, words: str) -> None:
        """Give a line for people, as `systemctl status` shows it."""
        self._send(f"STATUS={' '.join(words.split())}")

    def say_alive(self) -> None:
        """Keep the watchdog quiet."""
        if self._is_watched:
            self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                # Who does not listen does not hold the balancer up.
                sender.settimeout(1.0)
                sender.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._has_failed:
                log_event(logging.WARNING, notify="failed", reason=str(error))
            self._has_failed = True
