"""The hash that chooses slots: pinned, in range, even."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.codec import encode_address
from reconciler.flowhash import choose_slot, hash_clients, mix64, reduce_hashes
from reconciler.model import Affinity

SEED = 0x5EED5EED5EED5EED
MASK = (1 << 64) - 1
sizes = st.sampled_from([251, 1_009, 65_537, 1_048_573])
addresses = st.ip_addresses(v=4) | st.ip_addresses(v=6)


def mix_plainly(x: int) -> int:
    """`mix64` of `bpf/hash.h` in plain integers."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def hash_plainly(address: IPv4Address | IPv6Address, port: int, seed: int) -> int:
    """`hash_address_port` of `bpf/hash.h` in plain integers."""
    data = encode_address(address)
    high, low = int.from_bytes(data[:8], "big"), int.from_bytes(data[8:], "big")
    if high == 0 and low >> 32 == 0xFFFF:
        return mix_plainly(seed ^ (low << 32 & MASK | port))
    return mix_plainly(mix_plainly(mix_plainly(seed ^ high) ^ low) ^ port)


def hash_one(address: IPv4Address | IPv6Address, port: int, seed: int) -> int:
    data = encode_address(address)
    words = [int.from_bytes(data[:8], "big"), int.from_bytes(data[8:], "big"), port]
    return int(hash_clients(*(np.array([word], np.uint64) for word in words), seed)[0])


# A change of any of these moves every flow of every balancer.
@pytest.mark.parametrize(
    ("address", "port", "seed", "golden"),
    [
        (IPv4Address("192.0.2.1"), 40_000, SEED, 0xFFAFBF879FF2A924),
        (IPv4Address("192.0.2.1"), 40_000, 0, 0xB70A6893CE5ACFE9),
        (IPv4Address("192.0.2.1"), 0, SEED, 0x2A60BDBFA565A74D),
        (IPv4Address("0.0.0.0"), 0, 0, 0),
        (IPv6Address("2001:db8::1"), 40_000, SEED, 0x48B8A201B70B1EF5),
        (IPv6Address("2001:db8::1"), 40_000, 0, 0x19EEAB0FA74A2638),
        (IPv6Address("2001:db8::1"), 0, SEED, 0xD9AE70C39BFD46D1),
    ],
)
def test_golden_hashes(
    address: IPv4Address | IPv6Address, port: int, seed: int, golden: int
) -> None:
    assert hash_one(address, port, seed) == golden


@pytest.mark.parametrize(
    ("address", "affinity", "slots"),
    [
        (IPv4Address("192.0.2.1"), Affinity.FLOW, [250, 65_456, 1_047_288]),
        (IPv4Address("192.0.2.1"), Affinity.CLIENT, [41, 10_848, 173_579]),
        (IPv6Address("2001:db8::1"), Affinity.FLOW, [71, 18_616, 297_865]),
        (IPv6Address("2001:db8::1"), Affinity.CLIENT, [213, 55_727, 891_620]),
    ],
)
def test_golden_slots(
    address: IPv4Address | IPv6Address, affinity: Affinity, slots: list[int]
) -> None:
    chosen = [choose_slot(address, 40_000, affinity, SEED, n) for n in (251, 65_537, 1_048_573)]
    assert chosen == slots


def test_mix64_is_the_finaliser_of_splitmix64() -> None:
    # The second output of SplitMix64 from state 0 is the mix of twice its increment.
    state = np.array([0x9E3779B97F4A7C15, 2 * 0x9E3779B97F4A7C15 & MASK], np.uint64)
    assert mix64(state).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


@given(addresses, st.integers(0, 65_535), st.integers(0, MASK))
def test_it_is_the_function_of_the_data_plane(
    address: IPv4Address | IPv6Address, port: int, seed: int
) -> None:
    assert hash_one(address, port, seed) == hash_plainly(address, port, seed)


@given(st.integers(0, MASK), sizes)
def test_a_reduced_hash_is_a_slot(value: int, size: int) -> None:
    (slot,) = reduce_hashes(np.array([value], np.uint64), size)
    assert slot == (value >> 32) * size >> 32
    assert 0 <= slot < size


@pytest.mark.parametrize("size", [251, 65_537, 1_048_573])
def test_the_ends_of_the_range_are_the_ends_of_the_ring(size: int) -> None:
    assert reduce_hashes(np.array([0, MASK], np.uint64), size).tolist() == [0, size - 1]


@given(addresses, st.integers(1, 65_535), st.integers(1, 65_535), st.integers(0, MASK), sizes)
def test_client_affinity_ignores_the_port(
    address: IPv4Address | IPv6Address, port: int, other: int, seed: int, size: int
) -> None:
    one, two = (choose_slot(address, p, Affinity.CLIENT, seed, size) for p in (port, other))
    assert one == two == choose_slot(address, 0, Affinity.FLOW, seed, size)


@pytest.mark.parametrize("kind", ["one client's ports", "a subnet", "a v6 subnet"])
def test_slots_are_hit_evenly(kind: str) -> None:
    count, size = 1 << 18, 251
    numbers = np.arange(count, dtype=np.uint64)
    zeros = np.zeros(count, np.uint64)
    v4 = np.uint64(0xFFFF_0A00_0000)
    clients = {
        "one client's ports": (zeros, zeros + v4 + (numbers >> np.uint64(16)), numbers & 0xFFFF),
        "a subnet": (zeros, v4 + numbers, zeros + np.uint64(40_000)),
        "a v6 subnet": (zeros + np.uint64(0x2001_0DB8 << 32), numbers, zeros),
    }
    high, low, port = clients[kind]
    hits = np.bincount(reduce_hashes(hash_clients(high, low, port.astype(np.uint64), SEED), size))
    mean = count / size
    assert len(hits) == size
    # Five standard deviations of a fair throw.
    assert np.abs(hits - mean).max() < 5 * mean**0.5


def test_the_seed_decides() -> None:
    slots = [
        choose_slot(IPv4Address("192.0.2.1"), 1, Affinity.FLOW, s, 1_048_573) for s in range(9)
    ]
    assert len(set(slots)) == 9
