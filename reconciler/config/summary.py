"""The size of a configuration, in words."""

from __future__ import annotations

from reconciler.model import Config


def summarise(config: Config) -> str:
    """Return the size of a configuration in words, such as `1 service, 3 backends`."""
    backends = sum(len(service.backends) for service in config.services)
    return f"{_count(len(config.services), 'service')}, {_count(backends, 'backend')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
