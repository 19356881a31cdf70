"""The network around the balancer: two interfaces, and neighbours that never change.

    client, gateway --- front  balancer  back --- backends
                                       dull --- a backend, by an interface without XDP

Behind each interface there is nobody: frames are never sent. Everybody has an IPv4
address and an IPv6 address that ends in it, and is written here as the IPv4 one.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from reconciler.lab.namespaces import entered, run_tool
from reconciler.model import IPAddress

FRONT, BACK, DULL, LOOPBACK = "front", "back", "dull", "lo"

CLIENT = "192.0.2.2"
NEIGHBOUR = "192.0.2.31"  # a backend beside the client
GATEWAY = "192.0.2.254"  # the way to all other clients
FAR_CLIENT = "198.51.100.7"
OWN_FRONT, OWN_BACK = "192.0.2.1", "10.0.0.1"
UNRESOLVED = "10.0.0.99"  # on the link, but nobody knows its MAC
NARROW, NARROW_MTU, NARROW_GATEWAY = "10.1.0.11", 1300, "10.0.0.12"
BLACKHOLE, PROHIBITED, UNREACHABLE = "10.9.0.1", "10.9.1.1", "10.9.2.1"
DULL_BACKEND = "10.0.2.11"

MAC = {FRONT: "02:00:00:00:01:01", BACK: "02:00:00:00:02:01", DULL: "02:00:00:00:03:01"}

# Neighbours by interface; a name stands for the last byte of its MAC.
_KNOWN = {
    FRONT: (CLIENT, NEIGHBOUR, GATEWAY),
    BACK: tuple(f"10.0.0.{n}" for n in range(10, 40)),
    DULL: (DULL_BACKEND,),
}
OWN = {FRONT: OWN_FRONT, BACK: OWN_BACK, DULL: "10.0.2.1"}
_REFUSED = {"blackhole": "10.9.0.0", "prohibit": "10.9.1.0", "unreachable": "10.9.2.0"}

FAMILIES = (4, 6)
_EVERYBODY = {4: "0.0.0.0/0", 6: "::/0"}
_SUBNET = {4: 24, 6: 120}
_PREFIX = int(IPv6Address("2001:db8::"))


def locate(address: str, family: int) -> IPAddress:
    """The address that somebody has in a family, from the IPv4 one."""
    ipv4 = IPv4Address(address)
    return ipv4 if family == 4 else IPv6Address(_PREFIX | int(ipv4))


def twin(address: str) -> str:
    """The IPv6 address of who has this IPv4 address."""
    return str(locate(address, 6))


def neighbour_mac(address: str) -> str:
    """The MAC of a neighbour: 02:00 and the four bytes of its IPv4 address."""
    return "02:00:" + ":".join(f"{int(byte):02x}" for byte in address.split("."))


def _list_addresses(family: int) -> list[str]:
    subnet = _SUBNET[family]
    duplicates = " nodad" if family == 6 else ""
    lines = []
    for name, own in OWN.items():
        lines.append(f"addr add {locate(own, family)}/{subnet} dev {name}{duplicates}")
        lines += [
            f"neigh add {locate(each, family)} lladdr {neighbour_mac(each)}"
            f" dev {name} nud permanent"
            for each in _KNOWN[name]
        ]
    narrow, through = locate("10.1.0.0", family), locate(NARROW_GATEWAY, family)
    lines += [
        f"route add {_EVERYBODY[family]} via {locate(GATEWAY, family)} dev {FRONT}",
        f"route add {narrow}/{subnet} via {through} dev {BACK} mtu lock {NARROW_MTU}",
    ]
    refused = _REFUSED.items()
    lines += [f"route add {how} {locate(net, family)}/{subnet}" for how, net in refused]
    return lines


def build(namespace: str) -> None:
    """Furnish an empty namespace."""
    links = ["link set lo up"]
    ups = []
    for name in OWN:
        links.append(f"link add {name} address {MAC[name]} type veth peer name {name}-peer")
        ups += [f"link set {name} addrgenmode none", f"link set {name}-peer up"]
        ups.append(f"link set {name} up")
    _run_ip(namespace, links)
    with entered(namespace):
        # What the peers said of themselves would arrive here, and be counted.
        silent = {f"ipv6/conf/{name}-peer/disable_ipv6": 1 for name in OWN}
        for name, value in (
            *silent.items(),
            ("ipv6/conf/all/forwarding", 1),
            ("ipv4/ip_forward", 1),
        ):
            Path("/proc/sys/net", name).write_text(str(value), encoding="ascii")
    _run_ip(namespace, ups + [line for family in FAMILIES for line in _list_addresses(family)])


def _run_ip(namespace: str, lines: list[str]) -> None:
    run_tool(["ip", "-n", namespace, "-batch", "-"], "".join(f"{line}\n" for line in lines))
