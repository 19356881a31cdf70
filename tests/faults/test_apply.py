"""`xdplb apply` from its command line to the kernel, with a fault at every write and every row."""

import contextlib
import itertools
from dataclasses import replace
from typing import NamedTuple

import pytest

from reconciler.cli.main import run
from reconciler.dataplane.kernel import KernelDataplane
from reconciler.dataplane.libbpf import KernelRefused
from reconciler.errors import ExitCode
from reconciler.tables import ROW_TABLES

from .test_writes import BEFORE, CHANGES, HEAD, assert_answered, assert_correct, homes

pytestmark = pytest.mark.root
__all__ = ["homes"]  # a fixture

change = pytest.mark.parametrize(
    "after", [HEAD + CHANGES[name] for name in ("backends", "shared")], ids=["backends", "shared"]
)
# The first look is what the plan starts from.
LOOK_THAT_VERIFIES = 2
UNSPOILT = KernelDataplane.read


class Done(NamedTuple):
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def apply(machine, tmp_path, monkeypatch, capsys):
    """Run `xdplb apply` on the balancer, in this process."""
    monkeypatch.setattr("reconciler.cli.one_pass.leave_account", lambda *_told: None)
    file = tmp_path / "lb.yaml"

    def run_apply(text, *words):
        file.write_text(text, encoding="utf-8")
        words = ["apply", "--yes", "-c", str(file), "--pin-dir", str(machine.root), *words]
        return Done(run(words), *capsys.readouterr())

    return run_apply


class Fault:
    """Fails at the n-th write of whatever data plane; if it lasts, at all after it."""

    def __init__(self, monkeypatch, number, *, lasts=False):
        self.number, self.lasts, self.calls = number, lasts, 0
        monkeypatch.setattr(KernelDataplane, "write", self.make_method(KernelDataplane.write))

    def make_method(self, write):
        def strike(dataplane, operation):
            self.calls += 1
            if self.calls == self.number or (self.lasts and self.has_struck):
                raise KernelRefused(f"cannot write {operation}", 12)
            write(dataplane, operation)

        return strike

    @property
    def has_struck(self):
        return self.calls >= self.number


def for_every_write(machine, monkeypatch, *, lasts=False):
    """Yield, from the same state each time, a fault at the k-th write."""
    for number in itertools.count(1):
        machine.apply(HEAD + BEFORE)
        with monkeypatch.context() as patch:
            fault = Fault(patch, number, lasts=lasts)
            yield fault
        if not fault.has_struck:
            assert number > 1
            return


@change
def test_every_write_that_fails_ends_with_what_was(machine, homes, after, apply, monkeypatch):
    for fault in for_every_write(machine, monkeypatch):
        before = machine.read()
        done = apply(after, "--detailed-exitcode", "--allow-large-change")
        if not fault.has_struck:
            assert done.code == ExitCode.CHANGES
            assert "applied and verified" in done.out
            continue
        assert done.code == ExitCode.ROLLED_BACK
        assert "cannot write" in done.err
        assert done.err.endswith("; the state before it is back [XLB605]\n")
        assert machine.read() == before
        assert_answered(machine, homes)


@change
def test_a_rollback_that_fails_too_says_so(machine, homes, after, apply, monkeypatch):
    codes = []
    for fault in for_every_write(machine, monkeypatch, lasts=True):
        before = machine.read()
        done = apply(after, "--allow-large-change")
        codes.append(done.code)
        if done.code == ExitCode.DEGRADED:
            assert "putting the state before it back failed too" in done.err
            assert_correct(machine.read())
            assert_answered(machine, homes)
        elif fault.has_struck:  # nothing had been written that was to be taken back
            assert done.code == ExitCode.ROLLED_BACK
            assert machine.read() == before
    assert codes[0] == ExitCode.ROLLED_BACK
    assert codes[1] == ExitCode.DEGRADED
    assert codes[-1] == ExitCode.OK


def spoil_each_row(tables):
    """These tables, once for every row that is missing and every ring that is off, by place."""
    spoilt = {}
    for name in ROW_TABLES:
        rows = tables.rows(name)
        for key in rows:
            left = {other: row for other, row in rows.items() if other != key}
            spoilt[f"{name}[{key}]"] = replace(tables, **{name: left})
    for row in {row for row in tables.services.values() if row.ring_size}:
        slots = tables.slots.copy()
        slots[row.ring_offset] ^= 1
        spoilt[f"ring of {row.id}"] = replace(tables, slots=slots)
    return spoilt


def for_every_row(machine, monkeypatch, after):
    """Yield, from the same state each time, a row that will be missing when it is verified."""
    for number in itertools.count():
        machine.apply(HEAD + BEFORE)
        places = list(spoil_each_row(machine.instance().propose(machine.parse(after)).desired))
        if number == len(places):
            return
        looks = itertools.count(1)

        def look(dataplane, place=places[number], looks=looks):
            tables = UNSPOILT(dataplane)
            is_spoilt = next(looks) == LOOK_THAT_VERIFIES
            return spoil_each_row(tables)[place] if is_spoilt else tables

        with monkeypatch.context() as patch:
            patch.setattr(KernelDataplane, "read", look)
            yield places[number]


@change
def test_every_row_that_reads_back_otherwise_ends_with_what_was(
    machine, homes, after, apply, monkeypatch
):
    for place in for_every_row(machine, monkeypatch, after):
        with contextlib.closing(KernelDataplane(machine.root / "default")) as dataplane:
            before = UNSPOILT(dataplane)
            done = apply(after, "--allow-large-change")
            assert done.code == ExitCode.ROLLED_BACK, place
            assert "read back, the kernel differs from the plan: " in done.err
            assert UNSPOILT(dataplane) == before, place
    assert_answered(machine, homes)


def test_what_is_not_verified_is_not_read_back(machine, apply, monkeypatch):
    machine.apply(HEAD + BEFORE)
    looks = []
    with monkeypatch.context() as patch:
        patch.setattr(KernelDataplane, "read", lambda d: looks.append(d) or UNSPOILT(d))
        done = apply(HEAD + CHANGES["shared"], "--no-verify")
    assert (done.code, len(looks)) == (ExitCode.OK, 1)
    assert "applied, not verified" in done.out
    assert_correct(machine.read())


def test_a_first_apply_that_fails_leaves_nothing(machine, apply, monkeypatch):
    for number in itertools.count(1):
        with monkeypatch.context() as patch:
            fault = Fault(patch, number)
            done = apply(HEAD + BEFORE)
        if not fault.has_struck:
            assert done.code == ExitCode.OK
            return
        assert done.code == ExitCode.ROLLED_BACK
        assert not (machine.root / "default").exists()
