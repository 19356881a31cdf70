"""The network around the balancer: two interfaces, and neighbours that never change.

    client, gateway --- front  balancer  back --- backends
                                       dull --- a backend, by an interface without XDP

Behind each interface there is nobody: frames are never sent.
"""

from __future__ import annotations

from pathlib import Path

from reconciler.lab.namespaces import entered, run_tool

FRONT, BACK, DULL, LOOPBACK = "front", "back", "dull", "lo"

CLIENT = "192.0.2.2"
NEIGHBOUR = "192.0.2.31"  # a backend beside the client
GATEWAY = "192.0.2.254"  # the way to all other clients
FAR_CLIENT = "198.51.100.7"
OWN_FRONT, OWN_BACK = "192.0.2.1", "10.0.0.1"
UNRESOLVED = "10.0.0.99"  # on the link, but nobody knows its MAC
NARROW, NARROW_MTU = "10.1.0.11", 1000
BLACKHOLE, PROHIBITED, UNREACHABLE = "10.9.0.1", "10.9.1.1", "10.9.2.1"
DULL_BACKEND = "10.0.2.11"

MAC = {FRONT: "02:00:00:00:01:01", BACK: "02:00:00:00:02:01", DULL: "02:00:00:00:03:01"}

# Neighbours by interface; a name stands for the last byte of its MAC.
_KNOWN = {
    FRONT: (CLIENT, NEIGHBOUR, GATEWAY),
    BACK: tuple(f"10.0.0.{n}" for n in range(10, 40)),
    DULL: (DULL_BACKEND,),
}
_OWN = {FRONT: f"{OWN_FRONT}/24", BACK: f"{OWN_BACK}/24", DULL: "10.0.2.1/24"}
_ROUTES = (
    f"default via {GATEWAY} dev {FRONT}",
    f"10.1.0.0/24 via 10.0.0.12 dev {BACK} mtu lock {NARROW_MTU}",
    "blackhole 10.9.0.0/24",
    "prohibit 10.9.1.0/24",
    "unreachable 10.9.2.0/24",
)


def neighbour_mac(address: str) -> str:
    """The MAC of a neighbour: 02:00 and the four bytes of its address."""
    return "02:00:" + ":".join(f"{int(byte):02x}" for byte in address.split("."))


def build(namespace: str) -> None:
    """Furnish an empty namespace."""
    with entered(namespace):
        for name, value in (
            ("ipv6/conf/all/disable_ipv6", 1),  # its autoconfiguration would be counted
            ("ipv6/conf/default/disable_ipv6", 1),
            ("ipv4/ip_forward", 1),
        ):
            Path("/proc/sys/net", name).write_text(str(value), encoding="ascii")
    lines = ["link set lo up"]
    for name, address in _OWN.items():
        lines += [
            f"link add {name} address {MAC[name]} type veth peer name {name}-peer",
            f"link set {name}-peer up",
            f"link set {name} up",
            f"addr add {address} dev {name}",
        ]
        lines += [
            f"neigh add {each} lladdr {neighbour_mac(each)} dev {name} nud permanent"
            for each in _KNOWN[name]
        ]
    lines += [f"route add {route}" for route in _ROUTES]
    run_tool(["ip", "-n", namespace, "-batch", "-"], "".join(f"{line}\n" for line in lines))
