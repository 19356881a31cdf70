import numpy as np
import pytest

from reconciler.lab.phase import Phase, RingMove
from reconciler.lab.picture import BIN_S, bin_shares, draw_picture
from reconciler.lab.sample import Outcome, Sample
from reconciler.lab.samples import Samples

BACKENDS = ("10.0.0.11", "10.0.0.12")


def load(seconds):
    rows = [
        Sample(n, False, 100.0 + n / 40, 0.001, Outcome.OK, BACKENDS[n % 2])
        for n in range(int(seconds * 40))
    ]
    return Samples.collect([*rows, Sample(9999, False, 101.0, 3.0, Outcome.TIMEOUT, "-")])


def test_shares_of_a_bin_sum_to_one():
    edges, shares = bin_shares(load(2.0), 100.0, 102.0, BACKENDS)
    assert shares.shape == (2, len(edges) - 1)
    assert np.allclose(shares, 0.5)
    assert np.allclose(np.diff(edges), BIN_S)


def test_a_bin_without_answers_is_empty():
    _, shares = bin_shares(load(1.0), 100.0, 102.0, BACKENDS)
    assert shares[:, -1].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_a_picture_is_written(tmp_path, suffix):
    pytest.importorskip("matplotlib")
    phases = [
        Phase("start", {BACKENDS[0]: 100}, 100.0, 100.0, 101.0),
        Phase(
            "add 10.0.0.12",
            dict.fromkeys(BACKENDS, 100),
            101.0,
            101.2,
            102.0,
            (RingMove("default", 65537, 32_800, 32_768),),
        ),
    ]
    path = tmp_path / f"demo.{suffix}"
    draw_picture(load(2.0), phases, path)
    if suffix == "svg":
        words = path.read_text()
        assert "add 10.0.0.12" in words
        assert "81 requests, 1 failures" in words
    else:
        assert path.read_bytes().startswith(b"\x89PNG")
