"""What a service must be in itself."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.config import codes
from reconciler.config.draft import BackendDraft, ServiceDraft
from reconciler.config.nodes import diagnose
from reconciler.config.primes import find_next_prime, is_prime
from reconciler.diagnostics import Diagnostic, quote
from reconciler.model import BackendState, FlowTracking, Forwarding, IPAddress, Protocol

MAX_RING_SIZE = 1_048_573

# With fewer slots a backend, Maglev's shares are off by more than about 1 % (Maglev,
# NSDI 2016, section 5.3).
_SLOTS_PER_BACKEND = 100


def check_backend_addresses(draft: ServiceDraft) -> Iterator[Diagnostic]:
    """Yield backends that are the same server as one before them."""
    seen: dict[tuple[IPAddress, int], BackendDraft] = {}
    for item in draft.backends:
        backend = item.backend
        first = seen.setdefault((backend.address, backend.port), item)
        if first is not item:
            line = first.node.place.line
            port = f" port {backend.port}" if backend.port else ""
            message = f"{backend.address}{port} is already a backend (line {line})"
            hint = "to send it more flows, give it a larger weight"
            place = item.place_of("address")
            yield diagnose(codes.DUPLICATE_BACKEND_ADDRESS, place, message, hint)


def check_backend_names(draft: ServiceDraft) -> Iterator[Diagnostic]:
    """Yield backends with a name that is taken."""
    seen: dict[str, BackendDraft] = {}
    for item in draft.backends:
        first = seen.setdefault(item.backend.name, item)
        # Two without a name are called alike only if they are one server: said already.
        if first is not item and (first.is_named or item.is_named):
            line = first.node.place.line
            message = f"backend {quote(item.backend.name)} is already defined on line {line}"
            yield diagnose(codes.DUPLICATE_BACKEND_NAME, item.place_of("name"), message)


def check_vip(draft: ServiceDraft) -> Iterator[Diagnostic]:
    """Yield backends whose address is the service's VIP: packets would come back for ever."""
    for item in draft.backends:
        if item.backend.address == draft.service.vip:
            message = f"{draft.service.vip} is the VIP of this service and can't be its backend"
            hint = "write the backend's own address"
            yield diagnose(codes.VIP_IS_BACKEND, item.place_of("address"), message, hint)


def check_families(draft: ServiceDraft) -> Iterator[Diagnostic]:
    """Yield backends of another address family where none can be translated or tunnelled."""
    service = draft.service
    is_nat = service.forwarding is Forwarding.NAT
    if not draft.backends or not (is_nat or service.vip is None):
        return
    family = (service.vip or draft.backends[0].backend.address).version
    other = "the VIP" if service.vip else "the first backend"
    reason = "'nat' can't change the family" if is_nat else "without 'vip' there is one family"
    for item in draft.backends:
        if item.backend.address.version != family:
            message = f"{item.backend.address} is not IPv{family} as {other} is: {reason}"
            yield diagnose(codes.MIXED_FAMILIES, item.place_of("address"), message)


def check_backend_ports(draft: ServiceDraft) -> Iterator[Diagnostic]:
    """Yield backends on another port where packets are delivered as clients sent them."""
    service = draft.service
    if service.forwarding is Forwarding.NAT:
        return
    mode = service.forwarding.name.lower()
    for item in draft.backends:
        if item.backend.port != service.port:
            message = (
                f"backend port {item.backend.port} differs from service port {service.port}: "
                f"only 'nat' may rewrite the port, '{mode}' delivers packets as clients sent them"
            )
            hint = f"let the backend listen on port {service.port}, or use forwarding: nat"
            yield diagnose(codes.BACKEND_PORT, item.place_of("port"), message, hint)


def check_ring(draft: ServiceDraft) -> Iterator[Diagnostic]:
    """Yield a ring size that is no prime, or too small for the backends."""
    size, count = draft.service.ring_size, len(draft.backends)
    place = draft.node.place_of("ring_size")
    enough = find_next_prime(min(count * _SLOTS_PER_BACKEND, MAX_RING_SIZE))
    if not is_prime(size):
        hint = f"the next prime is {find_next_prime(size)}"
        yield diagnose(codes.RING_NOT_PRIME, place, f"ring_size {size} is not a prime", hint)
    elif size < count:
        message = f"{count} backends don't fit on a ring of {size} slots"
        yield diagnose(codes.RING_TOO_SMALL, place, message, f"set ring_size: {enough}")
    elif size < enough:
        message = f"{count} backends on a ring of {size} slots will get uneven shares"
        hint = f"set ring_size: {enough}"
        yield diagnose(codes.COARSE_RING, place, message, hint, severity="warning")


def check_states(draft: ServiceDraft) -> Iterator[Diagnostic]:
    """Yield a service of which no backend takes new flows."""
    states = [item.backend.state for item in draft.backends]
    if states and BackendState.READY not in states:
        message = f"no backend of service {quote(draft.service.name)} takes new flows"
        place = draft.node.place_of("backends")
        hint = "give at least one a weight and the state ready"
        yield diagnose(codes.NO_READY_BACKEND, place, message, hint, severity="warning")


def check_tracking(draft: ServiceDraft) -> Iterator[Diagnostic]:
    """Yield a service whose connections break when its backends change."""
    service = draft.service
    if service.protocol is Protocol.TCP and service.flow_tracking is FlowTracking.NEVER:
        message = f"every change of service {quote(service.name)} breaks connections"
        place = draft.node.place_of("flow_tracking")
        hint = "flow_tracking: on_change keeps them, and costs nothing while nothing changes"
        yield diagnose(codes.TCP_UNTRACKED, place, message, hint, severity="warning")
