"""Whether packets get to the backends: routes, neighbours, interfaces."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby

from reconciler.diagnosis import codes
from reconciler.diagnosis.case import Case, list_serving, name_backends
from reconciler.diagnosis.facts import Unseen
from reconciler.diagnosis.finding import Finding, Severity, report_ok, report_unseen
from reconciler.model import Backend, Forwarding, IPAddress, Service

TUNNELS = (Forwarding.IPIP, Forwarding.GUE)


def judge_ways(case: Case) -> Iterator[Finding]:
    """Yield what there is to say about the ways to the backends, service by service."""
    for service in case.config.services:
        yield from _judge_leads(service, case)
        yield from _judge_own_backends(service, case)
        yield from _judge_neighbours(service, case)
        yield from _judge_egresses(service, case)
        if service.forwarding is Forwarding.L2DSR:
            yield _judge_routers(service, case)


# --- is there a way? ---


def _judge_leads(service: Service, case: Case) -> Iterator[Finding]:
    groups: dict[str, list[Backend]] = defaultdict(list)
    for backend in list_serving(service):
        if case.find_way(backend).refusal:
            groups[_find_lack(backend.address, case)].append(backend)
    if not groups:
        yield report_ok(codes.NO_ROUTE, service.name, "every backend has a route")
    for lack, backends in groups.items():
        first = backends[0]
        yield Finding(
            codes.NO_ROUTE,
            Severity.ERROR,
            service.name,
            f"no route leads to {name_backends(backends)} ({case.find_way(first).refusal}): their"
            " packets are dropped",
            lack or f"ip route replace {first.address} via GATEWAY",
            hint="" if lack else "GATEWAY is the router on the way there",
        )


def _find_lack(address: IPAddress, case: Case) -> str:
    """The route to the link that an address is on; empty where a router must be."""
    found = case.find_own_network(address)
    if found is None:
        return ""
    name, own = found
    # A route that refuses may be narrower than the link's.
    goal = address if case.reach.ways[address].is_refused else own.network
    return f"ip route replace {goal} dev {name}"


def _judge_own_backends(service: Service, case: Case) -> Iterator[Finding]:
    own = [backend for backend in list_serving(service) if case.find_way(backend).is_local]
    if not own:
        return
    is_tunnel = service.forwarding in TUNNELS
    why = (
        f"{service.forwarding.name.lower()} can't reach it"
        if is_tunnel
        else "its replies pass no listed interface, unless that is lo"
    )
    yield Finding(
        codes.OWN_BACKEND,
        Severity.ERROR if is_tunnel else Severity.WARNING,
        service.name,
        f"this machine itself is backend {name_backends(own)}: {why}",
        hint="run the backend on another machine",
    )


def _judge_neighbours(service: Service, case: Case) -> Iterator[Finding]:
    sought = list(filter(case.is_elsewhere, list_serving(service)))
    lost = list(filter(case.is_lost, sought))
    unasked = [b for b in sought if b.address not in case.reach.neighbours]
    if unasked:
        unseen = Unseen(f"nobody has asked for {name_backends(unasked)} yet")
        yield report_unseen(codes.NEIGHBOUR, service.name, unseen)
    elif sought and not lost:
        yield report_ok(codes.NEIGHBOUR, service.name, "every next hop's MAC is known")

    def find_hop(backend: Backend) -> tuple[str, str]:
        way = case.find_way(backend)
        return way.interface, str(way.gateway or "")

    for (interface, gateway), group in groupby(sorted(lost, key=find_hop), find_hop):
        backends = list(group)
        whom = f"router {gateway} before {name_backends(backends)}" if gateway else ""
        yield Finding(
            codes.NEIGHBOUR,
            Severity.WARNING,
            service.name,
            f"no neighbour answers for {whom or name_backends(backends)} on {interface}: it is"
            " down, or on another link",
            f"ping -c 1 -I {interface} {gateway or backends[0].address}",
        )


# --- by which interface? ---


def _judge_egresses(service: Service, case: Case) -> Iterator[Finding]:
    by_egress = case.group_by_egress(service)
    unlisted = [name for name in by_egress if name not in case.config.interfaces]
    if by_egress and not unlisted:
        message = "every way leads by a listed interface"
        yield report_ok(codes.UNLISTED_EGRESS, service.name, message)
    for name in unlisted:
        why = (
            "replies come in there unseen, and keep the backend's address"
            if service.forwarding is Forwarding.NAT
            else "packets are dropped"
        )
        listed = ", ".join((*case.config.interfaces, name))
        yield Finding(
            codes.UNLISTED_EGRESS,
            Severity.ERROR,
            service.name,
            f"the way to {name_backends(by_egress[name])} leads by {name}, which is not listed:"
            f" {why}",
            hint=f"write interface: [{listed}]",
        )


def _judge_routers(service: Service, case: Case) -> Finding:
    far = [backend for backend in list_serving(service) if case.find_way(backend).gateway]
    if not far:
        return report_ok(codes.BEHIND_ROUTER, service.name, "no router is before a backend")
    return Finding(
        codes.BEHIND_ROUTER,
        Severity.ERROR,
        service.name,
        f"router {case.find_way(far[0]).gateway} is before {name_backends(far)}, and l2dsr reaches"
        " neighbours only: packets are dropped",
        hint="write forwarding: ipip, or gue",
    )
