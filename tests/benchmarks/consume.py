"""Measure the time and memory of a later session that reads each result of a map and keeps none.

    python -m tests.benchmarks.consume 1000000 --chunksize 10000

Each way of reading runs in its own process. Prints the time and the peak memory of each, and fails if one takes more
memory than cloudknot promises.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, as_completed
from pathlib import Path
from typing import Any

import cloudknot as ck
from tests.benchmarks.memory import peak
from tests.benchmarks.scale import LONG, MB, MEMORY, add_one, numbers

Ways = dict[str, Callable[[Any], Iterable[Future[int]]]]

WAYS: Ways = {
    "for element in future": iter,
    "future.as_completed()": lambda future: future.as_completed(),
    "concurrent.futures.as_completed(future)": as_completed,
}


def go_through(way: str, job_id: str) -> dict[str, float]:
    """Read all results, check their number and sum, and return this process's seconds and bytes of memory."""
    start = peak()
    future = ck.BatchJob(job_id, cloud="local").future()
    begin, cpu = time.perf_counter(), time.process_time()
    number = total = 0
    for element in WAYS[way](future):
        total += element.result(LONG)
        number += 1
    assert (number, total) == (len(future), number * (number + 1) // 2)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    return {"seconds": seconds, "cpu": cpu, "start": start, "peak": peak()}


def compare(count: int, chunksize: int | None, directory: str) -> None:
    """Run a map, then read its results in each way, in a process of its own."""
    with ck.LocalCloud(directory) as cloud:
        future = ck.Knot(name="consume", func=add_one, cloud=cloud).map(numbers(count), chunksize=chunksize)
        assert future.exception(LONG) is None
        job, manifest = future.job, future.job.manifest
        print(f"{count:,} elements, {manifest.children:,} children of {manifest.chunksize:,}")
        for way in WAYS:
            command = [sys.executable, "-m", "tests.benchmarks.consume", "--way", way, "--job", job.job_id]
            environment = {"CLOUDKNOT_LOCAL_DIR": directory, "PATH": "/usr/bin:/bin"}
            process = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
            usage = json.loads(process.stdout)
            times = f"{usage['seconds']:7.2f} s, {usage['cpu']:.2f} s of CPU"
            print(f"  {way:42} {times}, peak memory {usage['peak'] / MB:.0f} MB, {usage['start'] / MB:.0f} MB before")
            assert usage["peak"] < MEMORY, way


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--chunksize", type=int)
    parser.add_argument("--directory", type=Path, help="keep the embedded cloud's environments here between runs")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(go_through(arguments.way, arguments.job)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        compare(arguments.count, arguments.chunksize, str(arguments.directory or scratch))


if __name__ == "__main__":
    main()
