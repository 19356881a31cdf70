"""Primes, which a ring's size must be: then every backend's walk meets every slot."""

from __future__ import annotations

import math


def is_prime(number: int) -> bool:
    """Whether a number is prime. Takes the time of its square root."""
    if number < 2:
        return False
    return all(number % divisor for divisor in range(2, math.isqrt(number) + 1))


def find_next_prime(number: int) -> int:
    """Return the smallest prime that is not below `number`."""
    while not is_prime(number):
        number += 1
    return number
