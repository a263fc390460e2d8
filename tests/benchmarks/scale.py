"""Measure maps of several sizes: requests, bytes, the client's memory, and the time to collect results.

    python -m tests.benchmarks.scale
    python -m tests.benchmarks.scale 1000000 --chunksize 10000

Each size runs in its own process and embedded cloud, so that sizes do not share memory and requests. The counts are
checked against the bounds that cloudknot promises. The time to collect a million results is checked against a bare
read of them in the same minute. Other times are only printed.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import as_completed
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import cloudknot as ck
from cloudknot.worker.wire.keys import Location
from cloudknot.worker.wire.pack import Origin, Pack, head_size
from tests.benchmarks.memory import peak

LONG = 3600
READ_SHARE = 1.1
"""Most bytes that all children may read together, as a share of the input and its index."""
FIXED_REQUESTS = 8
"""Most requests of a submission besides parts: the ends of two uploads, the manifest, the job and its record."""
LOOKING = ("batch:describejobs", "batch:listjobs", "s3:ListObjectsV2", "s3:GetObject")
"""Requests of the collector. It looks for results at once, so some of them are made during the submission."""
MEMORY = 300 * 1024 * 1024
"""Most bytes in memory of a client that keeps no results."""
COLLECTION_RATIO = 5
"""Most time for the list of results, as a multiple of a bare read of the same bytes."""
MANY = 1_000_000
"""Fewest results to which `COLLECTION_RATIO` applies. A few results take milliseconds, most of them for requests."""
ROUNDS = 5
MB = 1e6

T = TypeVar("T")
Counts = Mapping[str, tuple[int, int, int]]


def add_one(x):
    return x + 1


def length(block):
    """Return a result as large as the element."""
    return bytes(len(block))


def numbers(count: int) -> Iterator[int]:
    yield from range(count)


def blocks(count: int, size: int) -> Iterator[bytes]:
    for number in range(count):
        yield number.to_bytes(8, "little") * (size // 8)


def counts(cloud: ck.LocalCloud, side: str) -> dict[str, tuple[int, int, int]]:
    """Return the requests of the ``"workers"`` or the ``"others"``: number, bytes in and bytes out, by operation."""
    status = cloud.status()
    assert status is not None
    return {name: tuple(triple) for name, triple in status.requests[side].items()}  # type: ignore[misc]


def since(before: Counts, after: Counts) -> dict[str, tuple[int, int, int]]:
    """Return the requests between two counts."""
    none = (0, 0, 0)
    difference = {
        name: tuple(a - b for a, b in zip(triple, before.get(name, none), strict=True))
        for name, triple in after.items()
    }
    return {name: triple for name, triple in difference.items() if triple[0]}  # type: ignore[misc]


def show(title: str, requests: Counts) -> None:
    """Print counts of requests."""
    print(f"  {title}")
    for name, (number, received, sent) in requests.items():
        print(f"    {name:32} {number:9,} requests {received / MB:12.3f} MB in {sent / MB:12.3f} MB out")


class Measured:
    """One map with its costs. The constructor submits it, waits, and checks all results."""

    def __init__(self, cloud: ck.LocalCloud, count: int, chunksize: int | str | None, size: int) -> None:
        self.cloud, self.count, self.size = cloud, count, size
        knot = ck.Knot(name="scale", func=length if size else add_one, cloud=cloud)
        before = {side: counts(cloud, side) for side in ("workers", "others")}
        inputs = blocks(count, size) if size else numbers(count)
        start = time.perf_counter()
        self.future = knot.map(inputs, chunksize=chunksize, progress=False)
        self.submitted = time.perf_counter() - start
        self.at_submission = since(before["others"], counts(cloud, "others"))
        self._check_results()
        self.seconds = time.perf_counter() - start
        self.client = since(before["others"], counts(cloud, "others"))
        self.workers = since(before["workers"], counts(cloud, "workers"))

    def _check_results(self) -> None:
        for index, element in enumerate(self.future):
            result = element.result(LONG)
            assert len(result) == self.size // 8 * 8 if self.size else result == index + 1
        assert index == self.count - 1

    @property
    def stored(self) -> int:
        """Return the bytes of the input and its index."""
        pages = self.cloud.storage.pages(self.future.job.keys.inputs)
        return sum(summary.size for page in pages for summary in page)

    @property
    def packs(self) -> int:
        """Return the number of packs with results."""
        return sum(len(page) for page in self.future.job._view.list_packs(0))

    def show(self) -> None:
        """Print the costs."""
        manifest = self.future.job.manifest
        children = f"{manifest.children:,} children of {manifest.chunksize:,}"
        print(f"\n{self.count:,} elements, {children}, {self.packs:,} packs")
        print(f"  submitted in {self.submitted:.2f} s, all results after {self.seconds:.2f} s")
        show("the client, while it submitted:", self.at_submission)
        show("the client, in all:", self.client)
        show("the children:", self.workers)

    def check(self) -> None:
        """Fail if a cost exceeds its bound."""
        read = sum(triple[2] for name, triple in self.workers.items() if name == "s3:GetObject")
        share = read / self.stored
        print(f"  the children read {share:.3f} of the input's bytes")
        assert share <= READ_SHARE
        assert self.client["batch:submitjob"][0] == 1
        parts = -(-self.stored // ck_part_size()) + FIXED_REQUESTS
        submitting = sum(triple[0] for name, triple in self.at_submission.items() if name not in LOOKING)
        print(f"  the client made {submitting} requests to submit {self.stored / MB:.1f} MB")
        assert submitting <= parts
        reads = self.client.get("s3:GetObject", (0, 0, 0))
        print(f"  the client made {reads[0]} reads of {self.packs} packs, {reads[2] / MB:.1f} MB")
        assert reads[0] <= 2 * self.packs + 8


def ck_part_size() -> int:
    from cloudknot.worker.s3.limits import PART_SIZE

    return PART_SIZE


def collected_again(measured: Measured) -> None:
    """Measure the list of results in a later session, in turn with a bare read of the same bytes from files."""
    job = measured.future.job
    bare, collected = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for location in (location for page in job._view.list_packs(0) for location, _ in page):
            Path(scratch, "-".join(map(str, location))).write_bytes(job._view.read(location))
        for _ in range(ROUNDS):
            seconds, expected = timed(lambda: bare_read(Path(scratch), job.keys.run_id))
            bare.append(seconds)
            before = counts(measured.cloud, "others")
            seconds, values = timed(lambda: ck.BatchJob(job.job_id, cloud=measured.cloud).result(LONG))
            collected.append(seconds)
            assert values == expected
            del values, expected
    show("a later session, the list of results:", since(before, counts(measured.cloud, "others")))
    seconds, base = statistics.median(collected), statistics.median(bare)
    print(
        f"  {seconds:.2f} s, a bare read of the same bytes {base:.2f} s: x {seconds / base:.2f} (medians of {ROUNDS})"
    )
    assert measured.count < MANY or seconds <= COLLECTION_RATIO * base


def timed(call: Callable[[], T]) -> tuple[float, T]:
    """Return the seconds that a call takes, and its result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def bare_read(directory: Path, run_id: str) -> list[object]:
    """Do the least work that returns the results: read each file, unpickle each value."""
    values = []
    for name in sorted(os.listdir(directory), key=lambda name: int(name.partition("-")[0])):
        data, location = (directory / name).read_bytes(), Location(*map(int, name.split("-")))
        pack = Pack(data, Origin(run_id, location))
        begin = head_size(len(pack))
        ends = [begin, *(begin + end for end in pack.ends())]
        values += [pickle.loads(data[start:end]) for start, end in pairwise(ends)]
    return values


def as_they_end(measured: Measured, standard: bool) -> None:
    """Read all elements as they end, by the map's own `as_completed` or by the standard library's."""
    future = ck.BatchJob(measured.future.job.job_id, cloud=measured.cloud).future()
    start = time.perf_counter()
    number = sum(
        element.result(LONG) is not None for element in (as_completed(future) if standard else future.as_completed())
    )
    assert number == measured.count
    print(f"  {'concurrent.futures.' if standard else 'future.'}as_completed in {time.perf_counter() - start:.2f} s")
    print(f"    peak memory so far: {peak() / MB:.0f} MB")


def run(arguments: argparse.Namespace) -> None:
    """Measure one size in this process."""
    with tempfile.TemporaryDirectory() as scratch, ck.LocalCloud(arguments.directory or scratch) as cloud:
        start = peak()
        measured = Measured(cloud, arguments.sizes[0], arguments.chunksize, arguments.bytes)
        measured.show()
        used = peak()
        print(f"  the client's peak memory: {used / MB:.0f} MB, {start / MB:.0f} MB of it before the map")
        measured.check()
        if not arguments.bytes:
            as_they_end(measured, standard=False)
            assert peak() < MEMORY
            collected_again(measured)
            print(f"  peak memory with the list of results, twice: {peak() / MB:.0f} MB")
            # The standard library holds all futures, so it takes more memory and comes last.
            as_they_end(measured, standard=True)
    print(json.dumps({"elements": measured.count, "peak": used}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", type=int, nargs="*", default=[1, 1000, 100_000, MANY])
    parser.add_argument("--chunksize", type=lambda text: text if text == "auto" else int(text))
    parser.add_argument(
        "--bytes", type=int, default=0, help="size of each element and result; default: they are numbers"
    )
    parser.add_argument("--directory", type=Path, help="keep the embedded cloud's environments here between runs")
    arguments = parser.parse_args()
    if len(arguments.sizes) == 1:
        run(arguments)
        return
    chosen = {name: value for name, value in vars(arguments).items() if name != "sizes" and value}
    rest = [f"--{name}={value}" for name, value in chosen.items()]
    for size in arguments.sizes:
        subprocess.run([sys.executable, "-m", "tests.benchmarks.scale", str(size), *rest], check=True)


if __name__ == "__main__":
    main()
