"""The benchmark measures what it says: each program does its work with every packet."""

from __future__ import annotations

import pytest

from bench import live, per_packet
from bench.packets import ALL_FLOWS

pytestmark = [pytest.mark.root, pytest.mark.alone]


def test_every_contender_does_what_it_is_called():
    # The driver looks at the verdicts after each batch, and raises.
    found, _ = per_packet.measure(rounds=1, packets=5_000, progress=print)
    names = {name for name, _ in found}
    assert {"l2dsr", "ipip", "gue", "nat, in", "nat, reply", "not ours, nat on"} <= names
    assert len(found) == len(names) * len(ALL_FLOWS)
    assert all(each.raw_ns[0] > 0 for each in found.values())


def test_live_frames_arrive():
    found, _ = live.measure(rounds=1, packets=4096, progress=print)
    for name, measured in found.items():
        assert measured.per_second[0] > 0, name
        assert measured.lost < measured.sent / 2, name
