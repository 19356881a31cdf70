"""Gather what the doctor judges: look at everything at once, and wait for nothing long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reconciler.diagnosis.facts import Checkup, FileTrouble, Unseen
from reconciler.inspection.deadline import look_at_all
from reconciler.inspection.machine import look_at_bcc, look_at_machine
from reconciler.model import Config

DEADLINE_S = 3.5


def inspect(
    name: str,
    root: Path,
    *,
    config: Config | None = None,
    warnings: int = 0,
    file: FileTrouble | None = None,
    words: Sequence[str] = (),
) -> Checkup:
    """Return everything there is to know, in little more than `DEADLINE_S` seconds.

    Args:
        name: the instance.
        root: where instances are pinned.
        config: a valid lb.yaml; without one, only the machine is looked at.
        warnings: how many the file has.
        file: what is wrong with lb.yaml, if it is not valid.
        words: the doctor's own arguments.
    """
    bcc, libbpf = look_at_bcc()
    looks: dict[str, Callable[[], Any]] = {"machine": lambda: look_at_machine(root, bcc, words)}
    if config:
        from reconciler.inspection.network import look_at_network  # noqa: PLC0415  (pyroute2)
        from reconciler.inspection.reach import look_at_reach  # noqa: PLC0415  (pyroute2)

        looks["network"] = lambda: look_at_network(config)
        looks["reach"] = lambda: look_at_reach(config)
    if libbpf:
        from reconciler.dataplane.trial import try_program  # noqa: PLC0415  (numpy)
        from reconciler.inspection import pinned  # noqa: PLC0415  (pyroute2, numpy)

        looks |= {
            "trial": lambda: try_program(libbpf),
            "instance": lambda: pinned.look_at_instance(name, root, config),
            "programs": lambda: pinned.look_at_programs(root, libbpf),
            "flows": lambda: pinned.look_at_flows(name, root),
        }
    without_bcc = dict.fromkeys(("trial", "instance", "programs", "flows"), Unseen("it takes BCC"))
    found = without_bcc | look_at_all(looks, DEADLINE_S)
    return Checkup(**found, config=config, warnings=warnings, file=file)
