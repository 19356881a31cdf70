"""Which addresses can't be a VIP or a backend."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address

from reconciler.config import codes
from reconciler.config.draft import ServiceDraft
from reconciler.config.nodes import Mapping, Place, Scalar, diagnose
from reconciler.config.values import parse_address
from reconciler.diagnostics import Diagnostic
from reconciler.model import IPAddress

_THIS_NETWORK = IPv4Network("0.0.0.0/8")  # RFC 1122, section 3.2.1.3
_BROADCAST = IPv4Address("255.255.255.255")


def check_addresses(draft: ServiceDraft) -> Iterator[Diagnostic]:
    """Yield what is wrong with a service's addresses, each by itself."""
    if vip := draft.service.vip:
        hint = "leave 'vip' out to use the interfaces' own addresses" if vip.is_unspecified else ""
        yield from _check_address(vip, "a VIP", draft.node.place_of("vip"), hint)
    for backend in draft.backends:
        place = backend.place_of("address")
        yield from _check_address(backend.backend.address, "a backend", place)


def check_address_ports(draft: ServiceDraft) -> Iterator[Diagnostic]:
    """Yield IPv6 addresses that end like the service's port: brackets may be missing."""
    for item in draft.backends:
        node = item.node.get("address") if isinstance(item.node, Mapping) else item.node
        text = str(node.value) if isinstance(node, Scalar) else ""
        address, _, last = text.rpartition(":")
        if last == str(draft.service.port) and _is_ipv6(address):
            message = f"{text} is an address without a port, though it ends like one"
            hint = f'if {last} is a port, write "[{address}]:{last}"'
            yield diagnose(
                codes.ADDRESS_LIKE_PORT, item.place_of("address"), message, hint, severity="warning"
            )


def _is_ipv6(text: str) -> bool:
    try:
        return parse_address(text).version == 6
    except ValueError:
        return False


def _check_address(
    address: IPAddress, role: str, place: Place, hint: str = ""
) -> Iterator[Diagnostic]:
    if kind := describe_unusable(address):
        message = f"{address} can't be {role}: it is {kind}"
        yield diagnose(codes.UNUSABLE_ADDRESS, place, message, hint)
    elif address.is_loopback:
        message = f"{address} is a loopback address: no packet from another machine can use it"
        yield diagnose(codes.LOOPBACK, place, message, severity="warning")


def describe_unusable(address: IPAddress) -> str:
    """Return why no machine can have this address, or an empty string."""
    if address.is_multicast:
        return "a multicast address"
    if address.is_unspecified:
        return "the unspecified address"
    if isinstance(address, IPv6Address):
        return _describe_unusable_ipv6(address)
    if address == _BROADCAST:
        return "the broadcast address"
    return "of network 0.0.0.0/8" if address in _THIS_NETWORK else ""


def _describe_unusable_ipv6(address: IPv6Address) -> str:
    if address.is_link_local:
        return "a link-local address, which means nothing without an interface"
    if address.ipv4_mapped:
        return f"an IPv4-mapped address; write {address.ipv4_mapped}"
    return ""
