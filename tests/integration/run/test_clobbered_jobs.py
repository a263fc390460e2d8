"""`job.clobber` deletes everything stored for a job, and later uses of the job raise an error."""

import socket

import pytest

import cloudknot as ck
from cloudknot.worker.wire.keys import RUNS
from tests.helpers.waiting import LONG, until


def failing(x):
    return 1 / x


def scaled(x, factor):
    return x * factor


def held(address):
    if address is not None:
        with socket.create_connection(tuple(address), timeout=120) as connection:
            connection.recv(1)


@pytest.mark.parametrize("use", ["retry_failed", "map", "reduce", "another session"])
def test_clobbered_job_raises_error_and_submits_nothing(cloud, use):
    knot = ck.Knot(name="clobbered-job", func=failing, cloud=cloud)
    future = knot.map([0, 1])
    assert isinstance(future.exception(LONG), ZeroDivisionError)
    job = future.job
    job.clobber()
    later = ck.BatchJob(job.job_id, cloud=cloud)
    calls = {
        "retry_failed": future.retry_failed,
        "map": lambda: knot.map(future),
        "reduce": lambda: future.reduce(sum),
        "another session": later.result,
    }
    with pytest.raises(ck.ResourceDoesNotExistException, match=rf"{job.job_id} was clobbered.* Map again\.$"):
        calls[use]()
    assert knot.jobs == []
    assert not list(cloud.storage.keys(f"{RUNS}/{knot.name}/"))


def test_job_can_be_clobbered_twice(cloud):
    knot = ck.Knot(name="clobbered-twice", func=failing, cloud=cloud)
    job = knot.map([1]).job
    job.clobber()
    job.clobber()
    ck.BatchJob(job.job_id, cloud=cloud).clobber()
    assert not list(cloud.storage.keys(f"{RUNS}/{knot.name}/"))


class Killed(BaseException):
    """A stand-in for SIGKILL: it ends the session here."""


@pytest.fixture
def killed_at(cloud):
    """Return a function that makes a session on the same cloud. The session is killed after `deletion` deletions."""

    def make(deletion):
        session = ck.LocalCloud(cloud.directory)
        remaining = iter(range(deletion))

        def end(**_):
            if next(remaining, None) is None:
                raise Killed

        session.door.client("s3").meta.events.register("before-call.s3.DeleteObjects", end)
        return session

    return make


# The first deletion is that of no object: it checks the right to delete.
@pytest.mark.parametrize("deletion", range(1, 6))
def test_half_clobbered_job_raises_error_and_can_be_clobbered_completely(cloud, killed_at, deletion):
    knot = ck.Knot(name="clobbered-half", func=scaled, cloud=cloud)
    future = knot.map([1, 2], kwargs={"factor": 3})
    assert future.result(LONG) == [3, 6]
    with pytest.raises(Killed):
        ck.BatchJob(future.job.job_id, cloud=killed_at(deletion)).clobber()
    for call in (
        ck.BatchJob(future.job.job_id, cloud=cloud).result,
        ck.BatchJob(future.job.job_id, cloud=cloud).retry_failed,
        lambda: knot.map(future, kwargs={"factor": 3}),
    ):
        with pytest.raises(ck.ResourceDoesNotExistException, match="was clobbered"):
            call()
    assert knot.map([2], kwargs={"factor": 3}).result(LONG) == [6]
    ck.BatchJob(future.job.job_id, cloud=cloud).clobber()
    (job,) = knot.jobs
    job.clobber()
    # Only a mark of the killed session may remain.
    assert not [key for key in cloud.storage.keys(f"{RUNS}/{knot.name}/") if "given-up-by" not in key]
    knot.clobber(clobber_results=True)


def test_clobbered_running_job_leaves_no_object(cloud, gate):
    knot = ck.Knot(name="clobbered-running", func=held, cloud=cloud)
    future = knot.map([None, gate.address], chunksize=2)
    # The worker stores this result at the latest when its child job is stopped.
    assert future[0].result(LONG) is None
    future.job.clobber()
    assert until(lambda: future.job.status == "FAILED")
    assert not list(cloud.storage.keys(f"{RUNS}/{knot.name}/"))
