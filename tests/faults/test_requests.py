"""Each kind of request that the client and the worker make of S3, while S3 and the network fail."""

import os
import pickle

import pytest

import cloudknot as ck
from cloudknot.local import Faults
from cloudknot.worker.s3.client import connect
from cloudknot.worker.s3.limits import PART_SIZE
from cloudknot.worker.s3.retries import LONGEST_PAUSE
from tests.helpers.waiting import until

HALF = Faults(errors=0.5)


@pytest.fixture
def storage(cloud, knot_of, switches):
    """The bucket of the cloud, which its first knot made."""
    knot_of(abs)
    yield cloud.storage
    switches.off()
    cloud.storage.delete_prefix("faults/")


@pytest.fixture
def worker(cloud, storage, monkeypatch):
    """The worker's S3, as in a job."""
    for name, value in cloud.environment().items():
        monkeypatch.setenv(name, value)
    s3 = connect()
    yield s3
    s3.plain.close()


def some_bytes(size):
    return os.urandom(1024) * (size // 1024)


@pytest.mark.parametrize(
    "faults",
    [Faults(errors=0.5), Faults(dropped=0.5), Faults(truncated=0.5), Faults(errors=0.2, dropped=0.2, truncated=0.2)],
    ids=["errors", "dropped", "truncated", "all"],
)
def test_small_objects_are_written_and_read(storage, switches, faults):
    bodies = {f"faults/{n}": str(n).encode() * 100 for n in range(20)}
    with switches.on(faults):
        for key, body in bodies.items():
            storage.put(key, body)
        assert {key: storage.get(key) for key in bodies} == bodies
        assert sum(switches.injected().values()) >= 5


@pytest.mark.parametrize(
    "faults", [Faults(errors=0.5, seed=1), Faults(dropped=0.5, seed=2)], ids=["errors", "dropped"]
)
def test_an_upload_in_parts_is_whole(storage, switches, faults):
    body = some_bytes(3 * PART_SIZE)
    pieces = (body[i : i + 1_000_000] for i in range(0, len(body), 1_000_000))
    with switches.on(faults):
        assert storage.upload("faults/large", pieces) == len(body)
        assert switches.injected()
    assert storage.get("faults/large") == body


def test_beginning_and_completing_an_upload_survive_lost_answers(storage, switches):
    body = some_bytes(2 * PART_SIZE)
    # What is begun twice leaves an upload without parts, which the bucket's rule drops.
    with switches.on(Faults(dropped=1, limit=2, only="POST /")):
        assert storage.upload("faults/posted", [body[:PART_SIZE], body[PART_SIZE:]]) == len(body)
        assert switches.injected() == {"dropped": 2}
    assert storage.get("faults/posted") == body


def test_a_listing_goes_on_from_the_page_that_failed(storage, switches):
    for n in range(7):
        storage.put(f"faults/list/{n}", b"x")
    found = []
    with switches.on(HALF):
        for page in storage._door.pages(
            "s3", "list_objects_v2", Bucket=storage.bucket, Prefix="faults/list/", PaginationConfig={"PageSize": 2}
        ):
            found.append([item["Key"][-1] for item in page["Contents"]])
        assert switches.injected()
    assert found == [["0", "1"], ["2", "3"], ["4", "5"], ["6"]]


def test_a_stream_goes_on_where_it_broke_off(storage, switches):
    body = some_bytes(1_000_000)
    storage.put("faults/stream", body)
    with switches.on(Faults(truncated=1, limit=4)):
        with storage.open("faults/stream") as stream:
            assert b"".join(iter(lambda: stream.read(70_000), b"")) == body
        assert switches.injected() == {"truncated": 4}
    with switches.on(Faults(truncated=1, limit=2)), storage.open("faults/stream", 1000, 600_000) as stream:
        assert stream.read() == body[1000:600_000]


def test_a_prefix_is_deleted_whole(storage, switches):
    for faults in (Faults(errors=1, limit=4), Faults(dropped=1, limit=3)):
        for n in range(5):
            storage.put(f"faults/deleted/{n}", b"x")
        with switches.on(faults):
            storage.delete_prefix("faults/deleted/")
            assert sum(switches.injected().values()) == faults.limit
    assert list(storage.keys("faults/deleted/")) == []


@pytest.mark.parametrize(
    "faults",
    [Faults(errors=0.5), Faults(dropped=0.5), Faults(truncated=0.5), Faults(errors=0.2, dropped=0.2, truncated=0.2)],
    ids=["errors", "dropped", "truncated", "all"],
)
def test_a_worker_writes_reads_and_lists(worker, storage, switches, faults):
    bucket, large = storage.bucket, some_bytes(2_000_000)
    with switches.on(faults):
        for n in range(12):
            worker.write(bucket, f"faults/worker/{n:02d}", bytes([n]) * 5000)
        worker.write(bucket, "faults/worker/large", large)
        assert [worker.read(bucket, f"faults/worker/{n:02d}", 10, 20) for n in range(12)] == [
            bytes([n]) * 10 for n in range(12)
        ]
        assert worker.read(bucket, "faults/worker/large") == large
        keys = worker.keys(bucket, "faults/worker/", "faults/worker/02", "faults/worker/05")
        assert keys == [f"faults/worker/{n:02d}" for n in (3, 4, 5)]
        assert switches.injected()


@pytest.mark.parametrize(
    "faults", [Faults(errors=0.5, seed=4), Faults(dropped=0.5, seed=4), Faults(truncated=1, limit=3)]
)
def test_a_worker_stores_and_loads_a_large_result(worker, storage, switches, faults):
    value = some_bytes(2 * PART_SIZE)
    data = pickle.dumps(value)
    with switches.on(faults):
        worker.write_large(storage.bucket, "faults/large-result", [data])
        assert worker.load(storage.bucket, "faults/large-result", 0, len(data)) == value
        assert switches.injected()


def test_batch_is_asked_again_after_a_burst_of_429(cloud, switches):
    with switches.on(Faults(throttled=1, limit=5)):
        assert cloud.call("batch", "describe_jobs", jobs=["none"])["jobs"] == []
        assert switches.injected() == {"throttled": 5}


def test_silence_is_waited_out(storage, switches):
    storage.put("faults/silence", b"x")
    with switches.on(Faults(silent=True)):
        until_silent = until(lambda: _asked(storage, switches))
    assert until_silent.result(10 * LONGEST_PAUSE) == b"x"


def _asked(storage, switches):
    """A read that was begun, and that has met some silence."""
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(1)
    future = pool.submit(storage.get, "faults/silence")
    until(lambda: switches.injected().get("silence", 0) >= 3)
    pool.shutdown(wait=False)
    return future


def test_what_is_refused_for_good_is_said_at_once(storage, switches):
    with switches.on(Faults(expired=True)):
        with pytest.raises(ck.CredentialsError):
            storage.get("faults/none")
        assert switches.injected() == {"expired": 1}
    with pytest.raises(ck.ResourceDoesNotExistException):
        storage.get("faults/none")
