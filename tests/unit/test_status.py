"""The controller's account of itself."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from reconciler.config.name import NAME_PATTERN
from reconciler.status import (
    Attempt,
    ControllerStatus,
    forget_status,
    name_state,
    read_status,
    write_status,
)

from ..documents import NO_DOCUMENTS

GOOD = Attempt("applied", 10.0, "ab" * 32)
BAD = Attempt("rejected", 20.0, "cd" * 32, "lb.yaml is not valid: 1 error")


@pytest.mark.parametrize("good", [None, GOOD])
@pytest.mark.parametrize("last", [GOOD, BAD])
def test_what_is_written_is_read(tmp_path: Path, last: Attempt, good: Attempt | None) -> None:
    status = ControllerStatus(42, "lb.yaml", last, good)
    write_status("edge", status, tmp_path)
    assert read_status("edge", tmp_path) == status
    assert read_status("core", tmp_path) is None


def test_the_last_account_counts_and_nothing_else_is_left(tmp_path: Path) -> None:
    for pid in (1, 2):
        write_status("edge", ControllerStatus(pid, "lb.yaml", GOOD, GOOD), tmp_path)
    account = read_status("edge", tmp_path)
    assert account is not None
    assert account.pid == 2
    assert [path.name for path in (tmp_path / "edge").iterdir()] == ["status.json"]


@pytest.mark.parametrize(
    "text",
    [
        *NO_DOCUMENTS,
        '{"pid": 1, "config_path": "", "last_good": null}',
    ],
)
def test_an_account_that_can_not_be_read_is_none(tmp_path: Path, text: str) -> None:
    write_status("edge", ControllerStatus(1, "lb.yaml", GOOD, GOOD), tmp_path)
    (tmp_path / "edge/status.json").write_text(text)
    assert read_status("edge", tmp_path) is None


def test_an_account_of_a_newer_controller_is_none(tmp_path: Path) -> None:
    write_status("edge", ControllerStatus(1, "lb.yaml", GOOD, GOOD), tmp_path)
    path = tmp_path / "edge/status.json"
    document = json.loads(path.read_text())
    document["last_attempt"]["colour"] = "green"
    path.write_text(json.dumps(document))
    assert read_status("edge", tmp_path) is None


def test_an_account_of_an_older_controller_names_no_exit_code(tmp_path: Path) -> None:
    write_status("edge", ControllerStatus(1, "lb.yaml", GOOD, GOOD), tmp_path)
    path = tmp_path / "edge/status.json"
    document = json.loads(path.read_text())
    del document["last_attempt"]["exit_code"]
    path.write_text(json.dumps(document))
    account = read_status("edge", tmp_path)
    assert account is not None
    assert account.last_attempt == GOOD


def test_a_detached_instance_has_no_account(tmp_path: Path) -> None:
    forget_status("edge", tmp_path)
    write_status("edge", ControllerStatus(1, "lb.yaml", GOOD, GOOD), tmp_path)
    forget_status("edge", tmp_path)
    assert read_status("edge", tmp_path) is None


# --- whose account it is ---


@pytest.mark.parametrize("root", ["/sys/fs/bpf/xdplb", "/sys/fs/bpf/xdplb/", "/sys/fs/./bpf/xdplb"])
def test_what_is_pinned_as_usual_is_kept_by_name(root: str) -> None:
    assert name_state("edge", Path(root)) == "edge"


def test_another_place_is_another_instance(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "pins")
    here, again, there = (name_state("edge", tmp_path / n) for n in ("pins", "link", "others"))
    assert here == again
    assert here.startswith("edge@")
    assert len({"edge", here, there}) == 3
    assert not re.fullmatch(NAME_PATTERN, here)  # nobody's name
