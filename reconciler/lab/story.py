"""One lb.yaml, edited again and again under a load, and the phases that this makes."""

from __future__ import annotations

import time
from dataclasses import replace
from math import inf

from reconciler.lab.controller import Controller, PlanReport
from reconciler.lab.drive import Drive
from reconciler.lab.edits import Edit, read_weights
from reconciler.lab.phase import Phase
from reconciler.lab.samples import Samples


class Story:
    """The controller's file, and everything that happened to it.

    Attributes:
        text: the file as it is now.
        phases: one for each text so far; the last one ends at infinity until
            the next edit or the end.
    """

    def __init__(self, controller: Controller, drive: Drive, text: str) -> None:
        """Begin with a file that the kernel follows and a load that runs."""
        self.controller, self.drive, self.text = controller, drive, text
        now_s = time.monotonic()
        self.phases = [Phase("start", read_weights(text), now_s, now_s, inf)]

    def preview(self, edit: Edit) -> PlanReport:
        """Ask what an edit would change, as a pipeline does with a pull request."""
        proposed = self.controller.config.with_suffix(".proposed")
        proposed.write_text(edit.change(self.text), encoding="utf-8")
        return self.controller.plan(proposed)

    def make(self, edit: Edit, report: PlanReport) -> Phase:
        """Save the edited file, wait until the kernel follows it, and begin its phase.

        Raises:
            Overdue: the controller did not follow.
        """
        self.text = edit.change(self.text)
        saved_s = time.monotonic()
        self._end_phase(saved_s)
        self.controller.save(self.text)
        self.controller.wait_in_sync()
        weights, now_s = read_weights(self.text), time.monotonic()
        self.phases.append(Phase(edit.title, weights, saved_s, now_s, inf, report.moves))
        return self.phases[-1]

    def finish(self) -> Samples:
        """Stop the load and end the last phase; all samples."""
        self._end_phase(time.monotonic())
        return self.drive.stop()

    def _end_phase(self, end_s: float) -> None:
        self.phases[-1] = replace(self.phases[-1], end_s=end_s)
