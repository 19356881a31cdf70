"""The shape of a laboratory, as values: who is wired to whom, and their addresses.

With two arms the balancer stands between client and switch, and packets are
redirected from one interface to the other. With one arm everybody is on the
switch and packets leave by the interface they came in on, so that an lb.yaml
with the single interface `eth0` serves:

    two arms    client --- eth0 balancer eth1 --- switch --- backends
    one arm     client, balancer (eth0), backends --- switch

In both the balancer is the only way from the client's network to the backends'.
Several balancers have one arm each and stand behind a router:

    client --- eth0 router eth1, balancers (eth0), backends --- switch

There the router is everybody's gateway. Which VIPs it sends to which balancers, and
which way backends answer, is for whoever runs the laboratory to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from typing import Literal, TypeAlias

IPInterface: TypeAlias = IPv4Interface | IPv6Interface

CLIENT, ROUTER, BALANCER, SWITCH = "client", "router", "lb", "switch"

# Documentation addresses (RFC 5737, RFC 3849) in front, private ones behind.
_FRONT_V4, _FRONT_V6 = "192.0.2.{}/24", "2001:db8:2::{}/64"
_BACK_V4, _BACK_V6 = "10.0.0.{}/24", "2001:db8:1::{}/64"
_GATEWAY, _CLIENT, _FIRST_BACKEND = 1, 2, 11
_ROUTER_BEHIND = 254
_MAX_BACKENDS, _MAX_BALANCERS = 200, 8


@dataclass(frozen=True, slots=True)
class Port:
    """One end of a wire."""

    host: str
    interface: str
    mac: str


@dataclass(frozen=True, slots=True)
class Wire:
    """A veth pair."""

    one: Port
    other: Port


@dataclass(frozen=True)
class Topology:
    """What to build.

    Attributes:
        arms: interfaces of the balancer, 1 or 2.
        balancers: how many, 1 to 8; one is named `lb`, several `lb1`, `lb2`...
        backends: how many, named `b1`, `b2`...; 1 to 200.
        ipv6: give everybody an IPv6 address too. Otherwise IPv6 is off, and the
            wires are free of its autoconfiguration.
        mtu: of every interface, in bytes.

    Raises:
        ValueError: a number is out of range.
    """

    arms: Literal[1, 2] = 2
    backends: int = 3
    ipv6: bool = False
    mtu: int = 1500
    balancers: int = 1

    def __post_init__(self) -> None:
        if self.arms not in (1, 2):
            raise ValueError(f"the balancer has 1 or 2 arms, not {self.arms}")
        if not 1 <= self.balancers <= _MAX_BALANCERS:
            raise ValueError(f"1 to {_MAX_BALANCERS} balancers, not {self.balancers}")
        if self.has_router and self.arms != 1:
            raise ValueError(f"{self.balancers} balancers have 1 arm each, not {self.arms}")
        if not 1 <= self.backends <= _MAX_BACKENDS:
            raise ValueError(f"1 to {_MAX_BACKENDS} backends, not {self.backends}")

    @property
    def backend_names(self) -> tuple[str, ...]:
        """Host names of the backends, in order."""
        return tuple(f"b{number}" for number in range(1, self.backends + 1))

    @property
    def balancer_names(self) -> tuple[str, ...]:
        """Host names of the balancers, in order."""
        if not self.has_router:
            return (BALANCER,)
        return tuple(f"{BALANCER}{number}" for number in range(1, self.balancers + 1))

    @property
    def has_router(self) -> bool:
        """Whether a router stands between the client and several balancers."""
        return self.balancers > 1

    @property
    def forwarding_names(self) -> tuple[str, ...]:
        """Host names of those who forward what is not for them."""
        return (*((ROUTER,) if self.has_router else ()), *self.balancer_names)

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every host, the switch included."""
        return (CLIENT, *self.forwarding_names, SWITCH, *self.backend_names)

    @property
    def balancer_interfaces(self) -> tuple[str, ...]:
        """What lb.yaml names as interfaces."""
        return ("eth0", "eth1")[: self.arms]

    @cached_property
    def addresses(self) -> dict[tuple[str, str], tuple[IPInterface, ...]]:
        """Addresses by (host, interface); the first is an IPv4 address."""
        front, back = self._front(_GATEWAY), self._back(_GATEWAY)
        if self.has_router:
            middle = {(ROUTER, "eth0"): front, (ROUTER, "eth1"): self._back(_ROUTER_BEHIND)}
            for number, name in enumerate(self.balancer_names, start=1):
                middle[name, "eth0"] = self._back(number)
        elif self.arms == 1:
            middle = {(BALANCER, "eth0"): front + back}
        else:
            middle = {(BALANCER, "eth0"): front, (BALANCER, "eth1"): back}
        backends = {
            (name, "eth0"): self._back(number)
            for number, name in enumerate(self.backend_names, start=_FIRST_BACKEND)
        }
        return {(CLIENT, "eth0"): self._front(_CLIENT), **middle, **backends}

    @cached_property
    def gateways(self) -> dict[str, tuple[IPInterface, ...]]:
        """The addresses that a host has as its default gateways, by host.

        The balancer's, or the router's where there is one.
        """
        behind = self._back(_ROUTER_BEHIND if self.has_router else _GATEWAY)
        names = (*self.backend_names, *(self.balancer_names if self.has_router else ()))
        return {CLIENT: self._front(_GATEWAY), **dict.fromkeys(names, behind)}

    @cached_property
    def wires(self) -> tuple[Wire, ...]:
        """Every veth pair."""
        if self.has_router:
            front = [self._wire_to_client(ROUTER), self._wire_to_switch(ROUTER, "eth1")]
            front += [self._wire_to_switch(name) for name in self.balancer_names]
        elif self.arms == 1:
            front = [self._wire_to_switch(CLIENT), self._wire_to_switch(BALANCER)]
        else:
            front = [self._wire_to_client(BALANCER), self._wire_to_switch(BALANCER, "eth1")]
        return (*front, *(self._wire_to_switch(name) for name in self.backend_names))

    @property
    def xdp_receivers(self) -> tuple[Port, ...]:
        """The ports at the other end of the balancers' wires: XDP frames arrive here."""
        ends = [(wire.one, wire.other) for wire in self.wires]
        ends += [(wire.other, wire.one) for wire in self.wires]
        return tuple(other for one, other in ends if one.host in self.balancer_names)

    def _front(self, number: int) -> tuple[IPInterface, ...]:
        return self._both(_FRONT_V4.format(number), _FRONT_V6.format(number))

    def _back(self, number: int) -> tuple[IPInterface, ...]:
        return self._both(_BACK_V4.format(number), _BACK_V6.format(number))

    def _both(self, v4: str, v6: str) -> tuple[IPInterface, ...]:
        return (IPv4Interface(v4), IPv6Interface(v6)) if self.ipv6 else (IPv4Interface(v4),)

    def _port(self, host: str, interface: str) -> Port:
        address = self.addresses[host, interface][0].ip
        assert isinstance(address, IPv4Address)
        return Port(host, interface, _mac(0, address))

    def _wire_to_client(self, host: str) -> Wire:
        return Wire(self._port(CLIENT, "eth0"), self._port(host, "eth0"))

    def _wire_to_switch(self, host: str, interface: str = "eth0") -> Wire:
        port = self._port(host, interface)
        mac = port.mac.replace("02:00:", "02:01:", 1)
        return Wire(port, Port(SWITCH, f"to-{host}", mac))


def _mac(kind: int, address: IPv4Address) -> str:
    """A locally administered address that can be read: 02, kind, the four bytes."""
    return ":".join(f"{byte:02x}" for byte in (2, kind, *address.packed))
