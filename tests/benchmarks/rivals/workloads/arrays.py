"""Arrays of 8 MB in and out: nearly all of their time is the way of the bytes."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

NUMBERS = 1_000_000


def function(array):
    return array + 1.0


def elements(count: int) -> Sequence[np.ndarray]:
    # Random numbers, so that no library gains by compressing them.
    return [np.random.default_rng(seed).random(NUMBERS) for seed in range(count)]


def small() -> np.ndarray:
    return np.arange(1000.0)


def digest(results: Sequence[np.ndarray]) -> str:
    return repr((len(results), [(array.shape, str(array.dtype), zlib.crc32(array)) for array in results]))
