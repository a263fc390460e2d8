"""Spark in local mode, through pyspark."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import Any

from pyspark import SparkConf, SparkContext

from tests.benchmarks.rivals.contestants import CHUNKS, FRESH, SINGLE, Function, chunk_size


class Contestant:
    """A context with two cores. The JVM is driver and executor in one, so it belongs to the user's session."""

    calls = {
        CHUNKS: "sc.parallelize(xs, len(xs) // n).map(f).collect()",
        SINGLE: "sc.parallelize(xs, len(xs)).map(f).collect()",
        FRESH: "sc.parallelize(xs, len(xs)).map(f).collect(), spark.python.worker.reuse=false",
    }

    def __init__(self, workers: int, way: str, functions: Sequence[Function]) -> None:
        self._workers = workers
        conf = SparkConf().setMaster(f"local[{workers}]").setAppName("rivals")
        conf.set("spark.python.worker.reuse", "false" if way == FRESH else "true")
        conf.set("spark.ui.enabled", "false").set("spark.driver.bindAddress", "127.0.0.1")
        conf.set("spark.driver.host", "127.0.0.1").set("spark.local.dir", tempfile.gettempdir())
        conf.set("spark.log.level", "ERROR")
        self._context = SparkContext(conf=conf)

    def map(self, function: Function, elements: Sequence[Any], way: str) -> list[Any]:
        size = chunk_size(len(elements), self._workers) if way == CHUNKS else 1
        results: list[Any] = self._context.parallelize(elements, -(-len(elements) // size)).map(function).collect()
        return results

    def client_processes(self) -> Sequence[int]:
        gateway = self._context._gateway.proc
        return [os.getpid(), gateway.pid]

    def stop(self) -> None:
        self._context.stop()
