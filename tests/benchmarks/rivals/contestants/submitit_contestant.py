"""submitit with its executor for this machine, in place of a cluster's."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import submitit

from tests.benchmarks.rivals.contestants import FRESH, Function


class Contestant:
    """Each job is a new interpreter. The executor itself has no limit, so two threads submit one job after another."""

    calls = {FRESH: "executor.submit(f, x).result(), in two threads"}

    def __init__(self, workers: int, way: str, functions: Sequence[Function]) -> None:
        self._workers = workers
        self._folder = tempfile.TemporaryDirectory()
        self._executor = submitit.AutoExecutor(self._folder.name, cluster="local")
        self._executor.update_parameters(timeout_min=10)

    def map(self, function: Function, elements: Sequence[Any], way: str) -> list[Any]:
        with ThreadPoolExecutor(self._workers) as pool:
            return list(pool.map(lambda x: self._executor.submit(function, x).result(), elements))

    def client_processes(self) -> Sequence[int]:
        return [os.getpid()]

    def stop(self) -> None:
        self._folder.cleanup()
