"""Other sessions end, read and wait for a retry that one session submitted.

A second `LocalCloud` object stands for the other session. A gate holds the retry up.
"""

import os
import socket
import threading

import pytest

import cloudknot as ck
from cloudknot.aws.batch import LIVE_STATES
from tests.helpers.functions import double
from tests.helpers.waiting import LONG, until


def held_odd_needs_file(address, path, x):
    """Return ``x``. Before the file exists, odd ones fail. Afterwards each call waits for the gate."""
    if not os.path.exists(path):
        if x % 2:
            raise FileNotFoundError(path)
        return x
    print("runs in a retry")
    with socket.create_connection(tuple(address), timeout=120) as connection:
        connection.recv(1)
    return x


@pytest.fixture
def knot(cloud):
    return ck.Knot(name="elsewhere", func=held_odd_needs_file, cloud=cloud)


@pytest.fixture
def doubling(cloud):
    return ck.Knot(name="elsewhere-double", func=double, cloud=cloud)


@pytest.fixture
def failed(knot, gate, tmp_path):
    """Return a map with two failed elements of four. They would succeed in a retry."""
    file = tmp_path / "exists"
    future = knot.map([(gate.address, str(file), x) for x in range(4)], starmap=True)
    future.exception(LONG)
    until(lambda: future.job.status == "FAILED")
    file.touch()
    return future


@pytest.fixture
def elsewhere(cloud):
    """Return the same cloud as another session sees it."""
    return ck.LocalCloud(cloud.directory)


def fails_and_lingers(address, path):
    """Fail before the file exists. The process then goes on until the gate is open."""

    def linger():
        with socket.create_connection(tuple(address), timeout=120) as connection:
            connection.recv(1)

    if not os.path.exists(path):
        threading.Thread(target=linger).start()
        raise FileNotFoundError(path)
    return path


def test_another_session_retries_failures_before_batch_reports_the_end(cloud, elsewhere, gate, tmp_path):
    path = tmp_path / "exists"
    future = ck.Knot(name="elsewhere-lingers", func=fails_and_lingers, cloud=cloud).map(
        [(gate.address, str(path))], starmap=True
    )
    assert isinstance(future.exception(LONG), FileNotFoundError)
    path.touch()
    assert future.job.status in LIVE_STATES
    assert ck.BatchJob(future.job.job_id, cloud=elsewhere).retry_failed().result(LONG) == [str(path)]


def wait_until_running(job):
    """Wait until the job runs or is about to, and return it."""
    return until(lambda: job.status in ("RUNNING", "STARTING", "RUNNABLE", "PENDING") and job)


def wait_until_failed(job):
    return until(lambda: all(description["status"] == "FAILED" for description in job._view.describe_jobs()))


@pytest.mark.parametrize("end", ["terminate", "clobber", "kill", "cancel"])
@pytest.mark.parametrize("is_old", [False, True], ids=["new object", "read before the retry"])
def test_another_session_ends_retry(failed, elsewhere, end, is_old):
    other_job = ck.BatchJob(failed.job.job_id, cloud=elsewhere)
    if is_old:
        assert other_job.job_ids == failed.job.job_ids
        other_job.future().exception(LONG)
    retry = failed.retry_failed()
    wait_until_running(retry.job)
    if end == "clobber":
        other_job.clobber()
    elif end == "cancel":
        assert other_job.future().cancel()
    else:
        getattr(other_job, end)("no more of it")
    wait_until_failed(retry.job)
    if end != "clobber":
        assert [type(element.exception(LONG)) for element in (retry[0], retry[2])] == [type(None)] * 2
        assert retry[1].exception(LONG) is not None
        assert retry[3].exception(LONG) is not None


def test_another_session_sees_retry(failed, elsewhere, gate):
    # One object for each question, so that each answers without having read the run before.
    fresh = [ck.BatchJob(failed.job.job_id, cloud=elsewhere) for _ in range(5)]
    retry = wait_until_running(failed.retry_failed().job)
    assert fresh[0].job_ids == retry.job_ids
    # Both elements run, and their lines are in the logs.
    assert until(lambda: list(retry.logs()).count("runs in a retry") == 2)
    assert list(fresh[1].logs()).count("runs in a retry") == 2
    assert len(fresh[2].log_urls) == len(retry.log_urls) == 6
    assert fresh[3].status in ("RUNNING", "STARTING", "RUNNABLE", "PENDING")
    gate.open()
    assert retry.result(LONG) == [0, 1, 2, 3]
    assert until(lambda: retry.status == "SUCCEEDED")
    assert len(fresh[4].attempts) == len(retry.attempts) == 6


def test_another_session_refreshes_job_that_it_read_before_retry(failed, elsewhere, gate):
    other_job = ck.BatchJob(failed.job.job_id, cloud=elsewhere)
    other_job.future().exception(LONG)
    retry = failed.retry_failed()
    assert other_job.job_ids == retry.job.job_ids
    gate.open()
    assert other_job.result(LONG) == [0, 1, 2, 3]


def test_table_in_another_session_shows_retry(failed, elsewhere, capsys):
    retry = failed.retry_failed()
    wait_until_running(retry.job)
    ck.Knot(name="elsewhere", cloud=elsewhere).view_jobs()
    row = next(line for line in capsys.readouterr().out.splitlines() if failed.job.job_id in line)
    assert "FAILED" not in row
    retry.cancel()


def test_dependents_from_another_session_wait_for_retry(failed, doubling, elsewhere, gate):
    job = failed.job
    retry = failed.retry_failed()
    jobs = [ck.BatchJob(job.job_id, cloud=elsewhere) for _ in range(3)]
    other_knot = ck.Knot(name="elsewhere-double", cloud=elsewhere)
    mapped, total = other_knot.map(jobs[0]), jobs[1].reduce(sum, requirements=[])
    after = other_knot.map([5], depends_on=[jobs[2]])
    waits = [{"jobId": retry.job.job_ids[0]}]
    for future in (mapped, total, after):
        assert [description["dependsOn"] for description in future.job._view.describe_jobs()] == [waits]
    gate.open()
    assert mapped.result(LONG) == [0, 2, 4, 6]
    assert total.result(LONG) == 6
    assert after.result(LONG) == [10]


@pytest.mark.parametrize("is_elsewhere", [False, True], ids=["same session", "other session"])
def test_retries_of_dependents_wait_for_retry_of_their_source(failed, doubling, elsewhere, gate, is_elsewhere):
    mapped = doubling.map(failed)
    total = mapped.reduce(sum)
    for future in (mapped, total):
        assert future.exception(LONG) is not None
        until(lambda job=future.job: job.status == "FAILED")
    retry = failed.retry_failed()
    if is_elsewhere:
        mapped, total = (ck.BatchJob(future.job.job_id, cloud=elsewhere).future() for future in (mapped, total))
    mapped_retry = mapped.retry_failed()
    total_retry = total.retry_failed()
    assert mapped_retry.job._view.describe_jobs()[0]["dependsOn"] == [{"jobId": retry.job.job_ids[0]}]
    assert total_retry.job._view.describe_jobs()[0]["dependsOn"] == [{"jobId": mapped_retry.job.job_ids[0]}]
    gate.open()
    assert mapped_retry.result(LONG) == [0, 2, 4, 6]
    assert total_retry.result(LONG) == 12


def test_retry_of_dependent_names_failed_retry_of_its_source(failed, doubling):
    mapped = doubling.map(failed)
    assert mapped.exception(LONG) is not None
    until(lambda: mapped.job.status == "FAILED")
    retry = failed.retry_failed()
    mapped_retry = mapped.retry_failed()
    wait_until_running(retry.job)
    retry.cancel()
    with pytest.raises(ck.DependencyFailedError, match=retry.job.job_ids[0]):
        mapped_retry.result(LONG)
