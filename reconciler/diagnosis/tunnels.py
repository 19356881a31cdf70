"""Whether an outer header fits, and has a source."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.diagnosis import codes
from reconciler.diagnosis.case import Case
from reconciler.diagnosis.finding import Finding, Severity, report_ok
from reconciler.diagnosis.ways import TUNNELS
from reconciler.model import Backend, Forwarding, IPAddress, Service

_OUTER_IP_BYTES = {4: 20, 6: 40}  # RFC 791 without options, RFC 8200
_OUTER_UDP_BYTES = 8  # RFC 768
_ETHERNET_MTU = 1500  # what clients elsewhere send at most
_IPV6_MIN_MTU = 1280  # RFC 8200, 5: no sender goes below


def judge_tunnels(case: Case) -> Iterator[Finding]:
    """Yield what there is to say about the outer headers of each service that has some."""
    for service in case.config.services:
        if service.forwarding in TUNNELS:
            yield from _judge_sources(service, case)
            yield from _judge_sizes(service, case)


def measure_overhead(forwarding: Forwarding, address: IPAddress) -> int:
    """Return the bytes of the outer header to a backend's address."""
    udp = _OUTER_UDP_BYTES if forwarding is Forwarding.GUE else 0
    return _OUTER_IP_BYTES[address.version] + udp


# --- sources ---


def _judge_sources(service: Service, case: Case) -> Iterator[Finding]:
    """The outer source is the file's, or else the egress interface's own address."""
    lacking = sorted(
        (name, version)
        for name, backends in case.group_by_egress(service).items()
        for version in {backend.address.version for backend in backends}
        if not _has_source(name, version, case)
    )
    if not lacking:
        yield report_ok(codes.TUNNEL_SOURCE, service.name, "outer headers have a source")
    for name, version in lacking:
        yield Finding(
            codes.TUNNEL_SOURCE,
            Severity.ERROR,
            service.name,
            f"{name} has no IPv{version} address to be the outer source: packets are dropped",
            f"ip address add ADDRESS/LENGTH dev {name}",
            hint="or write tunnel_source: ADDRESS",
        )


def _has_source(name: str, version: int, case: Case) -> bool:
    tunnel = case.config.tunnel
    if (tunnel.source_ipv4 if version == 4 else tunnel.source_ipv6) is not None:
        return True
    state = case.network.interfaces.get(name)
    if state is None:
        return True  # another finding says that it is not listed
    return (state.facts.ipv4 if version == 4 else state.facts.ipv6) is not None


# --- sizes ---


def _judge_sizes(service: Service, case: Case) -> Iterator[Finding]:
    for name, backends in case.group_by_egress(service).items():
        if name in case.network.interfaces:
            yield _judge_size(service, name, backends, case)


def _judge_size(service: Service, name: str, backends: list[Backend], case: Case) -> Finding:
    device_mtu = case.network.interfaces[name].device.mtu
    narrow = min(backends, key=lambda backend: case.find_way(backend).mtu or device_mtu)
    mtu = case.find_way(narrow).mtu or device_mtu
    overhead = max(measure_overhead(service.forwarding, b.address) for b in backends)
    room, largest = mtu - overhead, _find_largest_packet(case)
    if room >= largest:
        return report_ok(codes.TUNNEL_MTU, service.name, f"outer headers fit {name} (MTU of {mtu})")
    is_ipv6 = service.vip is not None and service.vip.version == 6
    is_hopeless = is_ipv6 and room < _IPV6_MIN_MTU
    why = (
        f"no IPv6 sender goes below {_IPV6_MIN_MTU}"
        if is_hopeless
        else f"clients that send {largest} have to be told by ICMP"
    )
    return Finding(
        codes.TUNNEL_MTU,
        Severity.ERROR if is_hopeless else Severity.WARNING,
        service.name,
        f"{name} has an MTU of {mtu}, and outer headers take {overhead} of it, so packets of"
        f" {room} bytes fit: {why}",
        _widen(name, largest + overhead, narrow if mtu < device_mtu else None, case),
        hint="the whole way to the backends must take as much; or set advmss at the backends",
    )


def _find_largest_packet(case: Case) -> int:
    """What comes in at most: from elsewhere, no more than Ethernet's usual."""
    mtus = [state.device.mtu for state in case.network.interfaces.values()]
    return min(_ETHERNET_MTU, max(mtus))


def _widen(name: str, mtu: int, narrow: Backend | None, case: Case) -> str:
    """The command that makes room: on the interface, or on the route that is narrower."""
    if narrow is None:
        return f"ip link set dev {name} mtu {mtu}"
    gateway = case.find_way(narrow).gateway
    via = f" via {gateway}" if gateway else ""
    return f"ip route replace {narrow.address}{via} dev {name} mtu {mtu}"
