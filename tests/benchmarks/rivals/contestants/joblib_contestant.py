"""joblib with loky, its usual backend."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor

from tests.benchmarks.rivals.contestants import CHUNKS, SINGLE, Function, chunk_size


class Contestant:
    """Two worker processes that stay. joblib passes large arrays to them in mapped files."""

    calls = {
        CHUNKS: "Parallel(n_jobs=2, batch_size=n)(delayed(f)(x) for x in xs)",
        SINGLE: "Parallel(n_jobs=2)(delayed(f)(x) for x in xs)",
    }

    def __init__(self, workers: int, way: str, functions: Sequence[Function]) -> None:
        self._workers = workers

    def map(self, function: Function, elements: Sequence[Any], way: str) -> list[Any]:
        size: int | str = chunk_size(len(elements), self._workers) if way == CHUNKS else "auto"
        results: list[Any] = Parallel(n_jobs=self._workers, batch_size=size)(delayed(function)(x) for x in elements)
        return results

    def client_processes(self) -> Sequence[int]:
        return [os.getpid()]

    def stop(self) -> None:
        get_reusable_executor().shutdown(wait=True)
