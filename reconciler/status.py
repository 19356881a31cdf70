"""What the controller says of itself to others: /run/xdplb/<name>/status.json."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reconciler.conditions import Condition, Conditions
from reconciler.dataplane.bpffs import DEFAULT_PIN_ROOT
from reconciler.documents import parse_json
from reconciler.replace import replace_text

RUN_ROOT = Path("/run/xdplb")


def name_state(name: str, pin_root: Path) -> str:
    """Return the folder's name, under `RUN_ROOT` and its like, of what is kept of an instance.

    One that is pinned elsewhere than usual is another instance, whatever its name, and has
    a folder of its own: `default@5f1c09ab`. No name has an `@` in it.
    """
    place = os.path.realpath(pin_root)
    if place == str(DEFAULT_PIN_ROOT):
        return name
    return f"{name}@{hashlib.blake2b(os.fsencode(place), digest_size=4).hexdigest()}"


@dataclass(frozen=True)
class Attempt:
    """One try to bring the kernel to a file. `at` is in seconds since the epoch.

    `exit_code` is the name of what a command that fails so ends with (`UNAVAILABLE`); empty
    where nothing failed, and in accounts of older controllers.
    """

    result: str
    at: float
    sha256: str
    message: str = ""
    exit_code: str = ""


@dataclass(frozen=True)
class ControllerStatus:
    """The controller's own account; what the kernel holds is read from the kernel.

    `last_good` is the last attempt that ended in sync; it stays when later ones fail.
    """

    pid: int
    config_path: str
    last_attempt: Attempt
    last_good: Attempt | None
    conditions: Conditions = ()


def write_status(name: str, status: ControllerStatus, root: Path = RUN_ROOT) -> None:
    """Replace an instance's account in one step: readers see the old or the new one."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(folder / "status.json", json.dumps(asdict(status), indent=2) + "\n")


def forget_status(name: str, root: Path = RUN_ROOT) -> None:
    """Remove the account of an instance that is no more, and its folder if that is all."""
    folder = root / name
    (folder / "status.json").unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def read_status(name: str, root: Path = RUN_ROOT) -> ControllerStatus | None:
    """Return the last account of an instance's controller, if there is one that can be read."""
    try:
        document = parse_json((root / name / "status.json").read_text(encoding="utf-8"))
        return _parse(document)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _parse(document: dict[str, Any]) -> ControllerStatus:
    good = document["last_good"]
    return ControllerStatus(
        document["pid"],
        document["config_path"],
        Attempt(**document["last_attempt"]),
        Attempt(**good) if good else None,
        tuple(Condition(**each) for each in document.get("conditions", ())),
    )
