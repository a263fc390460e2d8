"""The standard library's ProcessPoolExecutor."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from tests.benchmarks.rivals.contestants import CHUNKS, FRESH, SINGLE, Function, chunk_size


class Contestant:
    """A pool of two processes. On Linux it forks them, but with ``max_tasks_per_child`` it starts new interpreters."""

    calls = {
        CHUNKS: "ProcessPoolExecutor(2).map(f, xs, chunksize=n)",
        SINGLE: "ProcessPoolExecutor(2).map(f, xs)",
        FRESH: "ProcessPoolExecutor(2, max_tasks_per_child=1).map(f, xs)",
    }

    def __init__(self, workers: int, way: str, functions: Sequence[Function]) -> None:
        self._workers = workers
        self._pool = ProcessPoolExecutor(workers, max_tasks_per_child=1 if way == FRESH else None)

    def map(self, function: Function, elements: Sequence[Any], way: str) -> list[Any]:
        size = chunk_size(len(elements), self._workers) if way == CHUNKS else 1
        return list(self._pool.map(function, elements, chunksize=size))

    def client_processes(self) -> Sequence[int]:
        return [os.getpid()]

    def stop(self) -> None:
        self._pool.shutdown()
