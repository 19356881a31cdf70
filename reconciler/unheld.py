"""What a file asks for that no table holds: of the controller, and of maps when they are made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from reconciler.diagnostics import Diagnostic
from reconciler.model import Config

OTHER_LIMITS = "XLB506"
OTHER_NAME = "XLB507"


def find_obstacles(old: Config, new: Config) -> tuple[Diagnostic, ...]:
    """Return warnings of what a machine that runs the old file will make of the new one."""
    return tuple(_find_obstacles(old, new))


def _find_obstacles(old: Config, new: Config) -> Iterator[Diagnostic]:
    if old.name != new.name:
        yield Diagnostic(
            OTHER_NAME,
            "warning",
            f"name: {old.name} -> {new.name}: that is another instance, beside the one that runs",
            hint="take the other down first, its connections end with it: xdplb detach -n"
            f" {old.name}",
        )
        return
    for one in fields(new.limits):
        before, after = getattr(old.limits, one.name), getattr(new.limits, one.name)
        if before != after:
            yield Diagnostic(
                OTHER_LIMITS,
                "warning",
                f"limits.{one.name}: {before} -> {after}: maps keep the size that they were made"
                " with, so the file is refused where the old one runs",
                hint="take the instance down first, its connections end with it: xdplb detach",
            )


def list_controller_settings(old: Config, new: Config) -> tuple[str, ...]:
    """Return what else differs and is the controller's matter, by its place: `safety`.

    Services that are in one of the files only are not looked at.
    """
    return tuple(_list_controller_settings(old, new))


def _list_controller_settings(old: Config, new: Config) -> Iterator[str]:
    for key in ("safety", "reconcile", "metrics"):
        if getattr(old, key) != getattr(new, key):
            yield key
    before = {service.name: service for service in old.services}
    for service in new.services:
        was = before.get(service.name)
        if was is None:
            continue
        if was.health != service.health:
            yield f"service.{service.name}.health"
        if was.slow_start_s != service.slow_start_s:
            yield f"service.{service.name}.slow_start"
