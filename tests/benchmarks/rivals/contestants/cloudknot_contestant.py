"""cloudknot on its embedded cloud, with processes as jobs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import Any

import cloudknot as ck
from tests.benchmarks.rivals.contestants import CHUNKS, FRESH, Function, chunk_size
from tests.benchmarks.rivals.plan import WITH_NUMPY

REQUIREMENTS = "RIVALS_REQUIREMENTS"
"""The variable with the versions of the workloads' libraries, so that jobs have the builds of all other workers."""


class Contestant:
    """A cloud of its own, and a knot for each function."""

    calls = {CHUNKS: "knot.map(xs, chunksize=n)", FRESH: "knot.map(xs)"}

    def __init__(self, workers: int, way: str, functions: Sequence[Function]) -> None:
        self._workers = workers
        self._scratch = tempfile.TemporaryDirectory()
        self._cloud = ck.LocalCloud(self._scratch.name, vcpus=workers)
        self._knots = {function: self._knot(function) for function in functions}

    def _knot(self, function: Function) -> ck.Knot:
        workload = function.__module__.rpartition(".")[2]
        requirements = os.environ[REQUIREMENTS].split() if workload in WITH_NUMPY else []
        if workload == "arrays":
            requirements = [line for line in requirements if line.startswith("numpy==")]
        return ck.Knot(name=workload.replace("_", "-"), func=function, cloud=self._cloud, requirements=requirements)

    def map(self, function: Function, elements: Sequence[Any], way: str) -> list[Any]:
        size = chunk_size(len(elements), self._workers) if way == CHUNKS else 1
        variables = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        future = self._knots[function].map(elements, chunksize=size, env_vars=variables, progress=False)
        results: list[Any] = future.result()
        return results

    def client_processes(self) -> Sequence[int]:
        return [os.getpid()]

    def stop(self) -> None:
        self._cloud.stop()
        self._scratch.cleanup()
