"""The keyed hash that chooses slots, for many clients at once; the twin of `bpf/hash.h`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reconciler.codec import encode_address
from reconciler.model import Affinity, IPAddress

_V4_PREFIX = np.uint64(0xFFFF)


def mix64(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele et al. 2014), Stafford's variant 13."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hash_clients(
    high: NDArray[np.uint64], low: NDArray[np.uint64], port: NDArray[np.uint64], seed: int
) -> NDArray[np.uint64]:
    """Return the 64-bit hashes of n clients; every array is of shape (n,).

    `high` and `low` are the halves of the 16-byte address, IPv4 mapped.
    """
    key = np.uint64(seed)
    is_v4 = (high == 0) & (low >> np.uint64(32) == _V4_PREFIX)
    v4 = mix64(key ^ (low << np.uint64(32) | port))
    v6 = mix64(mix64(mix64(key ^ high) ^ low) ^ port)
    return np.where(is_v4, v4, v6)


def reduce_hashes(hashes: NDArray[np.uint64], size: int) -> NDArray[np.uint32]:
    """Map hashes onto [0, size) without a division (Lemire 2019)."""
    reduced = ((hashes >> np.uint64(32)) * np.uint64(size)) >> np.uint64(32)
    return reduced.astype(np.uint32)


def choose_slot(address: IPAddress, port: int, affinity: Affinity, seed: int, size: int) -> int:
    """Return the slot, in [0, size), of one client of a service."""
    data = encode_address(address)
    high = np.array([int.from_bytes(data[:8], "big")], np.uint64)
    low = np.array([int.from_bytes(data[8:], "big")], np.uint64)
    ports = np.array([port if affinity is Affinity.FLOW else 0], np.uint64)
    return int(reduce_hashes(hash_clients(high, low, ports, seed), size)[0])
