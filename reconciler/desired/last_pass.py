"""What services at rest need not make again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import is_
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconciler import maglev
from reconciler.desired.given import Given
from reconciler.desired.identity import Identities
from reconciler.desired.service import Draft, find_vips
from reconciler.model import Service
from reconciler.tables import Endpoint, ReplyRow, SlotWords


@dataclass(frozen=True)
class Part:
    """What one service puts into the tables, were it alone; `digest` is that of its slots."""

    service: Service
    draft: Draft
    replies: Mapping[Endpoint, ReplyRow]
    digest: int


class LastPass:
    """What the last pass made, kept for the next: one that changes nothing makes nothing.

    Attributes:
        parts: what each service that is at rest put into the tables, by its name.
        seen: the observed rows that stood behind `parts`.
    """

    def __init__(self) -> None:
        self.parts: Mapping[str, Part] = {}
        self.seen: tuple[Mapping[Any, Any], ...] = ()
        self._kept: dict[tuple[object, ...], NDArray[np.uint16]] = {}
        self._used: dict[tuple[object, ...], NDArray[np.uint16]] = {}

    def build(self, weights: Mapping[str, int], size: int) -> NDArray[np.uint16]:
        """Return `maglev.build_ring(weights, size)`."""
        key = (size, *sorted(weights.items()))
        ring = self._kept.get(key)
        if ring is None:
            ring = maglev.build_ring(weights, size)
        self._used[key] = ring
        return ring

    def end_pass(self, parts: Mapping[str, Part], given: Given) -> None:
        """Keep what this pass made, and the rings that it used."""
        self.parts, self.seen = parts, _list_rows(given)
        self._kept, self._used = self._used, {}


class Rest:
    """Which services the last pass found as this one does."""

    def __init__(self, last_pass: LastPass, given: Given, identities: Identities) -> None:
        self._parts = last_pass.parts
        self._given = given
        self._identities = identities
        rows = _list_rows(given)
        # Who reads the kernel hands out the same object for rows that have not changed.
        self._are_rows_seen = len(last_pass.seen) == len(rows) and all(
            map(is_, rows, last_pass.seen)
        )

    def find_part(self, service: Service) -> Part | None:
        """Return the last pass's part of a service, if making it again would change nothing.

        That is so of the same service at rest, if the kernel holds just what it put there:
        what is desired of it follows from these alone.
        """
        part, name = self._parts.get(service.name), service.name
        if part is None or part.service != service or name in self._identities.retired:
            return None
        if digest_slots(self._given.observed.slots[self._identities.extents[name]]) != part.digest:
            return None
        if self._are_rows_seen and service.vip is not None:
            return part
        if not (self._has_ids(part) and self._leads_there(part)):
            return None
        return self._adopt_rows(part)

    def is_at_rest(self, part: Part) -> bool:
        """Return whether it may be kept for the next pass: time alone won't change it."""
        is_moving = any(info.window_end_ns for info in part.draft.service_info.values())
        return not is_moving and part.service.name not in self._identities.retired

    def _has_ids(self, part: Part) -> bool:
        infos, name, identities = part.draft.backend_info, part.service.name, self._identities
        return identities.services[name] in part.draft.service_info and all(
            identities.backends[name, info.name] == number for number, info in infos.items()
        )

    def _leads_there(self, part: Part) -> bool:
        """Whether the service has the VIPs of the part, and they lead where it says."""
        service, observed = part.service, self._given.observed.services
        addresses = find_vips(service, self._given, self._identities)
        vips = {Endpoint(vip, service.port, service.protocol) for vip in addresses}
        return (
            all(endpoint.port == 0 or endpoint in vips for endpoint in part.draft.services)
            and all(
                endpoint in observed and observed[endpoint]._replace(is_shared=False) == row
                for endpoint, row in part.draft.services.items()
            )
            and vips <= part.draft.services.keys()
        )

    def _adopt_rows(self, part: Part) -> Part | None:
        """The part with the observed rows, if they are the same as its own.

        What is one object need not be compared field by field, now or later.
        """
        observed, draft = self._given.observed, part.draft
        adopted = Draft(
            _take(observed.service_info, draft.service_info),
            _take(observed.backend_info, draft.backend_info),
            _take(observed.backends, draft.backends),
            draft.services,
            draft.replies,
        )
        if adopted != draft:
            return None
        replies = _take(observed.nat_replies, part.replies)
        if replies != part.replies:
            replies = dict(part.replies)
        return Part(part.service, adopted, replies, part.digest)


def digest_slots(words: SlotWords) -> int:
    """Return a digest for this process: SipHash, with a key of its own."""
    return hash(words.tobytes())


def _list_rows(given: Given) -> tuple[Mapping[Any, Any], ...]:
    rows = ("service_info", "backend_info", "backends", "services")
    return tuple(given.observed.rows(table) for table in rows)


def _take(rows: Mapping[Any, Any], keys: Iterable[Any]) -> dict[Any, Any]:
    return {key: rows.get(key) for key in keys}
