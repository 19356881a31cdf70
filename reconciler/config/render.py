"""From a configuration to lb.yaml in the long form: the way back of `config.parse`.

What has its default is left out, so that a file says what it is about.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from reconciler.config.convert import (
    DEFAULT_DRAIN_TIMEOUT_S,
    DEFAULT_FLOW_IDLE_TIMEOUT_S,
    DEFAULT_WEIGHT,
)
from reconciler.config.scalars import resolve_plain
from reconciler.config.values import format_address_port
from reconciler.model import (
    DEFAULT_NAME,
    DEFAULT_RING_SIZE,
    Affinity,
    Backend,
    BackendState,
    Config,
    FlowTracking,
    Forwarding,
    Limits,
    Protocol,
    Service,
    Tunnel,
    XdpMode,
    derive_seed,
)

_UNITS_MS = (("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]*")


@dataclass(frozen=True, slots=True)
class Notes:
    """Comments: above the file, behind backends, and below the backends of services.

    `backends` are by service and name, `services` by name.
    """

    head: tuple[str, ...] = ()
    backends: Mapping[tuple[str, str], str] = field(default_factory=dict)
    services: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def render_config(config: Config, notes: Notes | None = None) -> str:
    """Return the text of a file that means this, but for what only concerns the controller.

    That is `health`, `slow_start`, `safety`, `reconcile` and `metrics`.
    """
    notes = notes or Notes()
    lines = [f"# {line}" for line in notes.head]
    lines += [*_render_top(config), "services:"]
    for service in config.services:
        lines += [f"  {line}" for line in _render_service(service)]
        for backend in service.backends:
            note = notes.backends.get((service.name, backend.name))
            line = f"      {_render_backend(backend, service)}"
            lines.append(f"{line}  # {note}" if note else line)
        lines += [f"      # {note}" for note in notes.services.get(service.name, ())]
    return "\n".join(lines) + "\n"


def imply_state(weight: int) -> BackendState:
    """Return the state of a backend for which a file names none."""
    return BackendState.READY if weight else BackendState.DRAIN


def _render_top(config: Config) -> Iterator[str]:
    base, limits = Tunnel(), Limits()
    interfaces = [_quote(name) for name in config.interfaces]
    sources = [s for s in (config.tunnel.source_ipv4, config.tunnel.source_ipv6) if s]
    listed = f"[{', '.join(interfaces)}]" if len(interfaces) > 1 else interfaces[0]
    capacities = [
        f"{key}: {getattr(config.limits, key)}"
        for key in ("services", "backends", "ring_slots", "flows")
        if getattr(config.limits, key) != getattr(limits, key)
    ]
    yield from _render_entries(
        ("name", _quote(config.name), config.name != DEFAULT_NAME),
        ("interface", listed, True),
        ("xdp_mode", config.xdp_mode.value, config.xdp_mode is not XdpMode.AUTO),
        ("hash_seed", hex(config.hash_seed), config.hash_seed != derive_seed(config.name)),
        ("tunnel_source", f"[{', '.join(map(_render_source, sources))}]", bool(sources)),
        ("gue_port", config.tunnel.gue_port, config.tunnel.gue_port != base.gue_port),
        ("gue_checksum", "false", not config.tunnel.gue_checksum),
        ("icmp_echo", "pass", not config.answers_echo),
        ("limits", f"{{{', '.join(capacities)}}}", bool(capacities)),
    )


def _render_entries(*entries: tuple[str, Any, bool]) -> Iterator[str]:
    """Yield `key: value` of each entry that the file has to say."""
    for key, value, is_said in entries:
        if is_said:
            yield f"{key}: {value}"


def _render_service(service: Service) -> Iterator[str]:
    """Yield the lines of a service; the first begins an item of a list."""
    idle_s = DEFAULT_FLOW_IDLE_TIMEOUT_S[service.protocol]
    entries = _render_entries(
        ("name", _quote(service.name), True),
        ("vip", _quote(str(service.vip)), service.vip is not None),
        ("port", service.port, True),
        ("protocol", "udp", service.protocol is Protocol.UDP),
        ("forwarding", service.forwarding.name.lower(), service.forwarding is not Forwarding.NAT),
        ("affinity", service.affinity.name.lower(), service.affinity is not Affinity.FLOW),
        ("ring_size", service.ring_size, service.ring_size != DEFAULT_RING_SIZE),
        (
            "drain_timeout",
            render_duration(service.drain_timeout_s),
            service.drain_timeout_s != DEFAULT_DRAIN_TIMEOUT_S,
        ),
        (
            "flow_tracking",
            service.flow_tracking.name.lower(),
            service.flow_tracking is not FlowTracking.ON_CHANGE,
        ),
        (
            "flow_idle_timeout",
            render_duration(service.flow_idle_timeout_s),
            service.flow_idle_timeout_s != idle_s,
        ),
    )
    for number, entry in enumerate((*entries, "backends:")):
        yield f"{'  ' if number else '- '}{entry}"


def _render_backend(backend: Backend, service: Service) -> str:
    """A string where that says all, else a mapping."""
    name = format_address_port(backend.address, backend.port)
    entries = list(
        _render_entries(
            ("name", _quote(backend.name), backend.name != name),
            ("address", _quote(str(backend.address)), True),
            ("port", backend.port, backend.port != service.port),
            ("weight", backend.weight, backend.weight != DEFAULT_WEIGHT),
            ("state", backend.state.name.lower(), backend.state != imply_state(backend.weight)),
        )
    )
    if len(entries) == 1:
        return f"- {_quote(str(backend.address))}"
    return f"- {{{', '.join(entries)}}}"


def _render_source(network: IPv4Network | IPv6Network) -> str:
    is_address = network.prefixlen == network.max_prefixlen
    return _quote(str(network.network_address if is_address else network))


def render_duration(duration_s: float) -> str:
    """Return `5m` for 300.0: the largest unit of which it is a whole number."""
    duration_ms = round(duration_s * 1_000)
    return next(
        f"{duration_ms // size}{unit}" for unit, size in _UNITS_MS if duration_ms % size == 0
    )


def _quote(text: str) -> str:
    """Return a string as YAML reads it back, with quotes where it needs them."""
    is_plain = _PLAIN.fullmatch(text) and resolve_plain(text) == text
    return text if is_plain else json.dumps(text)
