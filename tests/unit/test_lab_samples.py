import errno
from math import inf

import pytest

from reconciler.lab.phase import Phase
from reconciler.lab.report import describe_totals, tabulate_phases
from reconciler.lab.sample import Outcome, Sample, name_failure, parse_sample
from reconciler.lab.samples import Samples


def short(start_s, backend, outcome=Outcome.OK):
    return Sample(0, False, start_s, 0.01, outcome, backend)


def held(number, start_s, backend, outcome=Outcome.OK):
    return Sample(number, True, start_s, 0.01, outcome, backend)


SAMPLES = Samples.collect(
    [
        short(1.0, "b1"),
        short(1.5, "b1"),
        short(2.0, "b2"),
        short(2.5, "b1"),
        short(3.0, "-", Outcome.RESET),
        held(7, 1.0, "b2"),
        held(7, 3.0, "b2", Outcome.TIMEOUT),
        held(8, 3.0, "b1"),
    ]
)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_sample_survives_its_line(outcome):
    sample = Sample(3, True, 12.5, 0.25, outcome, "10.0.0.11")
    assert parse_sample(sample.format()) == sample


@pytest.mark.parametrize("line", ["", "1 2 3", "1 0 x 0.1 ok b1", "1 0 1.0 0.1 fine b1"])
def test_a_line_that_is_none_is_refused(line):
    with pytest.raises(ValueError, match=r".+"):
        parse_sample(line)


@pytest.mark.parametrize(
    ("number", "outcome"),
    [
        (errno.ECONNREFUSED, Outcome.REFUSED),
        (errno.ECONNRESET, Outcome.RESET),
        (errno.EHOSTUNREACH, Outcome.UNREACHABLE),
        (errno.EADDRNOTAVAIL, Outcome.NOT_SENT),
        (None, Outcome.NOT_SENT),
    ],
)
def test_error_numbers_have_names(number, outcome):
    assert name_failure(number, Outcome.NOT_SENT) is outcome


def test_shares_count_good_answers_of_new_connections():
    assert SAMPLES.new.shares() == {"b1": 0.75, "b2": 0.25}


def test_failures_are_counted_by_outcome():
    assert SAMPLES.failures == {"reset": 1, "timeout": 1}


def test_a_span_of_time_leaves_its_end_out():
    assert SAMPLES.new.between(1.5, 2.5).count() == {"b1": 1, "b2": 1}


def test_no_samples_are_no_failures_and_no_shares():
    nothing = Samples.collect([])
    assert len(nothing) == 0
    assert nothing.failures == {}
    assert nothing.new.shares() == {}


def test_a_phase_knows_what_to_expect_and_what_came():
    phase = Phase("start", {"b1": 100, "b2": 300}, 0.0, 1.0, inf)
    assert phase.expected == {"b1": 0.25, "b2": 0.75}
    assert phase.measured(SAMPLES) == {"b1": 0.75, "b2": 0.25}


def test_totals_tell_held_connections_apart():
    phases = [Phase("remove b1", {"b2": 1}, 2.0, 2.0, inf)]
    assert describe_totals(SAMPLES, phases) == [
        "requests: 8",
        "failures: 2 (1 reset, 1 timeout)",
        "connections held through all edits: 2, broken: 1,"
        " still served by a backend that lb.yaml no longer names: 1",
    ]


def test_the_table_has_a_row_a_backend_and_a_column_a_phase():
    phases = [
        Phase("start", {"b1": 1}, 0.0, 1.0, 2.0),
        Phase("add b2", {"b1": 1, "b2": 1}, 2.0, 2.0, 3.0),
    ]
    table = tabulate_phases(SAMPLES, phases)
    cells = [list(column.cells) for column in table.columns]
    assert cells[0] == ["b1", "b2"]
    assert cells[1] == ["100.0% (100.0%)", "-"]
    assert cells[2] == ["50.0% (50.0%)", "50.0% (50.0%)"]
