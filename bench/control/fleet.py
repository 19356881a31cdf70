"""Configurations of any size, as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

# RFC 2544 keeps 198.18.0.0/15 for benchmarks; backends are routed, behind one gateway.
FIRST_VIP = IPv4Address("198.18.0.1")
FIRST_BACKEND = IPv4Address("10.1.0.1")
BACKENDS_ROUTE = "10.0.0.0/8"
# What a pass costs must not depend on who answers there: nobody does.
_HEAD = "interface: [eth0, eth1]\n"


@dataclass(frozen=True)
class Fleet:
    """Services that are all alike, and what is changed in one of them.

    Attributes:
        services: how many.
        backends: of each.
        ring_size: of each.
        resync: as lb.yaml has it.
        weight: of the first backend of the middle service.
        extra: lines of the file's head.
    """

    services: int
    backends: int
    ring_size: int
    resync: str = "1h"
    weight: int = 100
    extra: str = ""

    @property
    def edited(self) -> int:
        """The service that edits are made in: neither the first nor the last."""
        return self.services // 2

    def edit(self, weight: int) -> Fleet:
        """Return the fleet with another weight of one backend."""
        return replace(self, weight=weight)

    @property
    def head(self) -> str:
        """Everything but the services."""
        slots = max(self.services * self.ring_size, 150_000)
        backends = max(2 * self.services * self.backends, 64)
        return (
            f"{_HEAD}reconcile: {{resync: {self.resync}}}\n"
            "defaults: {health: {type: none}}\n"
            f"{self.extra}"
            f"limits: {{services: {self.services + 8}, backends: {min(backends, 65_535)},"
            f" ring_slots: {slots}, flows: 65536}}\n"
        )

    def render(self) -> str:
        """Return the whole lb.yaml."""
        parts = [self.render_service(number) for number in range(self.services)]
        return f"{self.head}services:\n{''.join(parts)}"

    def render_service(self, number: int) -> str:
        """Return one entry of `services`."""
        return (
            f"  - name: s{number}\n    vip: {FIRST_VIP + number}\n    port: 80\n"
            f"    ring_size: {self.ring_size}\n    backends:\n{''.join(self._list(number))}"
        )

    def _list(self, service: int) -> Iterator[str]:
        first = FIRST_BACKEND + service * self.backends
        is_edited = service == self.edited
        if is_edited and self.weight != 100:
            yield f"      - {{address: {first}, weight: {self.weight}}}\n"
        else:
            yield f"      - {first}\n"
        for number in range(1, self.backends):
            yield f"      - {first + number}\n"
