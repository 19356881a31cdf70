"""Whether clients' packets get here: whose the VIPs are, and who else listens on them."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler import advice
from reconciler.diagnosis import codes
from reconciler.diagnosis.case import Case
from reconciler.diagnosis.finding import Finding, Severity, name_some, report_ok
from reconciler.model import IPAddress, Protocol, Service, derive_seed
from reconciler.tables import Endpoint


def judge_vips(case: Case) -> Iterator[Finding]:
    """Yield what there is to say about each service's VIP."""
    for service in case.config.services:
        if service.vip is None:
            yield from _judge_own_addresses(service, case)
        else:
            yield _judge_vip(service, service.vip, case)
        yield from _judge_sockets(service, case)
    yield from _judge_seed(case)


def _judge_own_addresses(service: Service, case: Case) -> Iterator[Finding]:
    name = case.config.interfaces[0]
    first = case.network.interfaces.get(name)
    if first is None:
        return  # another finding says that it is not there
    vips = case.list_vips(service)
    if not vips:
        version = service.backends[0].address.version
        yield Finding(
            codes.VIP_HERE,
            Severity.ERROR,
            service.name,
            f"{name} has no IPv{version} address to listen on: nothing of the file is applied",
            f"ip address add ADDRESS/LENGTH dev {name}",
            hint="or name a vip",
        )
        return
    yield report_ok(codes.VIP_HERE, service.name, f"listens on {name_some(vips)}")
    for diagnostic in advice.advise_own_addresses(service, case.config, first.facts):
        yield Finding(
            diagnostic.code,
            Severity.WARNING,
            service.name,
            diagnostic.message,
            hint=diagnostic.hint,
        )


def _judge_vip(service: Service, vip: IPAddress, case: Case) -> Finding:
    way = case.network.ways.get(vip)
    if way is not None and way.is_local:
        return report_ok(codes.VIP_HERE, service.name, f"{vip} is an address of this machine")
    if found := case.find_own_network(vip):
        name, _ = found
        return Finding(
            codes.VIP_HERE,
            Severity.WARNING,
            service.name,
            f"{vip} is on the link of {name} and no address of this machine: nobody here answers"
            " who looks for it",
            f"ip address add {vip} dev {name}",
            hint="unless another balancer has it for now",
        )
    return Finding(
        codes.VIP_HERE,
        Severity.NOTE,
        service.name,
        f"{vip} is no address of this machine: it must be routed here",
        f"ip route get {vip}",
        "the router",
    )


def _judge_sockets(service: Service, case: Case) -> Iterator[Finding]:
    shadowed = [
        vip
        for vip in case.list_vips(service)
        if any(_takes(socket, vip, service) for socket in case.network.sockets)
    ]
    is_own = any(case.find_way(backend).is_local for backend in service.backends)
    if not shadowed or is_own:  # a backend of this machine listens here on purpose
        return
    kind = "t" if service.protocol is Protocol.TCP else "u"
    yield Finding(
        codes.SHADOWED_SOCKET,
        Severity.NOTE,
        service.name,
        f"a program of this machine listens on port {service.port} as well: packets to"
        f" {name_some(shadowed)} no longer reach it",
        f"ss -l{kind}np 'sport = :{service.port}'",
    )


def _takes(socket: Endpoint, vip: IPAddress, service: Service) -> bool:
    """An IPv6 socket for every address takes IPv4 too, unless it says otherwise (ipv6(7))."""
    if (socket.port, socket.protocol) != (service.port, service.protocol):
        return False
    is_for_all = socket.address.is_unspecified and socket.address.version in (vip.version, 6)
    return is_for_all or socket.address == vip


def _judge_seed(case: Case) -> Iterator[Finding]:
    """Who can compute slots can send many flows to one backend."""
    config = case.config
    vips = [vip for service in config.services for vip in case.list_vips(service)]
    if config.hash_seed != derive_seed(config.name) or not any(vip.is_global for vip in vips):
        return
    yield Finding(
        codes.KNOWN_SEED,
        Severity.NOTE,
        config.name,
        "hash_seed follows from the name: who guesses that can compute which flows go to one"
        " backend, and a VIP is public",
        hint="write a hash_seed of your own; another one moves every flow, so best before the"
        " first apply",
    )
