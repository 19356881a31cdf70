"""What the parts of a file must be to one another."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.config import codes
from reconciler.config.convert import list_interfaces
from reconciler.config.draft import BackendDraft, Draft, ServiceDraft
from reconciler.config.nodes import diagnose
from reconciler.diagnostics import Diagnostic, quote
from reconciler.model import Forwarding, IPAddress, Protocol, Service


def check_interfaces(draft: Draft) -> Iterator[Diagnostic]:
    """Yield interfaces that are listed twice."""
    seen: set[object] = set()
    for item in list_interfaces(draft.root):
        if item.value in seen:
            message = f"interface {quote(item.value)} is listed twice"
            yield diagnose(codes.DUPLICATE_INTERFACE, item.place, message)
        seen.add(item.value)


def check_service_names(draft: Draft) -> Iterator[Diagnostic]:
    """Yield services with a name that is taken."""
    seen: dict[str, ServiceDraft] = {}
    for item in draft.whole_services:
        first = seen.setdefault(item.service.name, item)
        if first is not item:
            place = item.node.place_of("name")
            where = first.node.place.seen_from(place)
            message = f"service {quote(item.service.name)} is already defined {where}"
            yield diagnose(codes.DUPLICATE_SERVICE, place, message)


def check_vips(draft: Draft) -> Iterator[Diagnostic]:
    """Yield services that listen where another one does."""
    seen: dict[tuple[IPAddress | int | None, int, Protocol], ServiceDraft] = {}
    for item in draft.whole_services:
        service = item.service
        listens_on = _identify_vip(service)
        first = seen.setdefault((listens_on, service.port, service.protocol), item)
        if first is not item and listens_on:
            place = item.node.place_of("vip" if service.vip else "port")
            shown = f"{service.vip or 'the own addresses'} port {service.port}"
            message = (
                f"{shown} ({service.protocol.name.lower()}) is already taken "
                f"by service {quote(first.service.name)} {first.node.place.seen_from(place)}"
            )
            yield diagnose(codes.DUPLICATE_VIP, place, message)


def _identify_vip(service: Service) -> IPAddress | int | None:
    """The VIP, or the family whose own addresses the service listens on, if that is known."""
    if service.vip or not service.backends:
        return service.vip
    return service.backends[0].address.version


def check_capacities(draft: Draft) -> Iterator[Diagnostic]:
    """Yield the first service, backend and ring that the maps have no room for."""
    yield from _check_service_count(draft)
    yield from _check_backend_count(draft)
    yield from _check_slot_count(draft)


def _check_service_count(draft: Draft) -> Iterator[Diagnostic]:
    limit, count = draft.config.limits.services, len(draft.services)
    if count > limit:
        message = f"{count} services, but limits.services is {limit}"
        place = draft.services[limit].node.place
        yield diagnose(codes.TOO_MANY_SERVICES, place, message, f"set limits.services: {count}")


def _check_backend_count(draft: Draft) -> Iterator[Diagnostic]:
    # Id 0 means "no backend".
    limit = draft.config.limits.backends
    backends = [item for service in draft.services for item in service.backends]
    if len(backends) > limit:
        message = f"{len(backends)} backends, but limits.backends leaves room for {limit}"
        hint = f"set limits.backends: {len(backends)}"
        yield diagnose(codes.TOO_MANY_BACKENDS, backends[limit].node.place, message, hint)


def _check_slot_count(draft: Draft) -> Iterator[Diagnostic]:
    limit = draft.config.limits.ring_slots
    total = sum(item.service.ring_size for item in draft.whole_services)
    used = 0
    for item in draft.whole_services:
        used += item.service.ring_size
        if used > limit:
            message = f"the rings need {total} slots, but limits.ring_slots is {limit}"
            hint = f"set limits.ring_slots: {total}, or a smaller ring_size"
            place = item.node.place_of("ring_size")
            yield diagnose(codes.TOO_MANY_SLOTS, place, message, hint)
            return


def check_shared_backends(draft: Draft) -> Iterator[Diagnostic]:
    """Yield a warning for each nat service whose backends another nat service uses too."""
    owners: dict[tuple[IPAddress, int, Protocol], ServiceDraft] = {}
    for item in draft.whole_services:
        if item.service.forwarding is not Forwarding.NAT:
            continue
        shared: list[tuple[BackendDraft, ServiceDraft]] = []
        for backend in item.backends:
            key = (backend.backend.address, backend.backend.port, item.service.protocol)
            owner = owners.setdefault(key, item)
            if owner is not item:
                shared.append((backend, owner))
        if shared:
            yield _warn_of_sharing(draft, item, shared)


def _warn_of_sharing(
    draft: Draft, item: ServiceDraft, shared: list[tuple[BackendDraft, ServiceDraft]]
) -> Diagnostic:
    backend, owner = shared[0]
    others = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
    message = (
        f"services {quote(owner.service.name)} and {quote(item.service.name)} share backend "
        f"{backend.backend.address} port {backend.backend.port}{others}: replies don't tell "
        "which VIP they belong to, so every flow of both is tracked"
    )
    hint = (
        f"this costs one of limits.flows ({draft.config.limits.flows}) a connection; "
        "a port of its own for each service avoids it"
    )
    place = backend.place_of("address")
    return diagnose(codes.SHARED_BACKEND, place, message, hint, severity="warning")
