"""What it costs a later session to go through a map's elements, each way in a process of its own.

    python -m tests.benchmarks.consume 1000000 --chunksize 10000

Prints the time and the peak memory of each way, and fails when one takes more memory than cloudknot promises. Each
result is looked at and let go, as a caller does who wants to see all and keep none.
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
    """Seconds, and bytes of memory at most, of this process; checks that all results are there."""
    start = peak()
    future = ck.BatchJob(job_id, cloud="local").future()
    begun, cpu = time.perf_counter(), time.process_time()
    number = total = 0
    for element in WAYS[way](future):
        total += element.result(LONG)
        number += 1
    assert (number, total) == (len(future), number * (number + 1) // 2)
    took, cpu = time.perf_counter() - begun, time.process_time() - cpu
    return {"seconds": took, "cpu": cpu, "start": start, "peak": peak()}


def compare(count: int, chunksize: int | None, directory: str) -> None:
    with ck.LocalCloud(directory) as cloud:
        future = ck.Knot(name="consume", func=add_one, cloud=cloud).map(numbers(count), chunksize=chunksize)
        assert future.exception(LONG) is None
        job, manifest = future.job, future.job.manifest
        print(f"{count:,} elements, {manifest.children:,} children of {manifest.chunksize:,}")
        for way in WAYS:
            command = [sys.executable, "-m", "tests.benchmarks.consume", "--way", way, "--job", job.job_id]
            environment = {"CLOUDKNOT_LOCAL_DIR": directory, "PATH": "/usr/bin:/bin"}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
            found = json.loads(done.stdout)
            took = f"{found['seconds']:7.2f} s, {found['cpu']:.2f} s of CPU"
            print(f"  {way:42} {took}, peak memory {found['peak'] / MB:.0f} MB, {found['start'] / MB:.0f} MB before")
            assert found["peak"] < MEMORY, way


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
