"""A laboratory in plain characters, for terminals."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest

from reconciler.lab.topology import BALANCER, CLIENT, Topology


def draw(topology: Topology, notes: Mapping[str, str] | None = None) -> str:
    """Draw who is wired to whom.

    Args:
        topology: what to draw.
        notes: words to put behind a backend's address.
    """
    left = _draw_one_arm(topology) if topology.arms == 1 else _draw_two_arms(topology)
    right = [f"+-- {address}  {(notes or {}).get(address, '')}" for address in _backends(topology)]
    if len(right) == 1:  # the switch is in the second line
        right.insert(0, "")
    width = max(map(len, left))
    rows = zip_longest(left, right, fillvalue="")
    return "\n".join(f"{one:<{width}}{other}".rstrip() for one, other in rows)


def _draw_one_arm(topology: Topology) -> list[str]:
    client = _address(topology, CLIENT, "eth0")
    front = _address(topology, BALANCER, "eth0")
    back = str(topology.gateways[topology.backend_names[0]][0].ip)
    width = max(map(len, (client, front, back)))
    return [
        f"client    {client:<{width}} --+",
        f"          {'':<{width}}   +-- switch --",
        f"balancer  {front:<{width}} --+",
        f"          {back}",
    ]


def _draw_two_arms(topology: Topology) -> list[str]:
    client = _address(topology, CLIENT, "eth0")
    front, back = (_address(topology, BALANCER, name) for name in ("eth0", "eth1"))
    return ["", f"client {client} -- {front} balancer {back} -- switch --"]


def _backends(topology: Topology) -> list[str]:
    return [_address(topology, name, "eth0") for name in topology.backend_names]


def _address(topology: Topology, host: str, interface: str) -> str:
    return str(topology.addresses[host, interface][0].ip)
