"""What checks that go by a VIP must know of this machine: its neighbours and addresses."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection

from reconciler import neighbours
from reconciler.diagnosis.facts import Surroundings
from reconciler.errors import XdplbError
from reconciler.health.failure import CheckFailed, CheckImpossible
from reconciler.model import IPAddress

# A MAC and an address seldom change; one that is missing may come with the next packet.
_KEPT_S = 5.0
_KEPT_MISSING_S = 0.5
# The kernel asks for a neighbour at most so often for us; it takes an answer, or a second.
_ASK_AGAIN_S = 10.0

_Reading = asyncio.Future[Surroundings]


class Lookout:
    """Knows them as they were some seconds ago. They are read in a thread."""

    def __init__(self) -> None:
        self._known = Surroundings({}, {})
        self._read_at = float("-inf")
        self._reading: _Reading | None = None
        self._asked_at: dict[IPAddress, float] = {}

    async def find_neighbour(self, address: IPAddress) -> tuple[int, bytes]:
        """Return the interface's index and the MAC of a neighbour.

        Raises:
            CheckFailed: there is none of that address.
            CheckImpossible: the kernel does not say.
        """
        await self._look(is_known=address in self._known.neighbours)
        if address not in self._known.neighbours and self._may_ask(address):
            await self._ask(address)
            await self._look(is_known=False)
        if address not in self._known.neighbours:
            raise CheckFailed("not a neighbour, or its MAC is not known")
        return self._known.neighbours[address]

    async def find_own(
        self, version: int, interfaces: Collection[str], vips: Collection[IPAddress]
    ) -> IPAddress:
        """Return an address of these interfaces, of a family, that is not a VIP.

        Raises:
            CheckImpossible: there is none, or the kernel does not say.
        """
        own = self._list_own(version, interfaces, vips)
        await self._look(is_known=bool(own))
        for address in own or self._list_own(version, interfaces, vips):
            return address
        names = ", ".join(interfaces)
        raise CheckImpossible(f"no IPv{version} address on {names} to ask from, but for VIPs")

    def _may_ask(self, address: IPAddress) -> bool:
        now = asyncio.get_running_loop().time()
        return now - self._asked_at.get(address, float("-inf")) > _ASK_AGAIN_S

    async def _ask(self, address: IPAddress) -> None:
        """Have the kernel look for a neighbour, and give it time."""
        self._asked_at[address] = asyncio.get_running_loop().time()
        try:
            neighbours.nudge_neighbours((address,))  # some microseconds
        except OSError as error:
            raise CheckImpossible(str(error)) from error
        await asyncio.sleep(_KEPT_MISSING_S)

    def _list_own(
        self, version: int, interfaces: Collection[str], vips: Collection[IPAddress]
    ) -> list[IPAddress]:
        return [
            address
            for name in interfaces
            for address in self._known.addresses.get(name, ())
            if address.version == version and not address.is_link_local and address not in vips
        ]

    async def _look(self, *, is_known: bool) -> None:
        """Read what is old, and wait for it where it is missing."""
        age_s = asyncio.get_running_loop().time() - self._read_at
        if age_s > (_KEPT_S if is_known else _KEPT_MISSING_S):
            reading = self._read()
            if not is_known:
                await _wait(reading)

    def _read(self) -> _Reading:
        if self._reading is None:
            # The controller has pyroute2 loaded; who only validates a file has not.
            from reconciler.netlink import read_surroundings  # noqa: PLC0415

            self._reading = asyncio.get_running_loop().run_in_executor(None, read_surroundings)
            self._reading.add_done_callback(self._take)
        return self._reading

    def _take(self, reading: _Reading) -> None:
        self._reading = None
        # Who waits for it is told; for the others what was known goes on.
        with contextlib.suppress(asyncio.CancelledError, XdplbError, OSError):
            self._known = reading.result()
            self._read_at = asyncio.get_running_loop().time()


async def _wait(reading: _Reading) -> None:
    try:
        # Others wait for the same answer.
        await asyncio.shield(reading)
    except (XdplbError, OSError) as error:
        raise CheckImpossible(str(error)) from error
