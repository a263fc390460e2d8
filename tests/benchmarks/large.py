"""Measure the memory and bytes that large elements and large shared objects take in the client and in the jobs.

    python -m tests.benchmarks.large elements --count 100 --bytes 50000000
    python -m tests.benchmarks.large kwargs --bytes 500000000
    python -m tests.benchmarks.large closure --bytes 500000000

Fails if a large object is in memory twice, is uploaded twice, or is read twice by a child.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path

import cloudknot as ck
from cloudknot.worker.wire.pack import head_size
from tests.benchmarks.memory import forget_peak, peak
from tests.benchmarks.scale import LONG, MB, READ_SHARE, Counts, counts, show, since

TRANSIT = 96 * 1024 * 1024
"""Most bytes in memory besides the objects: parts of 8 MiB in transit, boto3's copies of them, and buffers."""
PLUS_ONE = bytes([*range(1, 256), 0])


def plus_one(block):
    """Return the block with one added to each byte."""
    return block.translate(PLUS_ONE)


def blocks(count: int, size: int) -> Iterator[bytes]:
    """Yield blocks of equal bytes, each with another value."""
    for number in range(count):
        yield bytes([number % 256]) * size


def worker_peak(job: ck.BatchJob) -> int:
    """Return the peak memory of all processes of the job, in bytes."""
    locations = [location for page in job._view.list_packs(0) for location, _ in page]
    view = job._view
    heads = (view.unpack(location, view.read(location, 0, head_size(location.number))) for location in locations)
    return max(peak for head in heads for peak in head.peaks())


def check_bound(quantity: str, measured: int, bound: int) -> None:
    """Print a measured number of bytes and its bound, and fail if it exceeds the bound."""
    print(f"  {quantity}: {measured / MB:.0f} MB, at most {bound / MB:.0f} MB")
    sys.stdout.flush()
    assert measured <= bound, quantity


class Counting:
    """Counts the requests since it was created."""

    def __init__(self, cloud: ck.LocalCloud) -> None:
        self.cloud = cloud
        self._before = {side: counts(cloud, side) for side in ("workers", "others")}

    def requests(self, side: str) -> Counts:
        return since(self._before[side], counts(self.cloud, side))

    def show(self) -> None:
        show("the client:", self.requests("others"))
        show("the children:", self.requests("workers"))

    def uploaded(self) -> int:
        return sum(received for _, received, _ in self.requests("others").values())

    def read(self) -> int:
        return self.requests("workers").get("s3:GetObject", (0, 0, 0))[2]


def elements(cloud: ck.LocalCloud, count: int, size: int) -> None:
    """Map a function that returns a result as large as its element."""
    knot = ck.Knot(name="large", func=plus_one, cloud=cloud)
    small = knot.map([b"\0"], progress=False)
    assert small.result(LONG) == [b"\1"]
    counting, start, before = Counting(cloud), time.perf_counter(), forget_peak()
    future = knot.map(blocks(count, size), progress=False)
    check_bound("the client's memory while it submitted", peak() - before, size + TRANSIT)
    print(f"  submitted in {time.perf_counter() - start:.0f} s")
    assert wait([future], LONG).done
    forget_peak()
    for number, element in enumerate(future):
        result = element.result(LONG)
        assert (len(result), result[0], result[-1]) == (size, *2 * ((number + 1) % 256,))
        # Otherwise the loop would hold one result while it reads the next one.
        del result, element
    check_bound("the client's memory while it read all results", peak() - before, size + TRANSIT)
    print(f"  all after {time.perf_counter() - start:.0f} s")
    counting.show()
    check_bound("uploaded", counting.uploaded(), int(count * size * 1.01) + TRANSIT)
    check_bound("read by the children", counting.read(), int(count * size * READ_SHARE))
    check_bound("a child's memory", worker_peak(future.job) - worker_peak(small.job), 2 * size + TRANSIT)


def kwargs(cloud: ck.LocalCloud, count: int, size: int) -> None:
    """Map with one large object as a keyword argument for all elements."""
    knot = ck.Knot(name="kwargs", func=lambda x, shared: len(shared) + x, cloud=cloud)
    small = knot.map([1], kwargs={"shared": b"x"}, progress=False)
    assert small.result(LONG) == [2]
    shared = bytes(size)
    counting, before = Counting(cloud), forget_peak()
    future = knot.map(range(count), chunksize=-(-count // 4), kwargs={"shared": shared}, progress=False)
    check_bound("the client's memory while it submitted, besides the object", peak() - before, TRANSIT)
    check_shared(counting, future, small, size)
    counting = Counting(cloud)
    assert knot.map([1], kwargs={"shared": shared}, progress=False).result(LONG) == [size + 1]
    check_bound("uploaded by a second map with the same object", counting.uploaded(), TRANSIT)


def check_shared(counting: Counting, future: ck.MapFuture, small: ck.MapFuture, size: int) -> None:
    """Check the results and costs of a map with a shared object. The map ``small`` gives the memory without it."""
    assert future.result(LONG) == [size + x for x in range(len(future))]
    counting.show()
    children = future.job.manifest.children
    check_bound("uploaded", counting.uploaded(), size + TRANSIT)
    check_bound(f"read by {children} children", counting.read(), int(children * size * 1.01))
    check_bound("a child's memory", worker_peak(future.job) - worker_peak(small.job), size + TRANSIT)


def closure(cloud: ck.LocalCloud, count: int, size: int) -> None:
    """Map a function with one large object in its closure. Each child reads the object in its image."""
    shared = bytes(size)

    def func(x):
        return len(shared) + x

    before = forget_peak()
    start = time.perf_counter()
    knot = ck.Knot(name="closure", func=func, cloud=cloud)
    check_bound("the client's memory while it made the knot, besides the object", peak() - before, size + TRANSIT)
    print(f"  made in {time.perf_counter() - start:.0f} s")
    stored = sum(file.stat().st_size for file in (cloud.directory / "images").rglob("function.pkl"))
    check_bound("stored with the image", stored, size + TRANSIT)
    counting = Counting(cloud)
    future = knot.map(range(count), chunksize=-(-count // 4), progress=False)
    assert future.result(LONG) == [size + x for x in range(count)]
    counting.show()
    check_bound("uploaded by the map", counting.uploaded(), TRANSIT)
    print(f"  a child's memory: {worker_peak(future.job) / MB:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = {"elements": elements, "kwargs": kwargs, "closure": closure}
    parser.add_argument("kind", choices=kinds)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--bytes", type=int, default=50_000_000)
    parser.add_argument("--directory", type=Path, help="keep the embedded cloud's environments here between runs")
    arguments = parser.parse_args()
    print(f"{arguments.kind}: {arguments.count} elements, {arguments.bytes / MB:.0f} MB")
    with tempfile.TemporaryDirectory() as scratch, ck.LocalCloud(arguments.directory or scratch) as cloud:
        kinds[arguments.kind](cloud, arguments.count, arguments.bytes)


if __name__ == "__main__":
    main()
