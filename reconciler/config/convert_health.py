"""From the `health` of a file to what is asked of its backends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reconciler.config import codes
from reconciler.config.fields import get_str, list_items, read_duration
from reconciler.config.nodes import Mapping, Scalar, diagnose
from reconciler.config.values import parse_escapes, parse_status
from reconciler.diagnostics import Diagnostic
from reconciler.model import Health, HealthType, Protocol

_WEB = frozenset((HealthType.HTTP, HealthType.HTTPS))
_TLS = frozenset((HealthType.HTTPS,))
_UDP = frozenset((HealthType.UDP,))
_DNS = frozenset((HealthType.DNS,))
_BRIEF = _UDP | _DNS | {HealthType.TCP}

# What only some types of check have. The others are common to all.
TYPES_OF_FIELDS = {
    "via": _BRIEF,
    **dict.fromkeys(("method", "path", "host", "status", "body"), _WEB),
    **dict.fromkeys(("tls_name", "tls_verify", "ca_file"), _TLS),
    **dict.fromkeys(("send", "expect"), _UDP),
    **dict.fromkeys(("query", "query_type", "rcode"), _DNS),
}

# The types that `defaults` can give a service: a UDP port takes no connection.
_SUITED = {
    Protocol.TCP: frozenset(HealthType) - _UDP,
    Protocol.UDP: _UDP | _DNS | {HealthType.NONE},
}
_USUAL = {Protocol.TCP: HealthType.TCP, Protocol.UDP: HealthType.NONE}


def choose_type(own: Mapping, defaults: Mapping, protocol: Protocol) -> HealthType:
    """Return how a service's backends are checked: as it says, or `defaults`, or as usual."""
    usual = _USUAL[protocol]
    if "type" in own.entries:
        return HealthType(get_str(own, "type", usual.value))
    default = HealthType(get_str(defaults, "type", usual.value))
    return default if default in _SUITED[protocol] else usual


class HealthReader:
    """Reads every service's `health`, on top of that of `defaults`.

    Args:
        defaults: the mapping under `defaults.health`.
        problems: is told which values can't be read, each once.
    """

    def __init__(self, defaults: Mapping, problems: list[Diagnostic]) -> None:
        self._defaults = defaults
        self._problems = problems
        self._default_fields = _read_fields(defaults, problems)

    def read(self, own: Mapping, protocol: Protocol, *, has_passage: bool) -> Health | None:
        """Return how a service is checked whose `health` is this; None if it is not.

        Args:
            own: the mapping under `health`.
            protocol: the service's.
            has_passage: whether a backend can be asked by the VIP; where not, what
                `defaults` says of that is not for this service.
        """
        kind = choose_type(own, self._defaults, protocol)
        own_fields = _read_fields(own, self._problems)
        if kind is HealthType.NONE:
            return None
        defaults = self._default_fields
        if not has_passage or (kind is HealthType.DNS and protocol is Protocol.TCP):
            defaults = {key: value for key, value in defaults.items() if key != "via"}
        given = {
            key: value
            for key, value in {**defaults, **own_fields}.items()
            if kind in TYPES_OF_FIELDS.get(key, (kind,))
        }
        base = Health()
        interval_s = given.get("interval", base.interval_s)
        return Health(
            type=kind,
            interval_s=interval_s,
            timeout_s=given.pop("timeout", min(base.timeout_s, interval_s)),
            via_vip=given.pop("via", "backend") == "vip",
            rcodes=given.pop("rcode", base.rcodes),
            **{key: value for key, value in given.items() if key != "interval"},
        )


def _read_fields(node: Mapping, problems: list[Diagnostic]) -> dict[str, Any]:
    """Return what a mapping says, by the keys of the file, but for the type."""
    fields: dict[str, Any] = {}
    for key, value in node.entries.items():
        if key in ("interval", "timeout"):
            fields[key] = read_duration(node, key, 0.0, problems)
        elif read := _READERS.get(key):
            try:
                fields[key] = read(list_items(node, key))
            except ValueError as error:
                problems.append(diagnose(codes.HEALTH_VALUE, node.place_of(key), str(error)))
        elif key in _PLAIN and isinstance(value, Scalar):
            fields[key] = value.value
    return fields


def _read_status(items: list[Scalar]) -> tuple[tuple[int, int], ...]:
    return tuple(parse_status(str(item.value)) for item in items)


def _read_bytes(items: list[Scalar]) -> bytes:
    return b"".join(parse_escapes(str(item.value)) for item in items)


def _read_rcodes(items: list[Scalar]) -> tuple[str, ...]:
    return tuple(str(item.value) for item in items)


# What is taken as it stands. Other keys are refused by the schema.
_PLAIN = frozenset(
    (
        *("rise", "fall", "port", "via", "method", "path", "host", "body"),
        *("tls_name", "tls_verify", "ca_file", "query", "query_type"),
    )
)
_READERS: dict[str, Callable[[list[Scalar]], object]] = {
    "status": _read_status,
    "send": _read_bytes,
    "expect": _read_bytes,
    "rcode": _read_rcodes,
}
