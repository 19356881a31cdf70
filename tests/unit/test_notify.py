"""The words that a service manager hears."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """A socket as a service manager has it, and the environment that it gives."""
    name = f"@xdplb-test-{secrets.token_hex(8)}"
    address = name if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + address[1:] if address.startswith("@") else address)
        listener.setblocking(False)
        yield listener, {"NOTIFY_SOCKET": address}


def hear(listener: socket.socket) -> list[str]:
    heard = []
    while True:
        try:
            heard.append(listener.recv(4096).decode())
        except BlockingIOError:
            return heard


def test_what_is_said(manager: tuple[socket.socket, dict[str, str]]) -> None:
    listener, environment = manager
    notifier = Notifier(environment)
    notifier.say_status("two\nlines")
    notifier.say_ready()
    with notifier.reloading():
        first, second, reloading = hear(listener)
    notifier.say_stopping()
    assert (first, second) == ("STATUS=two lines", "READY=1")
    assert reloading.startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert hear(listener) == ["READY=1", "STOPPING=1"]


def test_a_reload_that_fails_has_ended_too(manager: tuple[socket.socket, dict[str, str]]) -> None:
    listener, environment = manager
    with pytest.raises(OSError, match="of the machine"), Notifier(environment).reloading():
        raise OSError("of the machine")
    assert hear(listener)[-1] == "READY=1"


@pytest.mark.parametrize(
    ("more", "heard"),
    [
        ({}, []),
        ({"WATCHDOG_USEC": "30000000"}, ["WATCHDOG=1"]),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, ["WATCHDOG=1"]),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, []),
    ],
)
def test_the_watchdog_is_kept_quiet_if_there_is_one(
    manager: tuple[socket.socket, dict[str, str]], more: dict[str, str], heard: list[str]
) -> None:
    listener, environment = manager
    Notifier(environment | more).say_alive()
    assert hear(listener) == heard


def test_without_a_manager_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier({"WATCHDOG_USEC": "1"})
    notifier.say_ready()
    notifier.say_alive()
    assert caplog.messages == []


@pytest.mark.parametrize("address", ["{}/none", "@xdplb-nobody", "{}", "x" * 300, "vsock:2:1"])
def test_a_manager_that_does_not_listen_holds_nothing_up_and_is_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, address: str
) -> None:
    caplog.set_level(logging.WARNING, "xdplb")
    notifier = Notifier({"NOTIFY_SOCKET": address.format(tmp_path)})
    for _ in range(3):
        notifier.say_ready()
    (message,) = caplog.messages
    assert message.startswith("notify=failed reason=")


def test_a_manager_that_has_stopped_reading_holds_nothing_up(
    manager: tuple[socket.socket, dict[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    _, environment = manager
    notifier = Notifier(environment)
    while not caplog.messages:  # until its queue is full (net.unix.max_dgram_qlen)
        notifier.say_ready()
    assert "timed out" in caplog.messages[0]
