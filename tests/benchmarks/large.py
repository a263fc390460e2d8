"""What large elements and large shared objects cost: bytes and memory, of the client and of the jobs.

    python -m tests.benchmarks.large elements --count 100 --bytes 50000000
    python -m tests.benchmarks.large kwargs --bytes 500000000
    python -m tests.benchmarks.large closure --bytes 500000000

Fails when something is in memory twice, is uploaded twice, or is read more than once by a child.
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
from cloudknot.worker.wire.pack import Pack, head_size
from tests.benchmarks.memory import forget_peak, peak
from tests.benchmarks.scale import LONG, MB, READ_SHARE, Counts, counts, show, since

PARTS = 96 * 1024 * 1024
"""Bytes that may be in memory besides: parts of 8 MiB on their way, each with what boto3 needs for it, and buffers."""
PLUS_ONE = bytes([*range(1, 256), 0])


def plus_one(block):
    return block.translate(PLUS_ONE)


def blocks(count: int, size: int) -> Iterator[bytes]:
    for number in range(count):
        yield bytes([number % 256]) * size


def worker_peak(job: ck.BatchJob) -> int:
    """Bytes: the most memory that a process of the job had."""
    located = [location for page in job._view.list_packs(0) for location, _ in page]
    heads = (Pack(job._view.read(location, 0, head_size(location.number))) for location in located)
    return max(envelope.peak for head in heads for envelope in head)


def says(what: str, found: int, bound: int) -> None:
    print(f"  {what}: {found / MB:.0f} MB, at most {bound / MB:.0f} MB")
    sys.stdout.flush()
    assert found <= bound, what


class Counting:
    """The requests of a block."""

    def __init__(self, cloud: ck.LocalCloud) -> None:
        self.cloud = cloud
        self._before = {who: counts(cloud, who) for who in ("workers", "others")}

    def requests(self, who: str) -> Counts:
        return since(self._before[who], counts(self.cloud, who))

    def show(self) -> None:
        show("the client:", self.requests("others"))
        show("the children:", self.requests("workers"))

    def uploaded(self) -> int:
        return sum(received for _, received, _ in self.requests("others").values())

    def read(self) -> int:
        return self.requests("workers").get("s3:GetObject", (0, 0, 0))[2]


def elements(cloud: ck.LocalCloud, count: int, size: int) -> None:
    """Each element goes in, and comes back as large as it was."""
    knot = ck.Knot(name="large", func=plus_one, cloud=cloud)
    small = knot.map([b"\0"], progress=False)
    assert small.result(LONG) == [b"\1"]
    counting, begun, before = Counting(cloud), time.perf_counter(), forget_peak()
    future = knot.map(blocks(count, size), progress=False)
    says("the client's memory while it submitted", peak() - before, size + PARTS)
    print(f"  submitted in {time.perf_counter() - begun:.0f} s")
    assert wait([future], LONG).done
    forget_peak()
    for number, element in enumerate(future):
        result = element.result(LONG)
        assert (len(result), result[0], result[-1]) == (size, *2 * ((number + 1) % 256,))
        # One that is still held while the next one is read would be the caller's.
        del result, element
    says("the client's memory while it looked at all results", peak() - before, size + PARTS)
    print(f"  all after {time.perf_counter() - begun:.0f} s")
    counting.show()
    says("uploaded", counting.uploaded(), int(count * size * 1.01) + PARTS)
    says("read by the children", counting.read(), int(count * size * READ_SHARE))
    says("a child's memory", worker_peak(future.job) - worker_peak(small.job), 2 * size + PARTS)


def kwargs(cloud: ck.LocalCloud, count: int, size: int) -> None:
    """One object for all elements, which the map takes as a keyword argument."""
    knot = ck.Knot(name="kwargs", func=lambda x, shared: len(shared) + x, cloud=cloud)
    small = knot.map([1], kwargs={"shared": b"x"}, progress=False)
    assert small.result(LONG) == [2]
    shared = bytes(size)
    counting, before = Counting(cloud), forget_peak()
    future = knot.map(range(count), chunksize=-(-count // 4), kwargs={"shared": shared}, progress=False)
    says("the client's memory while it submitted, besides the object", peak() - before, PARTS)
    check_shared(counting, future, small, size)
    counting = Counting(cloud)
    assert knot.map([1], kwargs={"shared": shared}, progress=False).result(LONG) == [size + 1]
    says("uploaded by a second map with the same object", counting.uploaded(), PARTS)


def check_shared(counting: Counting, future: ck.MapFuture, small: ck.MapFuture, size: int) -> None:
    assert future.result(LONG) == [size + x for x in range(len(future))]
    counting.show()
    children = future.job.manifest.children
    says("uploaded", counting.uploaded(), size + PARTS)
    says(f"read by {children} children", counting.read(), int(children * size * 1.01))
    says("a child's memory", worker_peak(future.job) - worker_peak(small.job), size + PARTS)


def closure(cloud: ck.LocalCloud, count: int, size: int) -> None:
    """One object that the function holds: it is in the image, and each child reads it there."""
    shared = bytes(size)

    def func(x):
        return len(shared) + x

    before = forget_peak()
    begun = time.perf_counter()
    knot = ck.Knot(name="closure", func=func, cloud=cloud)
    says("the client's memory while it made the knot, besides the object", peak() - before, size + PARTS)
    print(f"  made in {time.perf_counter() - begun:.0f} s")
    stored = sum(file.stat().st_size for file in (cloud.directory / "images").rglob("function.pkl"))
    says("stored with the image", stored, size + PARTS)
    counting = Counting(cloud)
    future = knot.map(range(count), chunksize=-(-count // 4), progress=False)
    assert future.result(LONG) == [size + x for x in range(count)]
    counting.show()
    says("uploaded by the map", counting.uploaded(), PARTS)
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
