"""How the doctor's findings are shown: a line each, or as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from rich.text import Text

from reconciler.cli.color import make_console
from reconciler.diagnosis.facts import Checkup, Unseen
from reconciler.diagnosis.finding import Finding, Severity

FORMAT_VERSION = "1.0"

_STYLES = {
    Severity.OK: "green",
    Severity.NOTE: "cyan",
    Severity.WARNING: "yellow",
    Severity.ERROR: "bold red",
}


def to_json(findings: Sequence[Finding], checkup: Checkup) -> dict[str, Any]:
    """Return the document of a diagnosis. Everything that was looked at is in it."""
    config, machine = checkup.config, checkup.machine
    return {
        "format_version": FORMAT_VERSION,
        "kind": "xdplb.doctor",
        "kernel": None if isinstance(machine, Unseen) else machine.release,
        "config": {"path": config.path, "sha256": config.sha256} if config else None,
        "findings": [_describe(finding) for finding in findings],
        "summary": count_severities(findings),
    }


def _describe(finding: Finding) -> dict[str, str | None]:
    return {
        "code": finding.code,
        "severity": finding.severity.value,
        "subject": finding.subject,
        "message": finding.message,
        "command": finding.command or None,
        "host": finding.host or None,
        "hint": finding.hint or None,
    }


def count_severities(findings: Iterable[Finding]) -> dict[str, int]:
    """Return how many findings there are of each severity, the worst first."""
    counts = Counter(finding.severity for finding in findings)
    return {severity.value: counts[severity] for severity in reversed(Severity)}


def print_findings(findings: Sequence[Finding], shown: Iterable[Severity]) -> None:
    """Print the findings of these severities for people, a line each.

    Lines are never cut: a command has to be whole to be copied.
    """
    width = max((len(finding.subject) for finding in findings), default=0)
    chosen = set(shown)
    console = make_console(soft_wrap=True)
    for finding in findings:
        if finding.severity in chosen:
            console.print(_render(finding, width))


def print_summary(findings: Sequence[Finding]) -> None:
    """Print how many findings there are of each severity."""
    counts = count_severities(findings)
    said = [
        _count(counts["error"], "error"),
        _count(counts["warning"], "warning"),
        _count(counts["note"], "note"),
        f"{counts['ok']} ok",
    ]
    make_console(soft_wrap=True).print(f"doctor: {', '.join(said)}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _render(finding: Finding, width: int) -> Text:
    line = Text(f"{finding.severity.value:<7}", style=_STYLES[finding.severity])
    line.append(f"  {finding.code}  {finding.subject:<{width}}  {finding.message}", style="default")
    if finding.hint:
        line.append(f" ({finding.hint})", style="default")
    if finding.command:
        where = f"on {finding.host} " if finding.host else ""
        line.append(f"  {where}$ ", style="default")
        line.append(finding.command, style="bold")
    return line
