"""A map stays within its number of requests and bytes, as counted by the embedded cloud.

The tests assert no durations, since these depend on the machine.
"""

import os
import time

import pytest

import cloudknot as ck
from cloudknot.run.submit.submit_job import CHUNKSIZE_WAS_DEFAULT
from tests.benchmarks.scale import READ_SHARE, Measured, counts, length, since
from tests.helpers.functions import nap
from tests.helpers.waiting import until

LONG = 120


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    """Yield a cloud of this module only, since it would count the requests of other tests as well."""
    with ck.LocalCloud(tmp_path_factory.mktemp("scale"), vcpus=2, quota=1000) as cloud:
        yield cloud


@pytest.fixture(autouse=True)
def idle_cloud(cloud):
    """Wait for the jobs of the previous test, since the cloud would count their requests as well."""
    until(lambda: not any(cloud.status().jobs[state] for state in ("STARTING", "RUNNING")))


@pytest.mark.parametrize(
    ("count", "chunksize"), [(1, None), (1000, 100), pytest.param(100_000, 25_000, marks=pytest.mark.large)]
)
def test_map_stays_within_its_requests_and_bytes(cloud, count, chunksize):
    measured = Measured(cloud, count, chunksize, 0)
    measured.check()


def test_later_session_reads_each_pack_once(cloud):
    measured = Measured(cloud, 1000, 100, 0)
    before = counts(cloud, "others")
    assert ck.BatchJob(measured.future.job.job_id, cloud=cloud).result(LONG) == [x + 1 for x in range(1000)]
    requests = since(before, counts(cloud, "others"))
    assert requests["s3:GetObject"][0] <= measured.packs + 3
    assert requests["s3:ListObjectsV2"][0] <= 4


def test_input_is_uploaded_in_parts_and_read_in_ranges(cloud):
    size, count = 3_000_000, 12
    measured = Measured(cloud, count, 3, size)
    assert measured.at_submission["s3:UploadPart"][0] == -(-size * count // (8 * 1024 * 1024))
    assert measured.stored >= size * count
    read = measured.workers["s3:GetObject"][2]
    assert read <= READ_SHARE * measured.stored


def double(block):
    return block * 2


@pytest.mark.large
def test_worker_holds_large_elements_in_memory_once(cloud):
    """The job holds an input of 24 MB and its result of 48 MB at the same time, and upload parts besides."""
    size = 24_000_000
    knot = ck.Knot(name="large", func=double, cloud=cloud)
    base = knot.map([b"x"])
    assert base.result(LONG) == [b"xx"]
    future = knot.map([bytes([n]) * size for n in range(2)], chunksize=2)
    assert [(result[0], len(result)) for result in future.result(LONG)] == [(0, 2 * size), (1, 2 * size)]
    used = max(peaks(future)) - max(peaks(base))
    assert used < 3 * size + 24 * 1024 * 1024


def peaks(future):
    """Return the peak memory of the worker for each element, as the packs record it."""
    view = future.job._view
    packs = (view.unpack(location, view.read(location)) for page in view.list_packs(0) for location, *_ in page)
    return [peak for pack in packs for peak in pack.peaks()]


def fill(block):
    import numpy

    return numpy.full(block.shape, block[0] + 1)


@pytest.mark.large
def test_large_arrays_are_returned_writable(cloud):
    import numpy

    block = numpy.arange(2_000_000, dtype=numpy.int64)
    block[:] = 7
    (result,) = ck.Knot(name="arrays", func=fill, cloud=cloud).map([block]).result(LONG)
    assert result.shape == block.shape
    assert (result == 8).all()
    result[0] = 1


def note_and_maybe_die(directory, number, deadly):
    """Create a file for this call. Die in the first attempt of the deadly number, when the file ``go`` exists."""
    with open(os.path.join(directory, f"{number}-{os.getpid()}"), "x"):
        pass
    if number == deadly and os.environ["AWS_BATCH_JOB_ATTEMPT"] == "1":
        while not os.path.exists(os.path.join(directory, "go")):
            time.sleep(0.02)
        os.kill(os.getpid(), 9)
    return number


def test_second_attempt_of_killed_chunk_continues_after_its_stored_results(cloud, tmp_path):
    knot = ck.Knot(name="scale-killed", func=note_and_maybe_die, cloud=cloud, retries=2)
    future = knot.map([(str(tmp_path), n, 4) for n in range(8)], starmap=True, chunksize=8)
    # The worker stores them while the deadly element waits.
    assert [element.result(LONG) for element in future[:4]] == [0, 1, 2, 3]
    (tmp_path / "go").touch()
    assert future.result(LONG) == list(range(8))
    calls = [sum(path.name.startswith(f"{n}-") for path in tmp_path.iterdir()) for n in range(8)]
    assert calls == [1, 1, 1, 1, 2, 1, 1, 1]
    until(lambda: len(future.job.attempts) == 2)


def test_automatic_chunksize_follows_durations_of_earlier_maps(cloud):
    knot = ck.Knot(name="automatic", func=nap, cloud=cloud, max_vcpus=4)
    first = knot.map([0.0] * 10, chunksize="auto")
    assert (first.result(LONG), first.job.manifest.chunksize) == ([0.0] * 10, 3)
    second = knot.map([0.3] * 4, chunksize="auto")
    assert (second.result(LONG), second.job.manifest.chunksize) == ([0.3] * 4, 4)
    third = knot.map([0.0] * 1000, chunksize="auto")
    assert third.result(LONG) == [0.0] * 1000
    assert 250 <= third.job.manifest.chunksize <= 800


def test_default_chunksize_above_array_limit_respects_timeout(cloud):
    """The chunks stay as small as possible until the duration of an element is known, so that each ends in time."""
    # 10,001 elements: one more than an array job has children.
    knot = ck.Knot(name="default-chunks", func=nap, cloud=cloud, timeout=600)
    unmeasured = knot.map([0.0] * 10_001)
    assert unmeasured.job.manifest.chunksize == 2
    unmeasured.cancel()
    assert knot.map([0.3] * 2).result(LONG) == [0.3] * 2
    measured = knot.map([0.0] * 10_001)
    assert measured.job.manifest.chunksize == 20
    assert ck.BatchJob(measured.job.job_id, cloud=cloud)._run.rounds.first.stored_choices[CHUNKSIZE_WAS_DEFAULT]
    measured.cancel()


def test_dependent_map_reads_only_its_part_of_pack(cloud):
    size, count = 100_000, 12
    first = ck.Knot(name="packed", func=double, cloud=cloud).map(
        [bytes([n]) * (size // 2) for n in range(count)], chunksize=count
    )
    assert first.exception(LONG) is None
    until(lambda: first.job.status == "SUCCEEDED")
    before = counts(cloud, "workers")
    second = ck.Knot(name="unpacked", func=length, cloud=cloud).map(first, chunksize=2)
    assert second.result(LONG) == [bytes(size)] * count
    read = since(before, counts(cloud, "workers"))["s3:GetObject"][2]
    assert read <= READ_SHARE * size * count
