"""Figures of others that are quoted, not measured here: building them is not our affair."""

from __future__ import annotations

SOURCE = "measured elsewhere on a machine of this class (2 virtual CPUs, Linux 6.18), 2026"

# Nanoseconds above the floor of an XDP_TX program, BPF_PROG_TEST_RUN: 1 flow, 64 k flows,
# 1 M flows, SYNs all new, not ours.
PER_PACKET = {
    "Katran, IPIP": ("180", "755", "792", "275 to 1,550", "78"),
    "Katran, GUE": ("511", "1,132", "1,073", "", ""),
    "xvs, L2": ("515", "894", "923", "1,076", "173"),
}
# Shares of a bare redirect's packets per second over veth: steady, SYN flood.
SHARES = {
    "Katran": ("0.48", "0.2 to 0.75"),
    "xvs": ("0.33", "0.25"),
}
# The same as numbers, for the picture.
PICTURED_NS = {"Katran, IPIP": (180, 792), "Katran, GUE": (511, 1073), "xvs, L2": (515, 923)}
