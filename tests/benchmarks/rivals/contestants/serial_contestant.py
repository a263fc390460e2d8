"""A loop in one process. Its results are the ones that all contestants must have."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from tests.benchmarks.rivals.contestants import SINGLE, Function


class Contestant:
    """No library at all."""

    calls = {SINGLE: "[f(x) for x in xs]"}

    def __init__(self, workers: int, way: str, functions: Sequence[Function]) -> None:
        pass

    def map(self, function: Function, elements: Sequence[Any], way: str) -> list[Any]:
        return [function(x) for x in elements]

    def client_processes(self) -> Sequence[int]:
        return [os.getpid()]

    def stop(self) -> None:
        pass
