"""A retry that one session asked for, as others see it: they end it, read it and wait for it, not for the map."""

import os
import socket

import pytest

import cloudknot as ck
from tests.helpers.functions import double
from tests.helpers.waiting import LONG, until


def held_needs(address, path, x):
    """``x``, once the gate is open; at first, as long as nobody has made the file, odd ones fail."""
    if not os.path.exists(path):
        if x % 2:
            raise FileNotFoundError(path)
        return x
    print("runs again")
    with socket.create_connection(tuple(address), timeout=120) as connection:
        connection.recv(1)
    return x


@pytest.fixture
def knot(cloud):
    return ck.Knot(name="elsewhere", func=held_needs, cloud=cloud)


@pytest.fixture
def doubling(cloud):
    return ck.Knot(name="elsewhere-double", func=double, cloud=cloud)


@pytest.fixture
def failed(knot, gate, tmp_path):
    """A map of which two of four elements failed, and would not fail again."""
    flag = tmp_path / "there"
    future = knot.map([(gate.address, str(flag), x) for x in range(4)], starmap=True)
    future.exception(LONG)
    until(lambda: future.job.status == "FAILED")
    flag.touch()
    return future


@pytest.fixture
def elsewhere(cloud):
    """The same cloud, as another session has it."""
    return ck.LocalCloud(cloud.directory)


def running(job):
    return until(lambda: job.status in ("RUNNING", "STARTING", "PENDING") and job)


def stopped(job):
    return until(lambda: all(each["status"] == "FAILED" for each in job._view.describe_jobs()))


@pytest.mark.parametrize("end", ["terminate", "clobber", "kill", "cancel"])
@pytest.mark.parametrize("is_old", [False, True], ids=["new object", "read before the retry"])
def test_another_session_ends_the_retry(failed, elsewhere, end, is_old):
    other = ck.BatchJob(failed.job.job_id, cloud=elsewhere)
    if is_old:
        assert other.job_ids == failed.job.job_ids
        other.future().exception(LONG)
    again = failed.retry_failed()
    running(again.job)
    if end == "clobber":
        other.clobber()
    elif end == "cancel":
        assert other.future().cancel()
    else:
        getattr(other, end)("no more of it")
    stopped(again.job)
    if end != "clobber":
        assert [type(each.exception(LONG)) for each in (again[0], again[2])] == [type(None)] * 2
        assert again[1].exception(LONG) is not None
        assert again[3].exception(LONG) is not None


def test_another_session_sees_the_retry(failed, elsewhere, gate):
    fresh = [ck.BatchJob(failed.job.job_id, cloud=elsewhere) for _ in range(5)]
    again = running(failed.retry_failed().job)
    assert fresh[0].job_ids == again.job_ids
    assert until(lambda: "runs again" in list(again.logs(1)))
    assert list(fresh[1].logs()).count("runs again") == list(again.logs()).count("runs again") >= 1
    assert len(fresh[2].log_urls) == len(again.log_urls) > 4
    assert fresh[3].status in ("RUNNING", "STARTING", "PENDING")
    gate.open()
    assert again.result(LONG) == [0, 1, 2, 3]
    assert until(lambda: again.status == "SUCCEEDED")
    assert len(fresh[4].attempts) == len(again.attempts) == 6


def test_what_was_seen_before_a_retry_is_looked_at_anew(failed, elsewhere, gate):
    other = ck.BatchJob(failed.job.job_id, cloud=elsewhere)
    other.future().exception(LONG)
    again = failed.retry_failed()
    assert other.job_ids == again.job.job_ids
    gate.open()
    assert other.result(LONG) == [0, 1, 2, 3]


def test_the_table_of_another_session_shows_the_retry(failed, elsewhere, capsys):
    again = failed.retry_failed()
    running(again.job)
    ck.Knot(name="elsewhere", cloud=elsewhere).view_jobs()
    row = next(line for line in capsys.readouterr().out.splitlines() if failed.job.job_id in line)
    assert "FAILED" not in row
    again.cancel()


def test_dependents_of_another_session_wait_for_the_retry(failed, doubling, elsewhere, gate):
    job = failed.job
    again = failed.retry_failed()
    jobs = [ck.BatchJob(job.job_id, cloud=elsewhere) for _ in range(3)]
    other = ck.Knot(name="elsewhere-double", cloud=elsewhere)
    mapped, total = other.map(jobs[0]), jobs[1].reduce(sum, requirements=[])
    after = other.map([5], depends_on=[jobs[2]])
    waits = [{"jobId": again.job.job_ids[0]}]
    for future in (mapped, total, after):
        assert [each["dependsOn"] for each in future.job._view.describe_jobs()] == [waits]
    gate.open()
    assert mapped.result(LONG) == [0, 2, 4, 6]
    assert total.result(LONG) == 6
    assert after.result(LONG) == [10]


@pytest.mark.parametrize("is_elsewhere", [False, True], ids=["same session", "other session"])
def test_retries_of_dependents_wait_for_the_retry_of_their_source(failed, doubling, elsewhere, gate, is_elsewhere):
    mapped = doubling.map(failed)
    total = mapped.reduce(sum)
    for each in (mapped, total):
        assert each.exception(LONG) is not None
        until(lambda job=each.job: job.status == "FAILED")
    again = failed.retry_failed()
    if is_elsewhere:
        mapped, total = (ck.BatchJob(each.job.job_id, cloud=elsewhere).future() for each in (mapped, total))
    mapped_again = mapped.retry_failed()
    total_again = total.retry_failed()
    assert mapped_again.job._view.describe_jobs()[0]["dependsOn"] == [{"jobId": again.job.job_ids[0]}]
    assert total_again.job._view.describe_jobs()[0]["dependsOn"] == [{"jobId": mapped_again.job.job_ids[0]}]
    gate.open()
    assert mapped_again.result(LONG) == [0, 2, 4, 6]
    assert total_again.result(LONG) == 12


def test_a_retry_of_a_dependent_names_the_retry_that_failed_before_it(failed, doubling):
    mapped = doubling.map(failed)
    assert mapped.exception(LONG) is not None
    until(lambda: mapped.job.status == "FAILED")
    again = failed.retry_failed()
    mapped_again = mapped.retry_failed()
    running(again.job)
    again.cancel()
    with pytest.raises(ck.DependencyFailedError, match=again.job.job_ids[0]):
        mapped_again.result(LONG)
