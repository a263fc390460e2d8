"""Dask's distributed scheduler with a local cluster of worker processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from distributed import Client, LocalCluster

from tests.benchmarks.rivals.contestants import CHUNKS, SINGLE, Function, batches, call_with_each


class Contestant:
    """A cluster of two processes with a thread each. The scheduler is part of the client's process."""

    calls = {
        CHUNKS: "client.gather(client.map(list_of_f, chunks))",
        SINGLE: "client.gather(client.map(f, xs))",
    }

    def __init__(self, workers: int, way: str, functions: Sequence[Function]) -> None:
        self._workers = workers
        self._cluster = LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0
        )
        self._client = Client(self._cluster)

    def map(self, function: Function, elements: Sequence[Any], way: str) -> list[Any]:
        # Dask assumes that a function is pure. Without `pure=False` it runs equal elements once.
        if way == CHUNKS:
            # Half of the time of a `dask.bag` with the same partitions.
            chunks = batches(elements, self._workers)
            futures = self._client.map(call_with_each, [function] * len(chunks), chunks, pure=False)
            parts = self._client.gather(futures)
            return [result for part in parts for result in part]
        results: list[Any] = self._client.gather(self._client.map(function, elements, pure=False))
        return results

    def client_processes(self) -> Sequence[int]:
        return [os.getpid()]

    def stop(self) -> None:
        self._client.close()
        self._cluster.close()
