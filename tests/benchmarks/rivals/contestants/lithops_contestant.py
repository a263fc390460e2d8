"""Lithops on its localhost backend."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import lithops

from tests.benchmarks.rivals.contestants import CHUNKS, FRESH, Function, batches, call_with_each


class Contestant:
    """An executor with two worker processes at a time. Each task is a process that it starts."""

    calls = {
        CHUNKS: "executor.map(list_of_f, chunks)",
        FRESH: "executor.map(f, xs)",
    }

    def __init__(self, workers: int, way: str, functions: Sequence[Function]) -> None:
        self._workers = workers
        config = {
            # Lithops refuses more than 4 MiB of elements by default.
            "lithops": {"backend": "localhost", "storage": "localhost", "log_level": "ERROR", "data_limit": False},
            # Version 2, the default, starts a new interpreter for each task. Version 1 forks one interpreter.
            "localhost": {"worker_processes": workers, "version": 1},
        }
        self._executor = lithops.FunctionExecutor(config=config)

    def map(self, function: Function, elements: Sequence[Any], way: str) -> list[Any]:
        if way == CHUNKS:
            futures = self._executor.map(
                call_with_each, [(function, list(b)) for b in batches(elements, self._workers)]
            )
            return [result for part in self._executor.get_result(futures) for result in part]
        # Lithops unpacks an element that is a tuple into arguments.
        results: list[Any] = self._executor.get_result(self._executor.map(function, [(x,) for x in elements]))
        return results

    def client_processes(self) -> Sequence[int]:
        return [os.getpid()]

    def stop(self) -> None:
        self._executor.clean()
