"""Squares: all of their time is overhead."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def function(x):
    return x * x


def elements(count: int) -> Sequence[int]:
    return range(count)


def small() -> int:
    return 0


def digest(results: Sequence[int]) -> str:
    return hashlib.sha256(repr(list(results)).encode()).hexdigest()
