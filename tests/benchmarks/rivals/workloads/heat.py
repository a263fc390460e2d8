"""The sweep of the heat equation over boundary temperatures, as in examples/heat_equation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from solver import solve

SIZE = 116


def function(size_and_temperature):
    """Return the temperatures of the plate in its steady state."""
    size, temperature = size_and_temperature
    return solve(size, temperature).temperatures


def elements(count: int) -> Sequence[tuple[int, float]]:
    return [(SIZE, 100.0 + number) for number in range(count)]


def small() -> tuple[int, float]:
    return 5, 10.0


def digest(results: Sequence[np.ndarray]) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(field).tobytes() for field in results)).hexdigest()
