"""A plan that was saved with `--json-out`, and whether it is still what would be done."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.cli.plan_output import FORMAT_VERSION, to_json
from reconciler.cli.plan_report import PlanReport
from reconciler.documents import parse_json
from reconciler.errors import NoInput, Stale
from reconciler.model import Config

_REMEDY = "plan again, and look at what it says now"


@dataclass(frozen=True)
class SavedPlan:
    """The document of a plan and the file it was read from."""

    path: Path
    document: dict[str, Any]

    @property
    def config_path(self) -> str:
        """The configuration that was planned."""
        return str(self.document["config"]["path"])

    def require_same_file(self, config: Config) -> None:
        """See that the configuration is the one that was planned.

        Raises:
            Stale: it is another one.
        """
        if config.sha256 != self.document["config"]["sha256"]:
            raise Stale(f"{config.path} is not the file that {self.path} plans", remedy=_REMEDY)

    def require_same_plan(self, report: PlanReport) -> None:
        """See that what would be done now is what was planned.

        Raises:
            Stale: the kernel is not as it was, or something else would change.
        """
        now = json.loads(json.dumps(to_json(report)))
        before, live = self.document["live"], now["live"]
        if live["name"] != before["name"]:
            what = f"is of instance {before['name']}, this is {live['name']}"
        elif live["generation"] != before["generation"]:
            what = f"starts from generation {before['generation']}, this is {live['generation']}"
        elif live["config_sha256"] != before["config_sha256"]:
            what = "starts from another configuration than the one that runs"
        elif _list_effects(now) != _list_effects(self.document):
            what = "changes something else than what would change now: the kernel has drifted"
        else:
            return
        raise Stale(f"{self.path} {what}", remedy=_REMEDY)


def _list_effects(document: dict[str, Any]) -> tuple[list[dict[str, Any]], Any]:
    """What a plan changes and moves; where the file lies plays no part."""
    changes = [{**change, "source": None} for change in document["changes"]]
    return changes, document["rings"]


def read_saved_plan(path: Path) -> SavedPlan:
    """Read a plan that `xdplb plan --json-out` has written.

    Raises:
        NoInput: there is none, or it can't be applied.
    """
    try:
        document = parse_json(path.read_bytes())
    except OSError as error:
        raise NoInput(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        document = None
    remedy = "make one with: xdplb plan --json-out FILE"
    if not _is_plan(document):
        raise NoInput(f"{path} is not a saved plan", remedy=remedy)
    version = document["format_version"]
    if version.partition(".")[0] != FORMAT_VERSION.partition(".")[0]:
        raise NoInput(f"{path} has the format {version}, not {FORMAT_VERSION}", remedy=remedy)
    if document["against"] is not None:
        raise NoInput(f"{path} compares two files, not one with the kernel", remedy=remedy)
    return SavedPlan(path, document)


def _is_plan(document: Any) -> bool:
    """Whether it has everything that is looked at."""
    if not isinstance(document, dict) or document.get("kind") != "xdplb.plan":
        return False
    config, live, changes = (document.get(key) for key in ("config", "live", "changes"))
    return (
        isinstance(document.get("format_version"), str)
        and isinstance(config, dict)
        and {"path", "sha256"} <= set(config)
        and isinstance(live, dict)
        and {"name", "generation", "config_sha256"} <= set(live)
        and isinstance(changes, list)
        and all(isinstance(change, dict) for change in changes)
        and {"rings", "against"} <= set(document)
    )
