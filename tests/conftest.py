"""What a machine lacks is skipped with its reason, and fails where XDPLB_REQUIRE=all."""

from __future__ import annotations

import errno
import functools
import os
import signal
from collections.abc import Callable

import pytest

from reconciler.dataplane.libbpf import KernelRefused, Libbpf
from reconciler.errors import XdplbError


def _require(is_there: object, lack: str) -> None:
    """Go on only if the machine has what the test needs; `lack` says what is missing."""
    if is_there:
        return
    if os.environ.get("XDPLB_REQUIRE") == "all":
        pytest.fail(f"{lack}, and XDPLB_REQUIRE=all", pytrace=False)
    pytest.skip(lack)


@functools.cache
def _find_lack() -> str:
    """Why tests marked `root` can't run here; empty if they can."""
    if os.geteuid() != 0:
        return "not root"
    try:
        Libbpf().get("/nowhere")
    except KernelRefused as refused:  # ENOENT: there is a BPF system call, and it has looked
        return "" if refused.errno == errno.ENOENT else refused.message
    except XdplbError as error:
        return error.message
    return ""


def pytest_configure() -> None:
    """Ignore what a shell has us ignore (`nohup`, `&`) by handlers: programs that tests
    start would inherit the other way, and not hear what they are sent."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root"):
        lack = _find_lack()
        _require(not lack, lack)


@pytest.fixture(scope="session")
def require() -> Callable[[object, str], None]:
    """The function `require(is_there, lack)`, for what a marker can't say."""
    return _require
