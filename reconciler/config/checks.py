"""Every check of the meaning, in one list. A new one is a function and a line here."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from reconciler.config import check_file, check_health, check_service
from reconciler.config.check_addresses import check_address_ports, check_addresses
from reconciler.config.draft import Draft, ServiceDraft
from reconciler.diagnostics import Diagnostic

_OF_BACKENDS: tuple[Callable[[ServiceDraft], Iterator[Diagnostic]], ...] = (
    check_addresses,
    check_service.check_backend_addresses,
    check_service.check_backend_names,
    check_service.check_vip,
    check_service.check_states,
    check_service.check_tracking,
    check_health.check_health,
    check_health.check_health_addresses,
)
_OF_A_WHOLE_SERVICE: tuple[Callable[[ServiceDraft], Iterator[Diagnostic]], ...] = (
    check_address_ports,
    check_service.check_families,
    check_service.check_backend_ports,
    check_service.check_ring,
)
_OF_THE_FILE: tuple[Callable[[Draft], Iterator[Diagnostic]], ...] = (
    check_file.check_interfaces,
    check_health.check_default_health,
    check_file.check_service_names,
    check_file.check_vips,
    check_file.check_capacities,
    check_file.check_shared_backends,
)


def check_meaning(draft: Draft) -> Iterator[Diagnostic]:
    """Yield what is wrong or costly about a file that the schema accepts."""
    for check_backends in _OF_BACKENDS:
        for service in draft.services:
            yield from check_backends(service)
    for check_service_itself in _OF_A_WHOLE_SERVICE:
        for service in draft.whole_services:
            yield from check_service_itself(service)
    yield from check_together(draft)


def check_together(draft: Draft) -> Iterator[Diagnostic]:
    """Yield what is wrong or costly about services that are right in themselves."""
    for check in _OF_THE_FILE:
        yield from check(draft)
