"""A session that is killed inside `retry_failed` blocks no later retry, and no element runs twice or is lost."""

import os
import signal
import subprocess
import sys

import pytest

import cloudknot as ck
from tests.helpers.paths import ROOT
from tests.helpers.waiting import LONG, until

CLIENT = """
import os, signal, sys
import cloudknot as ck
from tests.helpers.counting import hook

job_id, when, operation, key = sys.argv[1:]
cloud = ck.LocalCloud(os.environ["CLOUDKNOT_LOCAL_DIR"])
job = ck.BatchJob(job_id, cloud=cloud)
request = {}

def remember(params, model, **more):
    request.update(url_path=params.get("url_path", ""))

def die(model, **more):
    if model.name == operation and request["url_path"].endswith(key):
        os.kill(os.getpid(), signal.SIGKILL)

for service in ("s3", "batch"):
    events = cloud.door.client(service).meta.events
    events.register("before-call", remember)
    events.register(f"{when}-call", die)

def die_at(path):
    if operation == "PutObject" and path.endswith(key):
        os.kill(os.getpid(), signal.SIGKILL)

hook(cloud.door, "put_quickly", **{when: die_at})
job.retry_failed()
"""


def fail_once(folder, index):
    """Fail in the first call for each odd index."""
    import os

    path = os.path.join(folder, str(index))
    with open(path, "a") as file:
        file.write("x")
    if index % 2 and os.path.getsize(path) == 1:
        raise LookupError(f"{index} is not ready")
    return index * 10


def killed_retry(cloud, job_id, *moment):
    """Run a session that kills itself inside `retry_failed`."""
    environment = {**os.environ, "CLOUDKNOT_LOCAL_DIR": str(cloud.directory), "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", CLIENT, job_id, *moment],
        env=environment,
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr


def retried(cloud, job_id):
    """Return the results after a retry in a session of its own, or after the retry of the killed session."""
    job = ck.BatchJob(job_id, cloud=ck.LocalCloud(cloud.directory))

    def values():
        try:
            return job.retry_failed().result(LONG)
        except ck.JobRunningError:
            # The killed session submitted its job, which now runs.
            return None

    return until(values)


@pytest.mark.parametrize(
    ("when", "operation", "key"),
    [
        pytest.param("before", "PutObject", "round.1.json", marks=pytest.mark.large),
        ("after", "PutObject", "round.1.json"),
        ("before", "SubmitJob", ""),
        ("after", "SubmitJob", ""),
        pytest.param("before", "PutObject", "submission.1.json", marks=pytest.mark.large),
    ],
)
def test_session_killed_inside_retry_blocks_no_later_retry(
    cloud, process_knot_of, tmp_path, monkeypatch, when, operation, key
):
    monkeypatch.setattr("cloudknot.run.jobs.retries.retry.CLAIM_PATIENCE", 1.0)
    folder = tmp_path / "calls"
    folder.mkdir()
    future = process_knot_of(fail_once).map([(str(folder), index) for index in range(4)], starmap=True)
    with pytest.raises(LookupError):
        future.result(LONG)
    until(lambda: future.job.status == "FAILED")
    killed_retry(cloud, future.job.job_id, when, operation, key)
    assert retried(cloud, future.job.job_id) == [0, 10, 20, 30]
    assert {path.name: path.stat().st_size for path in folder.iterdir()} == {"0": 1, "1": 2, "2": 1, "3": 2}
    # The first session reads the same results.
    assert future.job.result(LONG) == [0, 10, 20, 30]
