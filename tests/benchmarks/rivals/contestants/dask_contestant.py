"""Dask's distributed scheduler with a local cluster of worker processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import dask.bag
from distributed import Client, LocalCluster

from tests.benchmarks.rivals.contestants import CHUNKS, SINGLE, Function, chunk_size


class Contestant:
    """A cluster of two processes with a thread each. The scheduler is part of the client's process."""

    calls = {
        CHUNKS: "dask.bag.from_sequence(xs, partition_size=n).map(f).compute()",
        SINGLE: "client.gather(client.map(f, xs))",
    }

    def __init__(self, workers: int, way: str, functions: Sequence[Function]) -> None:
        self._workers = workers
        self._cluster = LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0
        )
        self._client = Client(self._cluster)

    def map(self, function: Function, elements: Sequence[Any], way: str) -> list[Any]:
        if way == CHUNKS:
            size = chunk_size(len(elements), self._workers)
            results: list[Any] = dask.bag.from_sequence(elements, partition_size=size).map(function).compute()
        else:
            # Dask assumes that a function is pure. Without `pure=False` it runs equal elements once.
            results = self._client.gather(self._client.map(function, elements, pure=False))
        return results

    def client_processes(self) -> Sequence[int]:
        return [os.getpid()]

    def stop(self) -> None:
        self._client.close()
        self._cluster.close()
