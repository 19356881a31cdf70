"""The life of a slot: settled, moved, pinned, settled again.

    {b, 0}  settled   every packet goes to b, nothing is remembered
    {n, b}  moved     new flows go to n and are remembered, others stay with b
    {n, n}  pinned    remembered flows stay where they live, the rest go to n
    {n, 0}  settled   once no flow of the slot lives elsewhere

A slot whose old backend is gone has nobody to remember: it settles at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reconciler.model import Protocol
from reconciler.tables import SlotWords, pack_slots, unpack_slots

# Datagrams don't say whether their flow is new, so moved slots stay with their previous
# backend until every flow that lives has sent one (nf_conntrack_udp_timeout).
LONGEST_UDP_WINDOW_NS = 30 * 10**9


def measure_window_ns(protocol: Protocol, drain_timeout_ns: int) -> int:
    """Return for how long older flows of a moved slot are learnt."""
    if protocol is Protocol.TCP:
        return drain_timeout_ns
    return min(drain_timeout_ns, LONGEST_UDP_WINDOW_NS)


def move_slots(
    words: SlotWords,
    target: NDArray[np.uint16],
    *,
    living: NDArray[np.uint16],
    remembers: bool,
    is_window_over: bool,
    occupied: NDArray[np.bool_] | None,
) -> SlotWords:
    """Return the slots of one ring after they are told where to lead.

    Args:
        words: the ring as it is, shape (n,).
        target: the backend id each slot shall lead to, shape (n,).
        living: the ids that may keep flows.
        remembers: False for a service whose flows need not outlive a move.
        is_window_over: the time for older flows to show themselves has passed.
        occupied: which slots still have a remembered flow that lives elsewhere,
            shape (n,); None if nobody has looked.
    """
    backend, previous = unpack_slots(words)
    if is_window_over:
        # A slot that leads nowhere has only its previous backend left: it waits.
        pinned_on = np.where((previous != 0) & (backend != 0), backend, previous)
        if occupied is not None:
            done = (previous == backend) & ~occupied
            pinned_on = np.where(done, np.uint16(0), pinned_on)
        previous = pinned_on
    moved = target != backend
    # Inside a window every flow of `backend` is remembered since its SYN, so the
    # flows that can't be told by the table are those of the older `previous`.
    # Moving back to it pins the slot: that is where they live.
    is_inside_window = (previous != 0) & (previous != backend)
    owner = np.where(is_inside_window, previous, backend)
    previous = np.where(moved, owner, previous)
    # Where the owner is gone nobody is left to wait for, but the slot may still have
    # flows that are remembered elsewhere: it is pinned, unless it was settled.
    was_settled = unpack_slots(words)[1] == 0
    is_orphan = (previous != 0) & ~np.isin(previous, living)
    previous = np.where(is_orphan, np.where(was_settled, np.uint16(0), target), previous)
    if not remembers:
        previous = np.zeros_like(previous)
    return pack_slots(target, previous.astype(np.uint16))


def pin_settled(words: SlotWords) -> SlotWords:
    """Return the slots with the settled ones pinned: their flows may be remembered elsewhere."""
    backend, previous = unpack_slots(words)
    return pack_slots(backend, np.where(previous == 0, backend, previous))


def resample_slots(words: SlotWords, size: int) -> SlotWords:
    """Return a ring of `size` slots in which each slot leads where its hashes led before.

    A hash h leads to slot h * n >> 32, so slots of rings of two sizes overlap in
    order; each new slot takes the owner of its middle.
    """
    middle = (2 * np.arange(size, dtype=np.int64) + 1) * len(words) // (2 * size)
    return words[middle]
