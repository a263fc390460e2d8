"""Pi by the Monte Carlo method, in plain Python: no library to import."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

POINTS = 7_000_000
"""About a second for an element."""


def function(seed_and_points):
    """Return how many of the points in the unit square lie in the circle."""
    seed, points = seed_and_points
    uniform = random.Random(seed).random
    return sum(uniform() ** 2 + uniform() ** 2 <= 1 for _ in range(points))


def elements(count: int) -> Sequence[tuple[int, int]]:
    return [(seed, POINTS) for seed in range(count)]


def small() -> tuple[int, int]:
    return 0, 1000


def digest(results: Sequence[int]) -> str:
    return hashlib.sha256(repr(list(results)).encode()).hexdigest()
