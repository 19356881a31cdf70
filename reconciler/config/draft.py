"""The model together with the places it was read from, for the checks of its meaning."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.config.nodes import Mapping, Node, Place
from reconciler.model import Backend, Config, Service


@dataclass(frozen=True, slots=True)
class BackendDraft:
    """A backend and the string or mapping that says it."""

    backend: Backend
    node: Node

    @property
    def is_named(self) -> bool:
        """Whether the file names it; else it is called by address and port."""
        return isinstance(self.node, Mapping) and "name" in self.node.entries

    def place_of(self, key: str) -> Place:
        """Return the place of a key's value, or of the backend."""
        return self.node.place_of(key) if isinstance(self.node, Mapping) else self.node.place


@dataclass(frozen=True, slots=True)
class ServiceDraft:
    """A service and the mapping that says it.

    `backends` are in the order of the file. A service that is not whole lacks a
    part that was refused: only its backends can be judged.
    """

    service: Service
    node: Mapping
    backends: tuple[BackendDraft, ...]
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Draft:
    """A configuration that may still mean nonsense.

    `services` are in the order of the file. Backends that could not be read are
    left out, and services that are not whole are not in `config`.
    """

    config: Config
    services: tuple[ServiceDraft, ...]
    root: Mapping

    @property
    def whole_services(self) -> tuple[ServiceDraft, ...]:
        """Those that can be compared with one another."""
        return tuple(item for item in self.services if item.is_whole)
