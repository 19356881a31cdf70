"""From what is known of a machine to what is wrong with it. Pure: facts in, findings out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.diagnosis import codes
from reconciler.diagnosis.backends import judge_backends
from reconciler.diagnosis.case import Case
from reconciler.diagnosis.facts import Checkup, Reach, Unseen
from reconciler.diagnosis.finding import Finding, Severity, report_unseen
from reconciler.diagnosis.instance import judge_file, judge_instance
from reconciler.diagnosis.interfaces import judge_interfaces
from reconciler.diagnosis.machine import judge_machine
from reconciler.diagnosis.tunnels import judge_tunnels
from reconciler.diagnosis.vips import judge_vips
from reconciler.diagnosis.ways import judge_ways
from reconciler.errors import ExitCode

# Without these there is nothing to plan for.
_HINDER_PLANS = (codes.INTERFACE, codes.VIP_HERE)
_EXIT_CODES = {codes.PRIVILEGES: ExitCode.NOPERM, codes.CONFIG_FILE: ExitCode.CONFIG}


def diagnose(checkup: Checkup) -> tuple[Finding, ...]:
    """Return everything that was looked at, in the way of a packet: machine first."""
    findings = [*judge_machine(checkup), *judge_file(checkup), *_judge_network(checkup)]
    is_explained = any(
        finding.severity is Severity.ERROR and finding.code in _HINDER_PLANS for finding in findings
    )
    return (*findings, *judge_instance(checkup, is_explained=is_explained))


def _judge_network(checkup: Checkup) -> Iterator[Finding]:
    config, network = checkup.config, checkup.network
    if config is None:
        return
    if isinstance(network, Unseen):
        yield report_unseen(codes.INTERFACE, "network", network)
        return
    reach = Reach() if isinstance(checkup.reach, Unseen) else checkup.reach
    case = Case(config, network, reach, checkup.programs, checkup.instance)
    yield from judge_interfaces(case)
    yield from judge_vips(case)
    if isinstance(checkup.reach, Unseen):
        yield report_unseen(codes.BACKEND_ANSWER, "backends", checkup.reach)
        return
    yield from judge_ways(case)
    yield from judge_tunnels(case)
    yield from judge_backends(case)


def choose_exit_code(findings: Iterable[Finding]) -> ExitCode:
    """Return what the errors have in common: privileges, the file; else that it can't work."""
    meant = {
        _EXIT_CODES.get(finding.code, ExitCode.UNAVAILABLE)
        for finding in findings
        if finding.severity is Severity.ERROR
    }
    if not meant:
        return ExitCode.OK
    return meant.pop() if len(meant) == 1 else ExitCode.UNAVAILABLE
