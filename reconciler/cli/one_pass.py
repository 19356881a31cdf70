"""One pass of the controller, as `apply` and `run --once` make it, and what it prints."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.account import leave_account
from reconciler.cli.color import paint
from reconciler.cli.document import require_place, write_json
from reconciler.cli.plan import print_warnings
from reconciler.cli.plan_output import describe_writes, render_plan, to_json
from reconciler.cli.plan_report import PlanReport
from reconciler.cli.say import note_loss, say
from reconciler.config_file import Loaded
from reconciler.diagnostics import Diagnostic
from reconciler.diagnostics import to_json as diagnostics_to_json
from reconciler.errors import Blocked, Degraded, ExitCode, NoInput, RolledBack, XdplbError
from reconciler.overrides import apply_overrides

if TYPE_CHECKING:
    from reconciler.apply import Outcome
    from reconciler.instance import Instance
    from reconciler.proposal import Proposal

# What becomes of a plan that was made, and is told in its document.
_FATES = (Blocked, RolledBack, Degraded)


@dataclass(frozen=True)
class PassOptions:
    """How one pass is made and told. `asks` is called before anything is written."""

    allow_large_change: bool = False
    verify: bool = True
    lock_timeout_s: float = 0.0
    pin_dir: Path | None = None
    as_json: bool = False
    json_out: Path | None = None
    quiet: bool = False
    verbose: bool = False
    detailed_exitcode: bool = False
    probes: bool = False
    asks: Callable[[PlanReport], None] | None = None

    @classmethod
    def read(
        cls, flags: dict[str, Any], asks: Callable[[PlanReport], None] | None = None
    ) -> PassOptions:
        """Return what a command line says."""
        return cls(
            allow_large_change=flags["allow_large_change"],
            verify=not flags["no_verify"],
            lock_timeout_s=flags["lock_timeout"],
            pin_dir=flags["pin_dir"],
            as_json=flags["as_json"],
            json_out=flags["json_out"],
            quiet=flags["quiet"],
            verbose=flags["verbose"],
            detailed_exitcode=flags["detailed_exitcode"],
            probes=flags.get("probe", False),
            asks=asks,
        )


class OnePass:
    """Brings the kernel to a file once, and tells what it did."""

    def __init__(self, loaded: Loaded, options: PassOptions) -> None:
        from reconciler.instance import Instance  # noqa: PLC0415  (BCC: only where needed)

        self.loaded, self.options = loaded, options
        self.instance: Instance = Instance(loaded.config.name, options.pin_dir)
        self.report: PlanReport | None = None
        if options.probes:
            self._probe()

    def _probe(self) -> None:
        """Check every backend now, and go by that."""
        from reconciler.health.once import probe_once  # noqa: PLC0415

        overrides = self.instance.overrides.take(time.time())
        standings = probe_once(apply_overrides(self.loaded.config, overrides))
        self.instance.health.read = lambda: standings

    def preview(self) -> ExitCode:
        """Show what `apply` would do; write nothing.

        Raises:
            XdplbError: as `Instance.propose`, or the document can't be written.
        """
        self._require_place()
        proposal = self.instance.propose(self.loaded.config)
        report = self._show(proposal)
        self._print_document(proposal.advice, is_changed=False, writes=0)
        if report.is_blocked:
            return ExitCode.BLOCKED
        return self._choose_exit_code()

    def apply(self) -> ExitCode:
        """Plan, guard, write, verify; or put back what was.

        Raises:
            XdplbError: as `Instance.reconcile`. What was planned has been told by then.
            NoInput: the document can't be written; nothing was changed.
        """
        self._require_place()
        try:
            with self.instance.held(timeout_s=self.options.lock_timeout_s):
                outcome = self._reconcile()
        except _FATES as error:
            self._print_document((), is_changed=False, writes=0, error=error)
            raise
        self._print_document(outcome.advice, is_changed=outcome.is_changed, writes=outcome.writes)
        self._print_outcome(outcome)
        return self._choose_exit_code()

    def _require_place(self) -> None:
        if self.options.json_out:
            require_place(self.options.json_out)

    def _reconcile(self) -> Outcome:
        """Make the pass, and leave an account of it for `xdplb status`."""
        config, begun_s = self.loaded.config, time.monotonic()
        outcome = self.instance.reconcile(
            config,
            allow_large_change=self.options.allow_large_change,
            verify=self.options.verify,
            review=self._review,
        )
        leave_account(self.instance.state_name, config, outcome, time.monotonic() - begun_s)
        return outcome

    def _review(self, proposal: Proposal) -> None:
        report = self._show(proposal)
        if self.options.asks:
            self.options.asks(report)

    def _show(self, proposal: Proposal) -> PlanReport:
        warnings = (*self.loaded.warnings, *proposal.advice)
        self.report = PlanReport(
            proposal,
            warnings,
            self.instance.count_flows(proposal.observed),
            is_allowed=self.options.allow_large_change,
        )
        if not self.options.quiet:
            if not self.options.as_json:
                print_warnings(warnings, self.loaded)
            # Data on standard output, words on standard error.
            if not self.options.as_json or self.options.asks:
                say(render_plan(self.report, paint), err=self.options.as_json)
                if self.options.verbose:
                    say(describe_writes(proposal.operations), err=self.options.as_json)
        return self.report

    def _print_document(
        self,
        advice: tuple[Diagnostic, ...],
        *,
        is_changed: bool,
        writes: int,
        error: XdplbError | None = None,
    ) -> None:
        if self.report is None or not (self.options.as_json or self.options.json_out):
            return
        report = self.report
        if error is None:  # what the machine is like is known best afterwards
            warnings = (*self.loaded.warnings, *advice)
            report = replace(report, warnings=warnings)
        document = to_json(report) | {"applied": is_changed, "writes": writes}
        if error is not None and error.code != Blocked.code:
            told = Diagnostic(error.code, "error", error.message, hint=error.remedy)
            document["diagnostics"] += diagnostics_to_json([told])
        if self.options.json_out:
            try:
                write_json(document, self.options.json_out)
            except NoInput as refusal:  # the pass is made: it must not end as if it were not
                note_loss(refusal.message)
        if self.options.as_json:
            say(json.dumps(document, indent=2))

    def _print_outcome(self, outcome: Outcome) -> None:
        if self.options.as_json or self.options.quiet or not outcome.is_changed:
            return
        print_warnings([a for a in outcome.advice if a not in outcome.proposal.advice], self.loaded)
        done = "applied and verified" if self.options.verify else "applied, not verified"
        generation = outcome.proposal.desired.generation
        say(f"{paint(done, 'good')}: generation {generation}")

    def _choose_exit_code(self) -> ExitCode:
        has_changes = self.report is not None and bool(self.report.proposal.changes)
        is_told = self.options.detailed_exitcode and has_changes
        return ExitCode.CHANGES if is_told else ExitCode.OK
