"""What of the benchmark needs no kernel."""

from __future__ import annotations

import pytest

from bench.disturbance import Disturbance, Usage, judge, parse_usage
from bench.document import write_document
from bench.packets import MANY, SYNS, encode_course, to_address
from bench.rounds import repeat
from bench.samples import summarise
from bench.tables import make_tables
from bench.yardstick import Yardstick

STAT = """cpu  30 0 20 100 0 0 0 7 0 0
cpu0 10 0 10 50 0 0 0 3 0 0
cpu1 20 0 10 50 5 0 0 4 0 0
intr 1
"""


def test_usage_counts_busy_and_stolen_ticks():
    usage = parse_usage(STAT)
    ticks = [round(busy_s * 100) for busy_s in usage.busy_s]
    assert ticks == [20, 30]  # without idle and iowait
    assert round(usage.steal_s * 100) == 7


@pytest.mark.parametrize(
    ("busy_s", "steal_s", "is_quiet"),
    [((1.0, 0.05), 0.0, True), ((1.0, 0.5), 0.0, False), ((1.0, 0.0), 0.2, False)],
)
def test_a_disturbance_is_other_cpus_and_stolen_time(busy_s, steal_s, is_quiet):
    disturbance = judge(Usage(busy_s, steal_s), 1.0, {0})
    assert disturbance.is_quiet is is_quiet


def test_summary_is_median_and_quartiles():
    summary = summarise([4, 1, 3, 2, 5])
    assert (summary.low, summary.median, summary.high) == (2, 3, 4)
    assert summary.spread == pytest.approx(2 / 3)
    assert summarise([7]).as_dict()["median"] == 7


@pytest.mark.parametrize(
    ("work_ns", "figure"),
    [
        ((100, 104), 1),  # fast before and after it
        ((100, 150, 100, 100), 2),
        ((100, 100, 90), 1),
        ((90, 100, 100, 90, 90), 3),
        (4 * (90, 150), 1),  # never: the least
    ],
)
def test_a_batch_is_repeated_while_the_cpu_is_slow(work_ns, figure):
    work, figures = iter(work_ns), iter((1.0, 2.0, 3.0, 4.0))
    assert Yardstick(lambda: next(work)).measure(lambda: next(figures)) == figure


def run_rounds(monkeypatch, quiet, wanted):
    """Rounds that are quiet or not, in this order; the numbers of those that count."""
    answers = iter(quiet)
    monkeypatch.setattr(
        "bench.rounds.judge", lambda *_: Disturbance(0.0 if next(answers) else 1.0, 0.0)
    )
    numbers = iter(range(100))
    return repeat(lambda: next(numbers), rounds=wanted, own_cpus={0}, progress=lambda _: None)


def test_disturbed_rounds_are_repeated(monkeypatch):
    measured = run_rounds(monkeypatch, [True, False, True, True], 3)
    assert measured.results == [0, 2, 3]
    assert (measured.disturbed, measured.repeated) == (0, 1)


def test_where_it_is_never_quiet_all_count_and_are_called_disturbed(monkeypatch):
    measured = run_rounds(monkeypatch, [False] * 3, 3)
    assert measured.results == [0, 1, 2]
    assert "3 of them DISTURBED" in measured.describe()


def test_a_course_begins_with_the_packets_own_headers():
    packet = to_address(4, "198.18.0.17")
    frame, course = encode_course(packet, MANY)
    assert course[:54] == frame[:54]
    assert course[96:108] == b"".join(n.to_bytes(4, "little") for n in (len(frame), 65535, 4))
    syn, _ = encode_course(packet, SYNS)
    assert syn[47] == 0x02
    assert frame[47] == 0x10


FIGURE = {"median": 41.4, "quartile_1": 40.0, "quartile_3": 43.0, "rounds": 11}
RESULTS = {
    "machine": {"kernel": "6.18"},
    "date": "2026-01-01",
    "elapsed_s": 90.0,
    "per_packet": {
        "disturbance": "11 quiet rounds",
        "flows": ["1 flow"],
        "figures": {
            "floor, IPv4": {"1 flow": {"raw_ns": FIGURE, "above_ns": FIGURE}},
            "l2dsr": {"1 flow": {"raw_ns": FIGURE, "above_ns": FIGURE}},
        },
    },
    "connections": {"disturbance": "", "figures": {}, "skipped": {"HAProxy": "not installed"}},
}


def test_tables_show_raw_figures_and_the_floor_beside():
    above, raw, connections = make_tables(RESULTS)
    assert ["l2dsr", "41 (40 to 43)", "45; 70"] in above.rows
    assert [row[0] for row in raw.rows] == ["floor, IPv4", "l2dsr"]
    assert connections.rows == [["HAProxy", "not installed", "", "", ""]]


def test_the_page_is_a_table_for_each(tmp_path):
    write_document(RESULTS, tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "| l2dsr | 41 (40 to 43) | 45; 70 |" in page
    assert r"Katran, IPIP \*" in page
    assert "- kernel: 6.18" in page
