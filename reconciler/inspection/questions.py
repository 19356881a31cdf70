"""Open a TCP connection to each backend, all at once, and close it again."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterable

from reconciler.diagnosis.facts import Answer
from reconciler.model import IPAddress

# Open at once: below the usual limit of 1024 descriptors.
_AT_ONCE = 500
_UNREACHABLE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN)
_BARRED = (errno.EPERM, errno.EACCES)

Place = tuple[IPAddress, int]


def ask_backends(
    places: Iterable[Place], *, timeout_s: float, deadline_s: float
) -> dict[Place, Answer]:
    """Return what each address and port answers.

    Args:
        places: whom to ask.
        timeout_s: how long to wait for each.
        deadline_s: how long to wait for all; who was not asked by then is not in
            the answer.
    """
    return asyncio.run(_ask_all(list(places), timeout_s, deadline_s))


async def _ask_all(places: list[Place], timeout_s: float, deadline_s: float) -> dict[Place, Answer]:
    room = asyncio.Semaphore(_AT_ONCE)
    answers: dict[Place, Answer] = {}

    async def ask(place: Place) -> None:
        async with room:
            answers[place] = await _ask(place, timeout_s)

    questions = [asyncio.create_task(ask(place)) for place in places]
    if questions:
        _, late = await asyncio.wait(questions, timeout=deadline_s)
        for question in late:
            question.cancel()
    return answers


async def _ask(place: Place, timeout_s: float) -> Answer:
    address, port = place
    try:
        opening = asyncio.open_connection(str(address), port)
        _, writer = await asyncio.wait_for(opening, timeout_s)
    except (asyncio.TimeoutError, TimeoutError):
        return Answer.SILENT
    except ConnectionRefusedError:
        return Answer.REFUSED
    except OSError as error:
        if error.errno in _BARRED:
            return Answer.BARRED
        return Answer.UNREACHABLE if error.errno in _UNREACHABLE else Answer.SILENT
    writer.close()
    return Answer.OPENED
