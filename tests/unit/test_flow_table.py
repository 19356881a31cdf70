"""What `xdplb status` says of the memory of flows."""

from __future__ import annotations

from reconciler.cli.flow_table import render_flow_table

EVENTS = {"asked": 0, "pending": 1, "stray": 2, "remembered": 3, "refused": 4}
QUIET = {"entries": 3, "capacity": 8, "events": {**EVENTS, "refused": 0}}


def test_nothing_is_said_where_nothing_is_to_be_done() -> None:
    assert render_flow_table(QUIET, verbose=False) == []


def test_all_is_said_if_asked() -> None:
    first, *events = render_flow_table(QUIET, verbose=True)
    assert first == "flow table: 3 of 8 flows remembered"
    assert [line.split() for line in events] == [
        [name, str(count)] for name, count in QUIET["events"].items()
    ]


def test_a_table_without_room_is_a_warning_with_its_remedy() -> None:
    document = {**QUIET, "events": EVENTS}
    (warning,) = render_flow_table(document, verbose=False)
    assert warning.startswith("warning: the flow table had no room 4 times (3 of 8 in use now)")
    assert "limits.flows" in warning
    assert render_flow_table(document, verbose=True)[-1] == warning
