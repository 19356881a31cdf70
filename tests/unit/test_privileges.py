"""`privileges`: which capabilities are missing."""

import pytest

from reconciler.privileges import list_missing

NET_ADMIN, SYS_ADMIN, PERFMON, BPF = 1 << 12, 1 << 21, 1 << 38, 1 << 39


@pytest.mark.parametrize(
    ("effective", "missing"),
    [
        (0, ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]),
        (NET_ADMIN | PERFMON | BPF, []),
        (NET_ADMIN | SYS_ADMIN, []),
        (SYS_ADMIN, ["CAP_NET_ADMIN"]),
        (NET_ADMIN | BPF, ["CAP_PERFMON"]),
    ],
)
def test_missing_capabilities(effective, missing):
    assert list_missing(effective) == missing
