"""The standard library's ProcessPoolExecutor with a fork server, its cheapest way to a fresh process."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from tests.benchmarks.rivals.contestants import FRESH, Function


class Contestant:
    """A pool of two processes at a time. A server process that has imported the main module forks them."""

    calls = {FRESH: 'ProcessPoolExecutor(2, get_context("forkserver"), max_tasks_per_child=1).map(f, xs)'}

    def __init__(self, workers: int, way: str, functions: Sequence[Function]) -> None:
        self._pool = ProcessPoolExecutor(workers, multiprocessing.get_context("forkserver"), max_tasks_per_child=1)

    def map(self, function: Function, elements: Sequence[Any], way: str) -> list[Any]:
        return list(self._pool.map(function, elements))

    def client_processes(self) -> Sequence[int]:
        return [os.getpid()]

    def stop(self) -> None:
        self._pool.shutdown()
