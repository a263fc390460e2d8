"""Attempts that Batch counts otherwise than the worker sees them: overlapping, lost after their work, forgotten."""

import os
import time
from dataclasses import replace

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

import cloudknot as ck
from cloudknot.local import Faults, Kill
from cloudknot.worker.attempts import again_if_unreachable
from cloudknot.worker.buffers import Unreadable
from cloudknot.worker.protocol import TRY_AGAIN
from tests.waiting import LONG, until


def signed(seconds):
    """Something that no other attempt returns."""
    time.sleep(seconds)
    return os.environ["AWS_BATCH_JOB_ATTEMPT"], time.time_ns()


def ended(job):
    return until(lambda: all(each["status"] in ("SUCCEEDED", "FAILED") for each in job.describe_jobs()))


@pytest.mark.parametrize(("count", "chunksize"), [(1, 1), (4, 1), (12, 6)])
def test_overlapping_attempts_have_one_result_for_each_element(cloud, knot_of, switches, count, chunksize):
    """Each attempt makes other results; what the future has shown is what every later session reads."""
    with switches.on(Faults(kills=(Kill("host", after=0.3, overlap=True),))):
        future = knot_of(signed).map([0.35] * count, chunksize=chunksize)
        shown = future.result(LONG)
        assert switches.injected()["overlapping: host"] == -(-count // chunksize)
        ended(future.job)
    # The first attempts, of which Batch knows nothing any more, end when they have done their work as well.
    time.sleep(2.5)
    assert ck.BatchJob(future.job.job_id, cloud=cloud).result(LONG) == shown
    packs = [location for page in future.job.stored(0) for location, _ in page]
    assert len(packs) == len(set(packs))
    if chunksize == 1:
        assert sorted(location.first for location in packs) == list(range(count))


def test_a_stored_result_wins_over_a_failed_status(knot_of, switches):
    with switches.on(Faults(kills=(Kill("docker", attempts=10),))):
        future = knot_of(signed).map([0, 0])
        assert [attempt for attempt, _ in future.result(LONG)] == ["1", "1"]
        ended(future.job)
    assert future.job.status == "FAILED"


@pytest.mark.parametrize(
    ("how", "kind", "attempts", "exit_code"),
    [
        ("host", ck.HostLostError, 10, None),
        ("spot", ck.SpotInterruptedError, None, None),
        ("memory", ck.OutOfMemoryError, 1, 137),
        ("pull", ck.ImagePullError, 10, None),
        ("start", ck.TaskStartError, 1, None),
    ],
)
def test_what_ends_every_attempt_is_an_error_of_its_own(knot_of, switches, how, kind, attempts, exit_code):
    with switches.on(Faults(kills=(Kill(how, attempts=10, children=(1,)),))):
        future = knot_of(signed).map([0, 30])
        with pytest.raises(kind, match=rf"^Element 1 \(job {future.job.job_id}:1\) ") as caught:
            future.result(LONG)
    error = caught.value
    assert type(error) is kind
    assert (error.index, error.job_id, error.exit_code) == (1, f"{future.job.job_id}:1", exit_code)
    assert error.attempt == attempts or attempts is None
    assert error.reason
    assert error.log_url.startswith("http")
    assert future[0].result(LONG)[0] == "1"


def unreachable_then_failing(folder, attempts):
    """Of its attempts, the first ends as one does that could not reach S3; of the others, all but the last fail."""
    number = len(os.listdir(folder)) + 1
    open(os.path.join(folder, str(number)), "w").close()
    if number == 1:
        os._exit(75)
    if number < attempts:
        raise OSError(number)
    return number


@pytest.mark.parametrize("retries", [1, 2, 3])
def test_an_attempt_that_could_not_reach_s3_is_not_the_users(knot_of, tmp_path, retries):
    future = knot_of(unreachable_then_failing, retries=retries).map([(str(tmp_path), retries + 1)], starmap=True)
    assert future.result(LONG) == [retries + 1]


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (EndpointConnectionError(endpoint_url="https://s3"), True),
        (ClientError({"Error": {"Code": "SlowDown"}}, "PutObject"), True),
        (ClientError({"Error": {"Code": "AccessDenied"}}, "PutObject"), False),
        (ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject"), False),
        (ValueError("not about S3"), False),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_asks_for_another_attempt(error, again, wrapped, capsys):
    def work():
        if wrapped:
            raise Unreadable("the inputs cannot be read") from error
        raise error

    if again:
        assert again_if_unreachable(work) == TRY_AGAIN
        assert "S3 could not be reached" in capsys.readouterr().err
    else:
        with pytest.raises(Unreadable if wrapped else type(error)):
            again_if_unreachable(work)


def test_a_job_that_batch_has_forgotten_is_resolved_from_s3(cloud, knot_of, switches):
    future = knot_of(signed).map([0, 0, 0], chunksize=2)
    shown = future.result(LONG)
    ended(future.job)
    switches.forget(future.job.job_id)
    job = knot_of(signed).jobs[-1]
    later = ck.BatchJob(job.job_id, cloud=cloud, keys=job.keys)
    assert later.describe_jobs() == []
    assert later.result(LONG) == shown
    assert later.status == "SUCCEEDED"
    assert later.done


def test_a_forgotten_job_without_a_result_ends_too(cloud, knot_of, switches):
    with switches.on(Faults(kills=(Kill("memory", attempts=10, children=(0,)),))):
        future = knot_of(signed).map([30, 0])
        with pytest.raises(ck.OutOfMemoryError):
            future.result(LONG)
        ended(future.job)
    switches.forget(future.job.job_id)
    # Descriptions may lag behind, so a job that is young is not believed to be forgotten.
    old = replace(future.job.manifest, created="2026-01-01T00:00:00+00:00")
    cloud.storage.put(future.job.keys.manifest, old.to_json().encode())
    later = ck.BatchJob(future.job.job_id, cloud=cloud, keys=future.job.keys)
    with pytest.raises(ck.ResultMissingError, match="no longer knows"):
        later.result(LONG)
    assert later.future()[1].result(LONG)[0] == "1"
