"""Ray on this machine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import Any

import ray

from tests.benchmarks.rivals.contestants import CHUNKS, FRESH, SINGLE, Function, batches, call_with_each


class Contestant:
    """Ray with two CPUs. With ``max_calls=1`` a worker process ends after one task."""

    calls = {
        CHUNKS: "ray.get([remote_of_list.remote(chunk) for chunk in chunks])",
        SINGLE: "ray.get([remote.remote(x) for x in xs])",
        FRESH: "ray.get([remote.remote(x) for x in xs]), ray.remote(max_calls=1)",
    }

    def __init__(self, workers: int, way: str, functions: Sequence[Function]) -> None:
        self._workers = workers
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
        ray.init(num_cpus=workers, _temp_dir=f"{tempfile.gettempdir()}/ray", **quiet)
        # Ray makes no chunks: its documentation advises to call the function in a loop in each task.
        self._remote_of_list = ray.remote(call_with_each)
        options = {"max_calls": 1} if way == FRESH else {}
        self._remotes = {
            function: ray.remote(**options)(function) if options else ray.remote(function) for function in functions
        }

    def map(self, function: Function, elements: Sequence[Any], way: str) -> list[Any]:
        if way == CHUNKS:
            parts = ray.get(
                [self._remote_of_list.remote(function, batch) for batch in batches(elements, self._workers)]
            )
            return [result for part in parts for result in part]
        results: list[Any] = ray.get([self._remotes[function].remote(x) for x in elements])
        return results

    def client_processes(self) -> Sequence[int]:
        return [os.getpid()]

    def stop(self) -> None:
        ray.shutdown()
