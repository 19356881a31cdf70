"""Rounds in which every contender has a turn, repeated while the machine is disturbed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from bench.disturbance import Disturbance, judge, read_usage

Result = TypeVar("Result")


@dataclass(frozen=True)
class Rounds(Generic[Result]):
    """What the rounds that count have found; `disturbed` of them were not quiet."""

    results: list[Result]
    disturbed: int
    repeated: int
    worst: Disturbance

    def describe(self) -> str:
        """One line for a reader."""
        count = len(self.results)
        if not self.disturbed:
            return f"{count} quiet rounds, {self.repeated} disturbed ones not counted"
        return f"{count} rounds, {self.disturbed} of them DISTURBED ({self.worst} in the worst)"


def repeat(
    measure_round: Callable[[], Result],
    *,
    rounds: int,
    own_cpus: set[int],
    progress: Callable[[str], None],
) -> Rounds[Result]:
    """Measure until there are enough quiet rounds, at most half as many more as are asked for.

    If less than half of them are quiet, all count, and are said to be disturbed.
    """
    quiet: list[Result] = []
    everything: list[tuple[Result, Disturbance]] = []
    while len(quiet) < rounds and 2 * len(everything) < 3 * rounds:
        before, start_s = read_usage(), time.monotonic()
        result = measure_round()
        disturbance = judge(read_usage().since(before), time.monotonic() - start_s, own_cpus)
        everything.append((result, disturbance))
        if disturbance.is_quiet:
            quiet.append(result)
        progress(f"round {len(everything)}: {disturbance}")
        if len(everything) == rounds and not quiet:
            break  # nobody will leave us alone
    worst = max((each for _, each in everything), key=lambda each: (each.others, each.steal))
    if 2 * len(quiet) >= rounds:
        return Rounds(quiet, 0, len(everything) - len(quiet), worst)
    kept = [result for result, _ in everything[:rounds]]
    return Rounds(kept, sum(not each.is_quiet for _, each in everything[:rounds]), 0, worst)


@contextmanager
def on_one_cpu() -> Iterator[int]:
    """Have this process run on one CPU, which is yielded."""
    before = os.sched_getaffinity(0)
    cpu = min(before)
    os.sched_setaffinity(0, {cpu})
    try:
        yield cpu
    finally:
        os.sched_setaffinity(0, before)
