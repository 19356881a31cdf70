"""Reads the fields of a mapping, each with what stands for it where it is absent."""

from __future__ import annotations

from reconciler.config import codes
from reconciler.config.nodes import Mapping, Scalar, Sequence, diagnose
from reconciler.config.values import parse_duration
from reconciler.diagnostics import Diagnostic, quote

_DURATION_RANGES_S = {
    "resync": (1.0, 86_400.0, "1s to 24h"),
    "debounce": (0.0, 60.0, "0s to 1m"),
    "drain_timeout": (0.0, 86_400.0, "0s to 24h"),
    "flow_idle_timeout": (1.0, 604_800.0, "1s to 168h"),
    "slow_start": (0.0, 3_600.0, "0s to 1h"),
    "interval": (0.1, 3_600.0, "100ms to 1h"),
    "timeout": (0.01, 60.0, "10ms to 1m"),
}


def get_mapping(node: Mapping, key: str) -> Mapping:
    """Return the mapping under a key, an empty one where there is none."""
    value = node.get(key)
    return value if isinstance(value, Mapping) else Mapping(node.place)


def get_str(node: Mapping, key: str, default: str) -> str:
    """Return the string under a key."""
    value = node.get(key)
    return value.value if isinstance(value, Scalar) and isinstance(value.value, str) else default


def get_int(node: Mapping, key: str, default: int) -> int:
    """Return the whole number under a key."""
    value = node.get(key)
    return value.value if isinstance(value, Scalar) and isinstance(value.value, int) else default


def get_bool(node: Mapping, key: str, default: bool) -> bool:
    """Return whether it is true what stands under a key."""
    value = node.get(key)
    return value.value if isinstance(value, Scalar) and isinstance(value.value, bool) else default


def list_items(node: Mapping, key: str) -> list[Scalar]:
    """Return the scalars under a key that takes one or a list; none where it is absent."""
    value = node.get(key)
    items = value.items if isinstance(value, Sequence) else [value]
    return [item for item in items if isinstance(item, Scalar)]


def is_in_range(key: str, duration_s: float) -> bool:
    """Return whether a field may have that many seconds."""
    lowest_s, highest_s, _ = _DURATION_RANGES_S[key]
    return lowest_s <= duration_s <= highest_s


def read_duration(node: Mapping, key: str, default_s: float, problems: list[Diagnostic]) -> float:
    """Return the seconds under a key; tell `problems` if there are too many or too few."""
    if key not in node.entries:
        return default_s
    duration_s = parse_duration(get_str(node, key, ""))
    if not is_in_range(key, duration_s):
        message = f"{quote(key)} must be from {_DURATION_RANGES_S[key][2]}"
        problems.append(diagnose(codes.DURATION_RANGE, node.place_of(key), message))
    return duration_s
