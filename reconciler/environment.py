"""What the machine is like, as a value, so that the pure core can depend on it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from reconciler.model import Config, IPAddress, Service


@dataclass(frozen=True, slots=True)
class InterfaceFacts:
    """An interface as netlink describes it.

    `addresses` are its own, without link-local ones, in the kernel's order.
    `transmits` and `redirects` say whether XDP frames can leave through it: back
    out of it, and coming from another interface. `mtu` is in bytes, 0 if nobody has asked;
    no table depends on it, packets ask the routes.
    """

    ifindex: int
    addresses: tuple[IPAddress, ...]
    transmits: bool
    redirects: bool
    forwards: frozenset[int] = frozenset((4, 6))
    is_loopback: bool = False
    mtu: int = 0

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


def describe_differences(before: Environment, after: Environment) -> Iterator[dict[str, str]]:
    """Yield what is new about each interface, as fields of a log line."""
    for name in sorted({*before.interfaces, *after.interfaces}):
        old, new = before.interfaces.get(name), after.interfaces.get(name)
        if old is None or new is None:
            yield {"interface": name, "now": "gone" if new is None else "there"}
            continue
        if old.ifindex != new.ifindex:
            yield {"interface": name, "now": "another"}
        if old.addresses != new.addresses:
            yield {"interface": name, "addresses": ",".join(map(str, new.addresses)) or "-"}
        if old.mtu != new.mtu:
            yield {"interface": name, "mtu": str(new.mtu)}


def find_own_vips(service: Service, config: Config, facts: InterfaceFacts) -> tuple[IPAddress, ...]:
    """Return the addresses of an interface that a service without a VIP listens on.

    They are of its backends' family. One that another service names, with the same port, is
    that service's.
    """
    version = service.backends[0].address.version
    named = {
        other.vip
        for other in config.services
        if (other.port, other.protocol) == (service.port, service.protocol)
    }
    return tuple(a for a in facts.addresses if a.version == version and a not in named)


def imagine_environment(config: Config) -> Environment:
    """Return a machine that has the file's interfaces, to plan without a kernel.

    Their own addresses are unknown here; those of `imagine_addresses` stand in.
    """
    return Environment(
        {
            name: InterfaceFacts(index, imagine_addresses(name), transmits=True, redirects=True)
            for index, name in enumerate(config.interfaces, start=1)
        }
    )


def imagine_addresses(interface: str) -> tuple[IPAddress, ...]:
    """Return an address of each family that no machine has, another for each interface.

    They are of "this network" (RFC 1122, 3.2.1.3) and of what was once for IPv4-compatible
    addresses (RFC 4291, 2.5.5.1).
    """
    digest = hashlib.blake2b(interface.encode(), digest_size=3).digest()
    number = int.from_bytes(digest, "big")
    return IPv4Address(number), IPv6Address(number)
