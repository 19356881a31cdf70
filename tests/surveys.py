"""Surveys to try things on: of a kernel that holds what a file says, and has counted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from reconciler import abi
from reconciler.conditions import Condition
from reconciler.config import parse
from reconciler.desired import compile_tables
from reconciler.environment import imagine_environment
from reconciler.fingerprint import fingerprint_rings
from reconciler.health.standing import Standing
from reconciler.model import BackendState
from reconciler.overrides import Override
from reconciler.status import Attempt, ControllerStatus
from reconciler.survey import (
    Controller,
    Fill,
    Findings,
    Health,
    Survey,
    compose_survey,
    measure_fills,
)
from reconciler.tables import Tables, make_empty_tables

TEXT = """
interface: eth0
limits: {ring_slots: 2048}
services:
  - name: web
    vip: 192.0.2.1
    port: 443
    ring_size: 251
    backends:
      - {name: b, address: 10.0.0.2, weight: 50}
      - {name: a, address: 10.0.0.1}
      - {name: c, address: 10.0.0.3, state: drain}
  - {name: dns, vip: "2001:db8::53", port: 53, protocol: udp, ring_size: 251,
     backends: ["2001:db8:1::1"]}
"""
AT = 1_000_000.0
NOW_NS = 10**12


def tell(
    kind: str, status: bool = True, reason: str = "AsItShouldBe", message: str = ""
) -> Condition:
    """A condition as a controller tells it, a minute old."""
    return Condition(kind, status, reason, message, AT - 60)


def find(is_up: bool, detail: str = "") -> Standing:
    """A backend's health as checks find it, half a minute old."""
    return Standing(is_up, AT - 30, streak=0, detail=detail, transitions=1)


def compile_text(text: str = TEXT) -> Tables:
    """What the kernel is to hold for a file."""
    config = parse(text.encode(), "lb.yaml").config
    assert config is not None
    before = make_empty_tables(config.limits.ring_slots)
    return compile_tables(config, imagine_environment(config), before, now_ns=1)


def make_findings(text: str = TEXT, tables: Tables | None = None, **changes: Any) -> Findings:
    """Findings of a kernel in which backend `n` has counted n, 1000 n, and so on."""
    tables = tables or compile_text(text)
    stats = np.zeros(1 << 16, abi.BACKEND_STATS)
    connections = np.zeros(1 << 16, np.int64)
    for number in tables.backends:
        stats[number] = tuple(number * 10**place for place in range(5))
        connections[number] = number
    capacities = {"service_info": 65, "backends": 4097, "endpoints": 8768}
    fills = measure_fills(tables, capacities)
    findings = Findings(
        name="default",
        at=AT,
        now_ns=NOW_NS,
        tables=tables,
        fingerprints=fingerprint_rings(tables),
        backend_stats=stats,
        verdicts=np.arange(len(abi.Verdict), dtype=np.uint64),
        flow_events=np.arange(len(abi.FlowEvent), dtype=np.uint64),
        connections=connections,
        fills=fills | {"flows": Fill(3, 1000), "strays": Fill(1, 100)},
    )
    return replace(findings, **changes)


def make_survey(text: str = TEXT, **changes: Any) -> Survey:
    """The survey of such findings."""
    return compose_survey(make_findings(text, **changes))


def make_told_survey(**changes: Any) -> Survey:
    """A survey of everything that may be told: a controller, health, an override, a panic."""
    good = Attempt("applied", AT - 3600, "ab" * 32)
    bad = Attempt("rejected", AT - 42, "cd" * 32, "lb.yaml is not valid: 1 error")
    conditions = (
        tell("Ready"),
        tell("Synced", False, "Drifted", "heal is off"),
    )
    standings = {
        ("web", "a"): find(True),
        ("web", "b"): find(False, detail="connection refused"),
    }
    override = Override("web", "c", BackendState.DRAIN, "alice", "new kernel", AT - 60, AT + 1800)
    account = ControllerStatus(4242, "/etc/xdplb/lb.yaml", bad, good)
    told = {
        "controller": Controller(4242, account, conditions),
        "health": Health(standings, frozenset({"web"})),
        "overrides": (override,),
    }
    return make_survey(**{**told, **changes})
