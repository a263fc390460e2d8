"""Client and worker repeat each kind of request to S3 and Batch while the embedded cloud injects errors."""

import os
import pickle

import pytest

import cloudknot as ck
from cloudknot.worker.s3.client import connect
from cloudknot.worker.s3.limits import PART_SIZE
from cloudknot.worker.s3.retries import LONGEST_PAUSE
from tests.faulty_cloud.plan import Faults
from tests.helpers.waiting import until

HALF = Faults(errors=0.5)


@pytest.fixture
def storage(cloud, knot_of, switches):
    """The bucket of the cloud. The first knot creates it."""
    knot_of(abs)
    yield cloud.storage
    switches.off()
    cloud.storage.delete_prefix("faults/")


@pytest.fixture
def worker(cloud, storage, monkeypatch):
    """The worker's S3 client, connected as in a job."""
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
def test_client_writes_and_reads_small_objects_under_faults(storage, switches, faults):
    bodies = {f"faults/{n}": str(n).encode() * 100 for n in range(20)}
    with switches.on(faults):
        for key, body in bodies.items():
            storage.put(key, body)
        assert {key: storage.get(key) for key in bodies} == bodies
        assert sum(switches.injected().values()) >= 5


@pytest.mark.parametrize(
    "faults", [Faults(errors=0.5, seed=1), Faults(dropped=0.5, seed=2)], ids=["errors", "dropped"]
)
def test_client_uploads_whole_object_in_parts_under_faults(storage, switches, faults):
    body = some_bytes(3 * PART_SIZE)
    pieces = (body[i : i + 1_000_000] for i in range(0, len(body), 1_000_000))
    with switches.on(faults):
        assert storage.upload("faults/large", pieces) == len(body)
        assert switches.injected()
    assert storage.get("faults/large") == body


def test_client_begins_and_completes_upload_despite_lost_answers(storage, switches):
    body = some_bytes(2 * PART_SIZE)
    # Beginning twice leaves an upload without parts. The lifecycle rule of the bucket removes it.
    with switches.on(Faults(dropped=1, limit=2, only="POST /")):
        assert storage.upload("faults/posted", [body[:PART_SIZE], body[PART_SIZE:]]) == len(body)
        assert switches.injected() == {"dropped": 2}
    assert storage.get("faults/posted") == body


def test_listing_continues_from_failed_page(storage, switches):
    for n in range(7):
        storage.put(f"faults/list/{n}", b"x")
    pages = []
    with switches.on(HALF):
        for page in storage._door.pages(
            "s3", "list_objects_v2", Bucket=storage.bucket, Prefix="faults/list/", PaginationConfig={"PageSize": 2}
        ):
            pages.append([item["Key"][-1] for item in page["Contents"]])
        assert switches.injected()
    assert pages == [["0", "1"], ["2", "3"], ["4", "5"], ["6"]]


def test_stream_continues_where_it_broke_off(storage, switches):
    body = some_bytes(1_000_000)
    storage.put("faults/stream", body)
    with switches.on(Faults(truncated=1, limit=4)):
        with storage.open("faults/stream") as stream:
            assert b"".join(iter(lambda: stream.read(70_000), b"")) == body
        assert switches.injected() == {"truncated": 4}
    with switches.on(Faults(truncated=1, limit=2)), storage.open("faults/stream", 1000, 600_000) as stream:
        assert stream.read() == body[1000:600_000]


def test_client_deletes_whole_prefix_under_faults(storage, switches):
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
def test_worker_writes_reads_and_lists_under_faults(worker, storage, switches, faults):
    bucket, large = storage.bucket, some_bytes(2_000_000)
    with switches.on(faults):
        for n in range(12):
            worker.write(bucket, f"faults/worker/{n:02d}", [bytes([n]) * 5000])
        worker.write(bucket, "faults/worker/large", [large])
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
def test_worker_stores_and_loads_large_result_under_faults(worker, storage, switches, faults):
    value = some_bytes(2 * PART_SIZE)
    data = pickle.dumps(value)
    with switches.on(faults):
        worker.write(storage.bucket, "faults/large-result", [data])
        assert worker.load(storage.bucket, "faults/large-result", 0, len(data)) == value
        assert switches.injected()


def test_client_repeats_batch_call_after_burst_of_429(cloud, switches):
    with switches.on(Faults(throttled=1, limit=5)):
        assert cloud.call("batch", "describe_jobs", jobs=["none"])["jobs"] == []
        assert switches.injected() == {"throttled": 5}


def test_client_waits_until_silence_ends(storage, switches):
    storage.put("faults/silence", b"x")
    with switches.on(Faults(silent=True)):
        read = _begin_read(storage, switches)
    assert read.result(10 * LONGEST_PAUSE) == b"x"


def _begin_read(storage, switches):
    """Begin a read, wait until it has met some silence, and return its future."""
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(1)
    future = pool.submit(storage.get, "faults/silence")
    until(lambda: switches.injected().get("silence", 0) >= 3)
    pool.shutdown(wait=False)
    return future


def test_client_raises_lasting_refusals_at_once(storage, switches):
    with switches.on(Faults(expired=True)):
        with pytest.raises(ck.CredentialsError):
            storage.get("faults/none")
        # A plain request is refused without a reason, and then boto3's names it. Neither is repeated.
        assert switches.injected() == {"expired": 2}
    with pytest.raises(ck.ResourceDoesNotExistException):
        storage.get("faults/none")
