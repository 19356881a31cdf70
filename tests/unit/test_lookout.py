"""Surveys for whoever asks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.errors import XdplbError
from reconciler.metrics import lookout as module
from reconciler.metrics.lookout import Lookout
from reconciler.survey import Survey

from ..surveys import make_survey

SECOND_NS = 10**9


class Kernel:
    """An instance whose time a test sets; `asked` counts the surveys of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = SECOND_NS
        self.asked = 0
        self.survey: Survey | None = make_survey()
        monkeypatch.setattr(module.time, "monotonic_ns", lambda: self.now_ns)

    def take(self) -> Survey | None:
        self.asked += 1
        return self.survey and replace(self.survey, now_ns=self.now_ns)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def look_after(kernel: Kernel, lookout: Lookout, seconds: float) -> float | None:
    """Over how many seconds the rates are that are seen then."""
    kernel.now_ns += int(seconds * SECOND_NS)
    survey, rates = lookout.look()
    assert survey is not None
    return rates.seconds if rates else None


def test_who_asks_at_once_gets_the_same(kernel: Kernel) -> None:
    lookout = Lookout(kernel.take)
    first, _ = lookout.look()
    assert lookout.look()[0] is first
    assert kernel.asked == 1
    look_after(kernel, lookout, 0.3)
    assert kernel.asked == 2


def test_rates_are_over_a_second_at_least(kernel: Kernel) -> None:
    lookout = Lookout(kernel.take)
    waits = [0, 0.5, 0.5, 0.5, 0.5, 5, 5, 0.4]
    seen = [look_after(kernel, lookout, wait) for wait in waits]
    assert seen == [None, None, 1.0, 1.0, 1.0, 5.0, 5.0, 5.4]


def test_an_instance_that_went_leaves_nothing_to_compare_with(kernel: Kernel) -> None:
    lookout = Lookout(kernel.take)
    lookout.look()
    kernel.survey, kernel.now_ns = None, kernel.now_ns + SECOND_NS
    assert lookout.look() == (None, None)
    kernel.survey = make_survey()
    assert look_after(kernel, lookout, 5) is None


def test_what_can_not_be_read_is_said_and_asked_again(kernel: Kernel) -> None:
    broken = True

    def take() -> Survey | None:
        if broken:
            raise XdplbError("the kernel does not let itself be read")
        return kernel.take()

    lookout = Lookout(take)
    with pytest.raises(XdplbError):
        lookout.look()
    broken = False
    assert lookout.look()[0] is not None
