"""What the machine is like, as a value, so that the pure core can depend on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from reconciler.model import Config, IPAddress


@dataclass(frozen=True, slots=True)
class InterfaceFacts:
    """An interface as netlink describes it.

    `addresses` are its own, without link-local ones, in the kernel's order.
    `transmits` and `redirects` say whether XDP frames can leave through it: back
    out of it, and coming from another interface.
    """

    ifindex: int
    addresses: tuple[IPAddress, ...]
    transmits: bool
    redirects: bool
    forwards: frozenset[int] = frozenset((4, 6))
    is_loopback: bool = False

    @property
    def ipv4(self) -> IPv4Address | None:
        """The main IPv4 address."""
        return next((a for a in self.addresses if isinstance(a, IPv4Address)), None)

    @property
    def ipv6(self) -> IPv6Address | None:
        """The main IPv6 address."""
        return next((a for a in self.addresses if isinstance(a, IPv6Address)), None)


@dataclass(frozen=True, slots=True)
class Environment:
    """Everything outside lb.yaml that desired tables depend on.

    `ticks_per_second` is the kernel's HZ; `program_sha256` is the hex digest of
    the compiled data plane that this controller ships.
    """

    interfaces: Mapping[str, InterfaceFacts] = field(default_factory=dict)
    ticks_per_second: int = 0
    program_sha256: str = ""


def imagine_environment(config: Config) -> Environment:
    """Return a machine that has the file's interfaces, to plan without a kernel.

    Their own addresses are unknown here; the unspecified addresses stand in.
    """
    addresses: tuple[IPAddress, ...] = (IPv4Address(0), IPv6Address(0))
    return Environment(
        {
            name: InterfaceFacts(index, addresses, transmits=True, redirects=True)
            for index, name in enumerate(config.interfaces, start=1)
        }
    )
