"""What the kernel's routing side knows: interfaces, their addresses, next hops.

The only user of pyroute2.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import ip_address, ip_interface
from typing import Any

from pyroute2 import IPRoute, NetlinkError
from pyroute2.netlink import NLM_F_DUMP, NLM_F_REQUEST, genlmsg
from pyroute2.netlink.generic import GenericNetlinkSocket

from reconciler.diagnosis.facts import Device, Surroundings, Way
from reconciler.environment import Environment, InterfaceFacts
from reconciler.errors import Unavailable
from reconciler.ethtool import read_driver
from reconciler.model import IPAddress, XdpMode
from reconciler.neighbours import Hop, nudge_hops

# include/uapi/linux/netdev.h
_NETDEV_CMD_DEV_GET = 1
_BASIC = 1 << 0
_NDO_XMIT = 1 << 2

_SCOPE_LINK = 253  # include/uapi/linux/rtnetlink.h
_IFF_UP, _IFF_LOOPBACK = 1, 8  # include/uapi/linux/if.h
_RTN_UNICAST, _RTN_LOCAL = 1, 2
_NUD_VALID = 0xDE  # include/net/neighbour.h: what bpf_fib_lookup answers with
_NO_NAMESPACE = 0xFFFFFFFF  # NETNSA_NSID_NOT_ASSIGNED
_CLOCK_MONOTONIC_COARSE = 6

# Kernels before 6.3 don't say what a driver can do. These implement ndo_xdp_xmit
# without conditions that can't be seen from here.
_DRIVERS_THAT_REDIRECT = frozenset(
    (
        *("bnxt_en", "dpaa2-eth", "ena", "enetc", "gve", "i40e", "ice", "igb", "igc", "ixgbe"),
        *("ixgbevf", "mlx5_core", "mvneta", "mvpp2", "nfp", "sfc", "stmmac", "tsnep"),
    )
)


class _DeviceMessage(genlmsg):  # type: ignore[misc]
    """NETDEV_CMD_DEV_GET (Documentation/netlink/specs/netdev.yaml)."""

    nla_map = (
        ("NETDEV_A_DEV_UNSPEC", "none"),
        ("NETDEV_A_DEV_IFINDEX", "uint32"),
        ("NETDEV_A_DEV_PAD", "none"),
        ("NETDEV_A_DEV_XDP_FEATURES", "uint64"),
    )


def read_ticks_per_second() -> int:
    """Return the kernel's HZ: the coarse clock advances once a tick (clock_getres(2))."""
    return round(1 / time.clock_getres(_CLOCK_MONOTONIC_COARSE))


def read_environment(
    names: Iterable[str],
    modes: Mapping[str, XdpMode],
    program_sha256: str,
    may_be_gone: Collection[str] = (),
) -> Environment:
    """Return what the machine is like now.

    Args:
        names: the interfaces of lb.yaml.
        may_be_gone: those of them that may be missing, and then are in the result.
        modes: how our program runs where it does already; an interface that is
            missing here is taken for native.
        program_sha256: hex digest of the program to attach.

    Raises:
        Unavailable: an interface does not exist.
    """
    try:
        interfaces = _read_interfaces(names, modes, may_be_gone)
    except NetlinkError as error:  # it went while it was looked at
        raise Unavailable(f"cannot look at the interfaces: {error}") from error
    return Environment(interfaces, read_ticks_per_second(), program_sha256)


def _read_interfaces(
    names: Iterable[str], modes: Mapping[str, XdpMode], may_be_gone: Collection[str]
) -> dict[str, InterfaceFacts]:
    listed = list(names)
    with IPRoute() as routes:
        links = {link.get_attr("IFLA_IFNAME"): link for link in routes.get_links()}
        features = _read_xdp_features()
        all_generic = bool(modes) and all(mode is XdpMode.GENERIC for mode in modes.values())
        interfaces = {}
        for name in listed:
            if name in may_be_gone and name not in links:
                continue
            link = _find_link(name, links, listed)
            can_xmit = _can_xmit(link, features)
            is_generic = modes.get(name) is XdpMode.GENERIC
            interfaces[name] = InterfaceFacts(
                link["index"],
                _read_addresses(routes, link["index"]),
                # XDP_TX of a veth is lost without a counter unless the peer runs an XDP
                # program (veth_xdp_flush); redirecting needs only its NAPI.
                transmits=is_generic or _kind(link) != "veth",
                # What counts is how the frame came in: the stack takes it anywhere.
                redirects=all_generic or can_xmit,
                forwards=_read_forwarding(link),
                is_loopback=bool(link["flags"] & _IFF_LOOPBACK),
                mtu=link.get_attr("IFLA_MTU"),
            )
    return interfaces


def _find_link(name: str, links: Mapping[str, Any], listed: Collection[str]) -> Any:
    if name in links:
        return links[name]
    others = [each for each in links if each not in listed]
    close = difflib.get_close_matches(name, others, n=1)
    hint = f"did you mean {close[0]}?" if close else "see which there are: ip -brief link"
    raise Unavailable(f"there is no interface {name}", remedy=hint)


def _read_addresses(routes: IPRoute, ifindex: int) -> tuple[IPAddress, ...]:
    return tuple(
        ip_address(message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"))
        for message in routes.get_addr(index=ifindex)
        if message["scope"] < _SCOPE_LINK or message["scope"] == 254  # 254: host, on lo
    )


def _read_xdp_features() -> dict[int, int] | None:
    """XDP features by ifindex; None on kernels before 6.3."""
    with GenericNetlinkSocket() as socket:
        try:
            socket.bind("netdev", _DeviceMessage)
        except NetlinkError:
            return None
        request = _DeviceMessage()
        request["cmd"], request["version"] = _NETDEV_CMD_DEV_GET, 1
        answers = socket.nlm_request(
            request, msg_type=socket.prid, msg_flags=NLM_F_REQUEST | NLM_F_DUMP
        )
        return {
            answer.get_attr("NETDEV_A_DEV_IFINDEX"): answer.get_attr("NETDEV_A_DEV_XDP_FEATURES")
            for answer in answers
        }


def _read_forwarding(link: Any) -> frozenset[int]:
    """The families, 4 and 6, that the kernel forwards from an interface."""
    families = []
    ipv4 = link.get_nested("IFLA_AF_SPEC", "AF_INET")
    if ipv4 and ipv4["forwarding"]:
        families.append(4)
    ipv6 = link.get_nested("IFLA_AF_SPEC", "AF_INET6", "IFLA_INET6_CONF")
    if ipv6 and ipv6["forwarding"]:
        families.append(6)
    return frozenset(families)


def _kind(link: Any) -> str | None:
    info = link.get_attr("IFLA_LINKINFO")
    return info.get_attr("IFLA_INFO_KIND") if info else None


def _can_xmit(link: Any, features: Mapping[int, int] | None) -> bool:
    if features is not None:
        return bool(features.get(link["index"], 0) & _NDO_XMIT)
    return read_driver(link.get_attr("IFLA_IFNAME")) in _DRIVERS_THAT_REDIRECT


def _ask_way(routes: IPRoute, address: IPAddress) -> Any:
    """The kernel's answer, read to its end, which pyroute2 wants."""
    return next(iter([*routes.route("get", dst=str(address))]), None)


# --- for checks that go by a VIP ---


def read_surroundings() -> Surroundings:
    """Return the neighbours whose MAC is known, and this machine's addresses.

    Raises:
        Unavailable: the kernel does not say.
    """
    with _asking() as routes:
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in routes.get_links()}
        neighbours = {
            ip_address(entry.get_attr("NDA_DST")): (
                entry["ifindex"],
                bytes.fromhex(entry.get_attr("NDA_LLADDR").replace(":", "")),
            )
            for entry in routes.get_neighbours()
            if entry["state"] & _NUD_VALID and entry.get_attr("NDA_LLADDR")
        }
        return Surroundings(
            neighbours,
            {name: _read_addresses(routes, index) for index, name in names.items()},
        )


# --- for the doctor ---


@contextlib.contextmanager
def _asking() -> Iterator[IPRoute]:
    try:
        with IPRoute() as routes:
            yield routes
    except NetlinkError as error:
        raise Unavailable(f"the kernel does not say: {os.strerror(error.code)}") from error


def read_devices() -> dict[str, Device]:
    """Return every interface of this network namespace by its name."""
    with _asking() as routes:
        features = _read_xdp_features()
        addresses: dict[int, list[Any]] = {}
        for message in routes.get_addr():
            own = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            where = addresses.setdefault(message["index"], [])
            where.append(ip_interface(f"{own}/{message['prefixlen']}"))
        return {
            link.get_attr("IFLA_IFNAME"): _make_device(
                link, features, addresses.get(link["index"], [])
            )
            for link in routes.get_links()
        }


def _make_device(link: Any, features: Mapping[int, int] | None, addresses: Iterable[Any]) -> Device:
    index = link["index"]
    xdp = link.get_attr("IFLA_XDP")
    generic = (xdp.get_attr("IFLA_XDP_SKB_PROG_ID") if xdp else None) or 0
    return Device(
        name=link.get_attr("IFLA_IFNAME"),
        ifindex=index,
        kind=_kind(link) or "",
        is_up=bool(link["flags"] & _IFF_UP),
        has_carrier=link.get_attr("IFLA_CARRIER") != 0,
        mtu=link.get_attr("IFLA_MTU"),
        addresses=tuple(addresses),
        takes_native=None if features is None else bool(features.get(index, 0) & _BASIC),
        lower=link.get_attr("IFLA_LINK") or 0,
        lower_namespace=link.get_attr("IFLA_LINK_NETNSID"),
        program=generic or (xdp.get_attr("IFLA_XDP_PROG_ID") if xdp else None) or 0,
        program_mode=XdpMode.GENERIC if generic else XdpMode.NATIVE,
    )


def find_namespace_id(fd: int) -> int | None:
    """Return this network namespace's number for another one, given by a descriptor.

    None if it has none, or if the descriptor is of something else: a name whose
    namespace is gone.
    """
    try:
        with IPRoute() as routes:
            number: int = routes.get_netnsid(fd=fd)["nsid"]
    except NetlinkError:
        return None
    return None if number == _NO_NAMESPACE else number


def find_ways(addresses: Iterable[IPAddress]) -> dict[IPAddress, Way]:
    """Return how the kernel leads to each address."""
    with _asking() as routes:
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in routes.get_links()}
        return {address: _find_way(routes, address, names) for address in addresses}


def _find_way(routes: IPRoute, address: IPAddress, names: Mapping[int, str]) -> Way:
    try:
        route = _ask_way(routes, address)
    except NetlinkError as error:
        return Way(refusal=os.strerror(error.code), is_refused=error.code != errno.ENETUNREACH)
    if route is None or route["type"] not in (_RTN_UNICAST, _RTN_LOCAL):
        return Way(refusal="the route refuses", is_refused=True)
    gateway = route.get_attr("RTA_GATEWAY") or (route.get_attr("RTA_VIA") or {}).get("addr")
    metrics = route.get_attr("RTA_METRICS")
    return Way(
        interface=names.get(route.get_attr("RTA_OIF"), ""),
        gateway=ip_address(gateway) if gateway else None,
        mtu=(metrics.get_attr("RTAX_MTU") or 0) if metrics else 0,
        is_local=route["type"] == _RTN_LOCAL,
    )


def nudge_ways(ways: Mapping[IPAddress, Way]) -> None:
    """Have the kernel resolve the next hop of each way, as `nudge_neighbours` does."""
    with _asking() as routes:
        indexes = {link.get_attr("IFLA_IFNAME"): link["index"] for link in routes.get_links()}
    nudge_hops(
        Hop(indexes[way.interface], way.gateway or address)
        for address, way in ways.items()
        if way.interface in indexes and not way.is_local
    )


def find_neighbours(ways: Mapping[IPAddress, Way]) -> dict[IPAddress, bool]:
    """Return whether the next hop to each address has a MAC.

    An address whose next hop nobody has asked for is missing.
    """
    with _asking() as routes:
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in routes.get_links()}
        known = {
            (names.get(entry["ifindex"]), entry.get_attr("NDA_DST")): entry["state"] & _NUD_VALID
            for entry in routes.get_neighbours()
        }
    hops = {address: (way.interface, str(way.gateway or address)) for address, way in ways.items()}
    return {address: bool(known[hop]) for address, hop in hops.items() if hop in known}
