"""From tables back to lb.yaml: the law is that what is exported plans no change.

This is the way back of `desired.compile_tables`; `config.render` is that of
`config.parse`. What the tables can't know is left out, and a comment says so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from itertools import islice, permutations, product

from reconciler.config.render import Notes, imply_state, render_config, render_duration
from reconciler.config.values import format_address_port, parse_duration
from reconciler.errors import Unavailable
from reconciler.model import (
    Backend,
    Config,
    Limits,
    Service,
    XdpMode,
    digest_meaning,
)
from reconciler.overrides import BackendName
from reconciler.tables import Endpoint, ServiceRow, Tables, group_backends

# Orders of the interfaces to try: all of up to three.
_MAX_ORDERS = 6


def export_tables(
    tables: Tables, name: str, limits: Limits, overridden: Collection[BackendName] = ()
) -> str:
    """Return the lb.yaml, in the long form, that an instance's tables came from.

    Args:
        tables: what the kernel holds.
        name: of the instance.
        limits: the capacities of its maps.
        overridden: the backends whose state is an override's.

    Raises:
        Unavailable: the tables are not whole: there is no interface or no service.
    """
    config, is_exact = rebuild_config(tables, name, limits, overridden)
    head = [
        f"Instance {name}, generation {tables.generation}: what the kernel holds.",
        "It does not hold health, safety, reconcile and metrics: here they have their defaults.",
    ]
    if not is_exact:
        head += [
            "This may not be what the file said: somebody has changed the maps since, an",
            "override hides the state of a backend, or xdp_mode was asked for.",
        ]
    notes = Notes(
        head=tuple(head),
        backends=dict.fromkeys(overridden, "its state is an override's"),
        services=dict(_describe_leaving(tables)),
    )
    return render_config(config, notes)


def rebuild_config(
    tables: Tables, name: str, limits: Limits, overridden: Collection[BackendName] = ()
) -> tuple[Config, bool]:
    """Return the configuration that the tables came from, and whether it means what was applied.

    What several files would have compiled to is told apart by the digest of the
    meaning that was applied, where one of them has it: the order of the interfaces,
    whether a mode was asked for or found by `auto`, and whether an override hides
    that a backend is ready. See `export_tables`.
    """
    services = tuple(_rebuild_services(tables))
    settings = tables.settings.get(0)
    if not (tables.attachments and settings and services):
        raise Unavailable(
            f"instance {name} is not whole: it has no interface or no service",
            remedy="let a pass finish it: xdplb-reconcile --once",
        )
    first = Config(
        name=name,
        interfaces=(),
        xdp_mode=XdpMode.AUTO,
        hash_seed=settings.hash_seed,
        services=(),
        limits=limits,
        tunnel=settings.tunnel,
        answers_echo=settings.answers_echo,
    )
    candidates = [
        replace(first, services=listed, interfaces=order, xdp_mode=mode)
        for listed, order, mode in product(
            dict.fromkeys((_lift_overrides(services, overridden), services)),
            islice(permutations(_order_interfaces(tables)), _MAX_ORDERS),
            _list_modes(tables),
        )
    ]
    exact = (one for one in candidates if digest_meaning(one) == tables.meaning_sha256)
    found = next(exact, None)
    return found or candidates[0], found is not None


def _rebuild_services(tables: Tables) -> Iterator[Service]:
    """Yield the services that are whole, by name."""
    rows = {row.id: (endpoint, row) for endpoint, row in tables.services.items() if row.ring_size}
    groups = group_backends(tables)
    for number in sorted(tables.service_info, key=lambda number: tables.service_info[number].name):
        backends = tuple(_rebuild_backends(tables, groups.get(number, []), is_leaving=False))
        if number in rows and backends:
            yield _rebuild_service(tables, number, *rows[number], backends)


def _rebuild_service(
    tables: Tables, number: int, endpoint: Endpoint, row: ServiceRow, backends: tuple[Backend, ...]
) -> Service:
    info = tables.service_info[number]
    return Service(
        name=info.name,
        vip=None if info.own_addresses else endpoint.address,
        port=endpoint.port,
        protocol=endpoint.protocol,
        forwarding=row.forwarding,
        affinity=row.affinity,
        ring_size=row.ring_size,
        drain_timeout_s=_read_duration(info.drain_timeout_ms),
        backends=backends,
        flow_tracking=info.flow_tracking,
        flow_idle_timeout_s=_read_duration(info.flow_idle_timeout_ms),
    )


def _read_duration(duration_ms: int) -> float:
    """Return the seconds as they are read from the text: the last bit is part of the meaning."""
    return parse_duration(render_duration(duration_ms / 1_000))


def _rebuild_backends(
    tables: Tables, numbers: Iterable[int], *, is_leaving: bool
) -> Iterator[Backend]:
    infos = tables.backend_info
    for number in sorted((i for i in numbers if i in infos), key=lambda i: infos[i].name):
        info, row = infos[number], tables.backends[number]
        if bool(info.leaves_ns) == is_leaving:
            yield Backend(info.name, row.address, row.port, info.weight, row.state)


def _describe_leaving(tables: Tables) -> Iterator[tuple[str, tuple[str, ...]]]:
    groups = group_backends(tables)
    for number, info in tables.service_info.items():
        yield (
            info.name,
            tuple(
                f"left the file, stays for its flows: {_describe_place(backend)}"
                for backend in _rebuild_backends(tables, groups.get(number, []), is_leaving=True)
            ),
        )


def _describe_place(backend: Backend) -> str:
    """Name and place; many a backend is named for its place."""
    place = format_address_port(backend.address, backend.port)
    return place if backend.name == place else f"{backend.name}, {place}"


def _lift_overrides(
    services: tuple[Service, ...], overridden: Collection[BackendName]
) -> tuple[Service, ...]:
    """Under an override the tables don't tell what the file says: most say nothing, ready."""
    return tuple(
        replace(
            service,
            backends=tuple(
                replace(backend, state=imply_state(backend.weight))
                if (service.name, backend.name) in overridden
                else backend
                for backend in service.backends
            ),
        )
        for service in services
    )


def _order_interfaces(tables: Tables) -> list[str]:
    """The interface whose addresses are VIPs comes first, the others by name."""
    own = {number for number, info in tables.service_info.items() if info.own_addresses}
    vips = {endpoint.address for endpoint, row in tables.services.items() if row.id in own}

    def follows(name: str) -> tuple[bool, str]:
        row = tables.interfaces.get(tables.attachments[name].ifindex)
        return not (row and {row.ipv4, row.ipv6} & vips), name

    return sorted(tables.attachments, key=follows)


def _list_modes(tables: Tables) -> list[XdpMode]:
    """What the file may have said: `auto`, or the one mode that there is."""
    live = {attachment.mode for attachment in tables.attachments.values()} - {XdpMode.AUTO}
    return [XdpMode.AUTO, *(live if len(live) == 1 else ())]
