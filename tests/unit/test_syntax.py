"""What a slip of the pen in YAML is called, and what to write instead."""

from __future__ import annotations

import pytest

from reconciler.config import codes, parse
from reconciler.diagnostics import Diagnostic

HEAD = "interface: eth0\nvip: 192.0.2.1\nport: 80\nbackends:\n"
MAPPING = "a backend with more than an address is a mapping"


def find_problem(backends: str) -> Diagnostic:
    parsed = parse((HEAD + backends).encode(), "lb.yaml")
    (problem,) = (one for one in parsed.diagnostics if one.code == codes.SYNTAX)
    assert problem.source is not None
    return problem


@pytest.mark.parametrize(
    ("backends", "hint"),
    [
        ("  - 10.0.0.11\n    weight: 50\n", "{address: 10.0.0.11, weight: 50}"),
        ("- 10.0.0.11\n  weight: 50\n", "{address: 10.0.0.11, weight: 50}"),
        ("  -  10.0.0.11\n    weight: 50 # half\n", "{address: 10.0.0.11, weight: 50}"),
        ("  - 10.0.0.11 # first\n    state: drain\n", "{address: 10.0.0.11, state: drain}"),
        ("  - 10.0.0.11\n\n    weight: 50\n  - 10.0.0.12\n", "{address: 10.0.0.11, weight: 50}"),
        ("  - 10.0.0.11:81\n    weight: 50\n", "{address: 10.0.0.11, port: 81, weight: 50}"),
        ("  - 2001:db8::1\n    weight: 50\n", "{address: 2001:db8::1, weight: 50}"),
        (
            "  - '[2001:db8::1]:53'\n    weight: 50\n",
            "{address: 2001:db8::1, port: 53, weight: 50}",
        ),
    ],
)
def test_a_backend_with_more_than_an_address(backends: str, hint: str) -> None:
    problem = find_problem(backends)
    assert (problem.message, problem.hint) == (MAPPING, f"write {hint}")
    assert problem.source is not None
    line = backends.splitlines()[problem.source.line - 5]
    start = problem.source.column - 1
    assert line[start : start + problem.length].strip("'[]").startswith(("10.0", "2001"))


@pytest.mark.parametrize(
    "backends",
    [
        "  - web-1\n    weight: 50\n",
        "  - 10.0.0.300\n    weight: 50\n",
        "    - 10.0.0.11\n  port: 81\n",
        "  - 10.0.0.11\n    weight:50\n    state: drain\n",
    ],
)
def test_what_is_none(backends: str) -> None:
    problem = find_problem(backends)
    assert problem.message != MAPPING
    assert "'-: " not in problem.hint


def test_the_dash_of_a_list_is_no_key() -> None:
    problem = find_problem("  - weight 50\n    state: drain\n")
    assert (problem.message, problem.hint) == (
        "a ':' is missing after this key",
        "write 'weight: 50'",
    )
