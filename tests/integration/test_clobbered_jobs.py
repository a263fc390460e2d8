"""`job.clobber`: nothing of the job is left, and whoever asks for it afterwards is told."""

import socket

import pytest

import cloudknot as ck
from cloudknot.worker.protocol import RUNS
from tests.waiting import LONG, until


def failing(x):
    return 1 / x


def held(address):
    if address is not None:
        with socket.create_connection(tuple(address), timeout=120) as connection:
            connection.recv(1)


@pytest.mark.parametrize("again", ["retry_failed", "map", "reduce", "another session", "clobber"])
def test_a_job_that_was_clobbered_says_so_and_nothing_is_submitted(cloud, again):
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
        "clobber": later.clobber,
    }
    with pytest.raises(ck.ResourceDoesNotExistException, match=rf"{job.job_id} was clobbered.* Map again\.$"):
        calls[again]()
    assert knot.jobs == []
    assert not list(cloud.storage.keys(f"{RUNS}/{knot.name}/"))


def test_a_job_that_is_clobbered_while_it_runs_leaves_nothing_behind(cloud, gate):
    knot = ck.Knot(name="clobbered-running", func=held, cloud=cloud)
    future = knot.map([None, gate.address], chunksize=2)
    # What has ended is stored when the child is stopped, if not before.
    assert future[0].result(LONG) is None
    future.job.clobber()
    assert until(lambda: future.job.status == "FAILED")
    assert not list(cloud.storage.keys(f"{RUNS}/{knot.name}/"))
