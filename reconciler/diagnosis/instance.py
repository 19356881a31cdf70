"""Whether the file is obeyed: valid, applied, followed by a controller."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote

from reconciler.diagnosis import codes
from reconciler.diagnosis.facts import Checkup, FlowTable, InstanceState, Reload, Unseen
from reconciler.diagnosis.finding import Finding, Severity, report_ok, report_unseen

_FILE = "file"
_FULL_PERCENT = 90
_MOST_FLOWS = 16_777_216  # of limits.flows, in schema/lb.schema.json
# What `reconciler.loop` calls a look at the file that ended well.
_GOOD = ("applied", "in_sync", "drifted")


def judge_file(checkup: Checkup) -> Iterator[Finding]:
    """Yield what there is to say about lb.yaml itself; nothing where there is none."""
    if checkup.file:
        yield Finding(
            codes.CONFIG_FILE,
            Severity.ERROR,
            _FILE,
            f"{checkup.file.message}: nothing of it is looked at, and the controller goes on with"
            " what it had",
            f"xdplb validate {quote(checkup.file.path)}",
        )
    elif checkup.config and checkup.warnings:
        count = checkup.warnings
        message = f"is valid, with {count} warning{'s' if count > 1 else ''}"
        command = f"xdplb validate {quote(checkup.config.path)}"
        yield Finding(codes.CONFIG_FILE, Severity.NOTE, _FILE, message, command)
    elif checkup.config:
        yield report_ok(codes.CONFIG_FILE, _FILE, "is valid")


def judge_instance(checkup: Checkup, *, is_explained: bool) -> Iterator[Finding]:
    """Yield what there is to say about what is pinned, and who looks after it.

    Args:
        checkup: all that is known.
        is_explained: why no plan can be made, if so, has been said already.
    """
    instance = checkup.instance
    if isinstance(instance, Unseen):
        yield report_unseen(codes.CONTROLLER, "instance", instance)
        return
    if instance.exists:
        yield from _judge_controller(instance, checkup)
        yield from _judge_flows(checkup.flows, instance.name)
    elif checkup.config:
        yield Finding(
            codes.CONTROLLER,
            Severity.NOTE,
            instance.name,
            "has not been applied: nothing is balanced yet",
            f"xdplb-reconcile -c {quote(checkup.config.path)}",
        )
    if instance.last_reload:
        yield _judge_reload(instance, instance.last_reload, checkup)
    if checkup.config:
        yield from _judge_plan(instance, quote(checkup.config.path), is_explained=is_explained)


def _judge_controller(instance: InstanceState, checkup: Checkup) -> Iterator[Finding]:
    if instance.pid:
        yield report_ok(codes.CONTROLLER, instance.name, f"its controller runs, pid {instance.pid}")
        return
    path = f" -c {quote(checkup.config.path)}" if checkup.config else ""
    yield Finding(
        codes.CONTROLLER,
        Severity.WARNING,
        instance.name,
        "no controller runs: packets go on, and nobody follows the file or keeps neighbours known",
        f"xdplb-reconcile{path}",
    )


def _judge_reload(instance: InstanceState, reload: Reload, checkup: Checkup) -> Finding:
    when = f"the last reload, {reload.age_s:.0f} s ago,"
    if reload.result in _GOOD:
        return report_ok(codes.LAST_RELOAD, instance.name, f"{when} went well ({reload.result})")
    reason = f" ({reload.message})" if reload.message else ""
    file = checkup.config or checkup.file
    return Finding(
        codes.LAST_RELOAD,
        Severity.WARNING,
        instance.name,
        f"{when} was {reload.result.upper()}{reason}: the state before it goes on",
        f"xdplb plan {quote(file.path)}" if file else "xdplb status",
    )


def _judge_plan(instance: InstanceState, path: str, *, is_explained: bool) -> Iterator[Finding]:
    if instance.trouble and is_explained:
        return
    if instance.trouble:
        message, remedy = instance.trouble
        yield Finding(
            codes.DIFFERENCE,
            Severity.ERROR,
            instance.name,
            f"no plan can be made: {message}",
            f"xdplb plan {path}",
            hint=remedy,
        )
    elif instance.exists and instance.changes:
        command = f"kill -HUP {instance.pid}" if instance.pid else f"xdplb run --once -c {path}"
        yield Finding(
            codes.DIFFERENCE,
            Severity.WARNING,
            instance.name,
            f"the kernel differs from the file by {instance.changes} change"
            f"{'s' if instance.changes > 1 else ''}",
            command,
            hint="xdplb plan shows them",
        )
    elif instance.exists:
        yield report_ok(codes.DIFFERENCE, instance.name, "the kernel does what the file says")


def _judge_flows(flows: FlowTable | Unseen | None, name: str) -> Iterator[Finding]:
    if flows is None:
        return
    if isinstance(flows, Unseen):
        yield report_unseen(codes.FLOW_TABLE, name, flows)
        return
    percent = 100 * flows.used / flows.size
    message = f"remembers {flows.used} flows, {percent:.0f} % of limits.flows"
    if percent < _FULL_PERCENT:
        yield report_ok(codes.FLOW_TABLE, name, message)
        return
    larger = min(4 * flows.size, _MOST_FLOWS)
    yield Finding(
        codes.FLOW_TABLE,
        Severity.WARNING,
        name,
        f"{message}: a flow that finds no room loses its backend when its slot moves",
        f"xdplb detach -n {name}",
        hint=f"and write limits.flows: {larger}; connections end with detach",
    )
