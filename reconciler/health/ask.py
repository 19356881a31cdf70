"""Asks one backend, and makes a result of whatever happens.

A check is prepared once and asked many times. An `Ask` returns what came when the
answer passes, and raises otherwise: `CheckFailed` or `OSError`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

from reconciler.health.checks import Check
from reconciler.health.datagram import prepare_udp
from reconciler.health.dns import prepare_dns
from reconciler.health.failure import CheckFailed, describe_error
from reconciler.health.http import prepare_http, prepare_https
from reconciler.health.standing import Result
from reconciler.health.tls import make_context
from reconciler.health.vip import VipAsker
from reconciler.health.wire import connect, open_tcp
from reconciler.model import Health, HealthType
from reconciler.overrides import BackendName

# A timer that comes so late has waited for this process, not for a backend.
_BUSY_S = 0.02

Ask: TypeAlias = Callable[[], Awaitable[str]]


def prepare_asks(
    checks: Iterable[tuple[BackendName, Check]], vip_asker: VipAsker
) -> dict[BackendName, Ask]:
    """Return what asks each backend. Checks that trust alike share the certificates.

    Args:
        checks: what to ask.
        vip_asker: asks by VIPs, in the event loop in which it is asked.
    """
    contexts: dict[tuple[bool, str], ssl.SSLContext | OSError] = {}
    return {
        name: vip_asker.prepare(check, check.passage)
        if check.passage
        else _prepare(check, contexts)
        for name, check in checks
    }


def _prepare(check: Check, contexts: dict[tuple[bool, str], ssl.SSLContext | OSError]) -> Ask:
    match check.health.type:
        case HealthType.TCP:
            return _prepare_tcp(check)
        case HealthType.HTTP:
            return prepare_http(check)
        case HealthType.HTTPS:
            key = (check.health.tls_verify, check.health.ca_file)
            if key not in contexts:
                contexts[key] = _try_context(check.health)
            return _prepare_https(check, contexts[key])
        case HealthType.UDP:
            return prepare_udp(check)
        case HealthType.DNS:
            return prepare_dns(check)
        case HealthType.NONE:
            raise ValueError("a Health is never of type none")


def _prepare_tcp(check: Check) -> Ask:
    async def ask() -> str:
        with open_tcp(check) as sock:
            await connect(sock, check)
        return "connected"

    return ask


def _try_context(health: Health) -> ssl.SSLContext | OSError:
    try:
        return make_context(health)
    except OSError as error:
        return error


def _prepare_https(check: Check, context: ssl.SSLContext | OSError) -> Ask:
    if isinstance(context, ssl.SSLContext):
        return prepare_https(check, context)
    reason = f"ca_file {check.health.ca_file}: {context.strerror or context}"

    async def ask() -> str:
        raise CheckFailed(reason)

    return ask


async def find_result(ask: Ask, timeout_s: float) -> Result:
    """Ask once, for no longer than `timeout_s`.

    Raises:
        CheckImpossible: this machine could not ask.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    deadline = _Deadline(timeout_s)
    try:
        is_ok, detail = True, await ask()
    except CheckFailed as failure:
        is_ok, detail = False, str(failure)
    except OSError as error:
        is_ok, detail = False, describe_error(error)
    except asyncio.CancelledError:
        if not deadline.is_over:
            raise
        is_ok, detail = False, f"timeout after {timeout_s:g}s"
    finally:
        deadline.drop()
    return Result(is_ok, detail, loop.time() - started)


class _Deadline:
    """Cancels the task that made it when its time is over.

    Time in which this process did not get to its answers is not counted, once and for
    no longer than the timeout: it says nothing about a backend. `asyncio.wait_for` would
    make a task more for each check, and `asyncio.timeout` needs Python 3.11.
    """

    def __init__(self, timeout_s: float) -> None:
        self.is_over = False
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._timeout_s = timeout_s
        self._timer = self._loop.call_later(timeout_s, self._come)

    def _come(self) -> None:
        late_s = self._loop.time() - self._timer.when()
        if late_s > _BUSY_S:
            self._timer = self._loop.call_later(min(late_s, self._timeout_s), self._end)
        else:
            self._end()

    def _end(self) -> None:
        self.is_over = True
        if self._task:
            self._task.cancel()

    def drop(self) -> None:
        self._timer.cancel()
