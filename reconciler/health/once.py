"""Checks every backend once, for a pass that has no controller beside it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from reconciler.health.ask import Ask, find_result, prepare_asks
from reconciler.health.checker import choose_max_open
from reconciler.health.checks import Check, list_checks
from reconciler.health.failure import CheckImpossible
from reconciler.health.standing import Standing, judge_once
from reconciler.health.vip import VipAsker
from reconciler.log import log_event
from reconciler.model import Config
from reconciler.overrides import BackendName


def probe_once(
    config: Config, clock: Callable[[], float] = time.time
) -> Mapping[BackendName, Standing]:
    """Return whether each backend that is checked passes one check, by which it is up or down.

    It takes as long as the longest timeout, and as many times that as there are more
    silent backends than sockets. A backend that this machine could not check is logged
    and left out.
    """
    return asyncio.run(_probe(list_checks(config), clock))


async def _probe(
    checks: Mapping[BackendName, Check], clock: Callable[[], float]
) -> dict[BackendName, Standing]:
    vip_asker = VipAsker()
    asks = prepare_asks(checks.items(), vip_asker)
    places = asyncio.Semaphore(choose_max_open())

    async def probe(name: BackendName, check: Check) -> Standing | None:
        async with places:
            return await _probe_one(name, check, asks[name], clock)

    try:
        found = await asyncio.gather(*(probe(name, check) for name, check in checks.items()))
    finally:
        vip_asker.close()
    return {name: standing for name, standing in zip(checks, found, strict=True) if standing}


async def _probe_one(
    name: BackendName, check: Check, ask: Ask, clock: Callable[[], float]
) -> Standing | None:
    try:
        result = await find_result(ask, check.health.timeout_s)
    except CheckImpossible as error:
        log_event(logging.WARNING, check="impossible", backend="/".join(name), reason=str(error))
        return None
    return replace(judge_once(result, clock()), server=check.server)
