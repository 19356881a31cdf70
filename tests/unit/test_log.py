"""Lines of the log: key=value, or JSON."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

import pytest

from reconciler.log import log_event

PROGRAM = """
import logging
from reconciler.log import log_event, start_log
start_log(quiet={quiet}, verbose=False, as_json={as_json})
log_event(logging.INFO, reconcile="applied", writes=3, healed=True, reason='say "a"\\n b')
log_event(logging.ERROR, at="lb.yaml:1:2", problem="b")
log_event(logging.DEBUG, unseen="x")
logging.getLogger("other").warning("of %s", "another")
"""


def run_program(*, as_json: bool, quiet: bool = False) -> list[str]:
    text = PROGRAM.format(as_json=as_json, quiet=quiet)
    done = subprocess.run([sys.executable, "-c", text], check=True, capture_output=True, text=True)
    return done.stderr.splitlines()


def test_text() -> None:
    lines = [line.split(" ", 1) for line in run_program(as_json=False)]
    assert all(time.startswith("time=2") for time, _ in lines)
    assert [rest for _, rest in lines] == [
        "level=INFO reconcile=applied writes=3 healed=true reason=\"say 'a' b\"",
        'level=ERROR at=lb.yaml:1:2 problem="b"',
        "level=WARNING of another",
    ]


def test_json_says_the_same() -> None:
    documents: list[dict[str, Any]] = [json.loads(line) for line in run_program(as_json=True)]
    assert all(document.pop("time").startswith("2") for document in documents)
    assert documents == [
        {
            "level": "INFO",
            "reconcile": "applied",
            "writes": 3,
            "healed": True,
            "reason": 'say "a"\n b',
        },
        {"level": "ERROR", "at": "lb.yaml:1:2", "problem": "b"},
        {"level": "WARNING", "message": "of another"},
    ]


def test_quiet_is_quiet() -> None:
    assert len(run_program(as_json=False, quiet=True)) == 2


@pytest.mark.parametrize(
    ("value", "told"),
    [("a", "a"), ("a b", '"a b"'), ("", '""'), ("a=b", '"a=b"'), (None, "None"), (1.5, "1.5")],
)
def test_values(caplog: pytest.LogCaptureFixture, value: object, told: str) -> None:
    caplog.set_level(logging.INFO, "xdplb")
    log_event(logging.INFO, key=value)
    assert caplog.messages == [f"key={told}"]
