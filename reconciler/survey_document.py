"""A survey as the JSON document of `xdplb status`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from reconciler.override_store import list_overrides
from reconciler.survey import (
    Controller,
    Survey,
    SurveyedBackend,
    SurveyedService,
)

FORMAT_VERSION = "1.0"


def describe_survey(survey: Survey) -> dict[str, Any]:
    """Return the document; its keys keep their meaning within a major version."""
    return {
        "format_version": FORMAT_VERSION,
        "kind": "xdplb.status",
        "name": survey.name,
        "generation": survey.generation,
        "config_sha256": survey.config_sha256 or None,
        "ring_fingerprint": survey.ring_fingerprint,
        "controller": _describe_controller(survey.controller),
        "conditions": [asdict(one) for one in survey.controller.conditions],
        "interfaces": {
            name: {"ifindex": one.ifindex, "mode": one.mode.value}
            for name, one in survey.interfaces.items()
        },
        "services": [_describe_service(service) for service in survey.services],
        "overrides": list_overrides(survey.overrides, survey.staying),
        "overrides_problem": survey.overrides_problem,
        "flow_table": {**survey.fills["flows"]._asdict(), "events": dict(survey.flow_events)},
        "maps": {name: fill._asdict() for name, fill in survey.fills.items()},
        "verdicts": dict(survey.verdicts),
        "history": [asdict(record) for record in survey.history],
    }


def _describe_controller(controller: Controller) -> dict[str, Any]:
    document: dict[str, Any] = {"running": controller.pid is not None, "pid": controller.pid}
    if account := controller.account:
        document |= {
            "config": account.config_path,
            "last_attempt": asdict(account.last_attempt),
            "last_good": asdict(account.last_good) if account.last_good else None,
        }
    return document


def _describe_service(service: SurveyedService) -> dict[str, Any]:
    first = service.endpoints[0] if service.endpoints else None
    return {
        "name": service.name,
        "vips": [str(endpoint.address) for endpoint in service.endpoints],
        "port": first.port if first else None,
        "protocol": first.protocol.name.lower() if first else None,
        "forwarding": service.forwarding.name.lower() if service.forwarding else None,
        "ring_size": service.ring_size,
        "ring_fingerprint": service.ring_fingerprint,
        "remembers_for_s": service.remembers_for_s,
        "panic": service.is_panicking,
        "backends": [_describe_backend(backend) for backend in service.backends],
    }


def _describe_backend(backend: SurveyedBackend) -> dict[str, Any]:
    return {
        "name": backend.name,
        "address": str(backend.address),
        "port": backend.port,
        "state": backend.state.name.lower(),
        "health": _describe_health(backend),
        "weight": backend.weight,
        "leaves_in_s": backend.leaves_in_s,
        "slots": backend.slots,
        "share": backend.share,
        "expected_share": backend.expected_share,
        **backend.counters._asdict(),
        "connections": backend.connections,
    }


def _describe_health(backend: SurveyedBackend) -> dict[str, Any] | None:
    if backend.is_up is None:
        return None
    standing = backend.standing
    return {
        "up": backend.is_up,
        "since": standing.since if standing else None,
        "detail": standing.detail if standing else "",
        "withheld_percent": backend.withheld_percent,
    }
