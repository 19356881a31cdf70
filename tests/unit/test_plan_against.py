"""`xdplb plan --against`: what is said of two files where there is no kernel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli.main import run

SHORT = "interface: [eth0, eth1]\nport: 80\nbackends: [10.0.0.1, 10.0.0.2]\n"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plan(new: str, old: str = SHORT) -> dict[str, Any]:
    """The document of a plan."""
    Path("new.yaml").write_text(new)
    Path("old.yaml").write_text(old)
    assert run(["plan", "new.yaml", "--against", "old.yaml", "--json-out", "plan.json"]) == 0
    document: dict[str, Any] = json.loads(Path("plan.json").read_text())
    return document


def test_what_only_the_controller_is_told_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    document = plan(SHORT + "safety: {min_backends: 2}\nhealth: {type: none}\n")
    assert (document["in_sync"], document["controller"]) == (
        True,
        ["safety", "service.default.health"],
    )
    assert capsys.readouterr().out == (
        "no changes: new.yaml asks of the kernel what old.yaml asks of it\n"
        "the controller is told another: safety, service.default.health\n"
    )


def test_files_that_mean_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(f"# a comment\n{SHORT}")["controller"] == []
    assert capsys.readouterr().out == "no changes: new.yaml asks for what old.yaml asks for\n"


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("limits: {flows: 5000}", "XLB506", "limits.flows: 1000000 -> 5000"),
        ("name: edge", "XLB507", "name: default -> edge"),
    ],
)
def test_what_the_machine_would_not_do_is_warned_of(line: str, code: str, words: str) -> None:
    found = plan(f"{SHORT}{line}\n")["diagnostics"]
    assert [one["message"] for one in found if one["code"] == code and words in one["message"]]


def test_it_is_the_old_files_instance() -> None:
    document = plan(f"{SHORT}name: edge\n", f"{SHORT}name: west\n")
    assert document["live"]["name"] == "west"


def test_own_addresses_are_called_so_and_those_of_another_interface_are_others() -> None:
    document = plan(SHORT.replace("[eth0, eth1]", "[eth1, eth0]"))
    (change,) = document["changes"]
    assert change["before"] == {"vips": ["the own address of eth0"]}
    assert change["after"] == {"vips": ["the own address of eth1"]}
    (connections,) = document["connections"]
    assert connections["broken_percent"] == 100
    assert "the own address of eth0 port 80" in json.dumps(connections)


def test_an_interface_that_is_left_is_warned_of() -> None:
    document = plan(SHORT.replace("[eth0, eth1]", "eth0"))
    assert "XLB505" in [one["code"] for one in document["diagnostics"]]
