"""Elements of about 12 ms in plain Python: the overhead of a map is as large as its work."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

STEPS = 170_000


def function(x):
    total = x
    for step in range(STEPS):
        total = (total * 31 + step) % 1_000_003
    return total


def elements(count: int) -> Sequence[int]:
    return range(count)


def small() -> int:
    return 0


def digest(results: Sequence[int]) -> str:
    return hashlib.sha256(repr(list(results)).encode()).hexdigest()
