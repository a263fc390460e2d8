"""The next session finds every submitted job of a session that was killed during a map.

The sessions are real interpreters that kill themselves with SIGKILL before or after a chosen call.
"""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

import cloudknot as ck
from cloudknot.aws import batch
from cloudknot.run.submit.ids import ABANDONED, run_time
from cloudknot.run.submit.shared_objects import claim
from cloudknot.run.submit.stored_runs import discard_abandoned, runs_of
from cloudknot.worker.wire.keys import RUNS
from tests.faulty_cloud.switches import FaultSwitches
from tests.helpers.waiting import LONG, until

CLIENT = """
import os, signal, sys
import cloudknot as ck
from tests.helpers.counting import hook

folder, name, moment, key, job_type = sys.argv[1:]

def traced(folder, index):
    with open(os.path.join(folder, str(index)), "a") as file:
        file.write("x")
    return index * 10

traced.__globals__["os"] = os
cloud = ck.LocalCloud(os.environ["CLOUDKNOT_LOCAL_DIR"])
knot = ck.Knot(name=name, func=traced, cloud=cloud)

def die(params=None, model=None, **more):
    if model.name == operation and key in str((params or {}).get("url_path", request.get("url_path", ""))):
        os.kill(os.getpid(), signal.SIGKILL)

request = {}

def remember(params, model, **more):
    request.clear()
    request.update(url_path=params.get("url_path", ""))

when, _, operation = moment.partition(" ")

def die_at(path):
    if key in path:
        os.kill(os.getpid(), signal.SIGKILL)

methods = {"PutObject": ["put_quickly"], "GetObject": ["read_quickly", "open_quickly"]}
for method in methods.get(operation, ()):
    hook(cloud.door, method, **{when: die_at})
for service in ("s3", "batch"):
    events = cloud.door.client(service).meta.events
    events.register("before-call", remember)
    events.register("before-call" if when == "before" else "after-call", die)

future = knot.map([(folder, index) for index in range(3)], starmap=True, job_type=job_type)
print(future.result())
"""


@pytest.fixture
def kill_at(cloud, tmp_path):
    """Return a function that runs the client until it kills itself before or after a call.

    The function returns the folder in which each call of the mapped function leaves a trace.
    """

    def run(name, moment, key="", job_type="array"):
        (tmp_path / "client.py").write_text(CLIENT)
        traces = tmp_path / "traces"
        traces.mkdir(exist_ok=True)
        environment = {**os.environ, "CLOUDKNOT_LOCAL_DIR": str(cloud.directory), "PYTHONPATH": os.getcwd()}
        command = [sys.executable, "client.py", str(traces), name, moment, key, job_type]
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LONG)
        assert result.returncode == -signal.SIGKILL, result.stderr
        return traces

    return run


def calls(folder):
    """Return the number of calls for each element, by its index."""
    return {path.name: len(path.read_text()) for path in folder.iterdir()}


def jobs_in_queue(cloud, knot):
    """Return the ids of all jobs in the knot's queue, running or ended."""
    # ListJobs with a filter on the time lists jobs of every status.
    pages = cloud.pages(
        "batch", "list_jobs", jobQueue=knot.job_queue, filters=[{"name": "AFTER_CREATED_AT", "values": ["0"]}]
    )
    return [job["jobId"] for page in pages for job in page["jobSummaryList"]]


@pytest.mark.parametrize(
    ("moment", "key"),
    [
        ("before PutObject", "/inputs"),
        ("after PutObject", "/inputs"),
        ("before PutObject", "manifest.json"),
        ("after PutObject", "manifest.json"),
        ("before SubmitJob", ""),
    ],
)
def test_session_killed_before_submission_leaves_no_job_and_next_session_can_map(cloud, kill_at, moment, key):
    name = f"killed-{moment.split()[0]}-{key.strip('/').partition('.')[0] or 'submit'}"
    traces = kill_at(name, moment, key)
    knot = ck.Knot(name=name, cloud=cloud)
    assert knot.jobs == []
    assert jobs_in_queue(cloud, knot) == []
    assert calls(traces) == {}
    # The leftovers of the killed session do not disturb the next map.
    assert knot.map([(str(traces), 7)], starmap=True).result(LONG) == [70]
    assert len(knot.jobs) == 1
    assert calls(traces) == {"7": 1}


@pytest.mark.parametrize(
    ("moment", "key"),
    [
        ("after SubmitJob", ""),
        ("before PutObject", "submission.json"),
        ("after PutObject", "submission.json"),
        ("before DescribeJobs", ""),
        ("after ListObjectsV2", ""),
        ("before GetObject", "/outputs/"),
    ],
)
def test_next_session_finds_job_of_session_killed_after_submission(cloud, kill_at, moment, key):
    name = f"killed-{'-'.join(moment.lower().split())}-{key.strip('/').partition('.')[0]}".rstrip("-")
    traces = kill_at(name, moment, key)
    knot = ck.Knot(name=name, cloud=cloud)
    (job,) = knot.jobs
    assert job.result(LONG) == [0, 10, 20]
    assert jobs_in_queue(cloud, knot) == [job.job_id]
    assert calls(traces) == {"0": 1, "1": 1, "2": 1}
    assert cloud.storage.get(job.keys.submission)
    assert ck.BatchJob(job.job_id, cloud=ck.LocalCloud(cloud.directory)).result(LONG) == [0, 10, 20]


@pytest.mark.parametrize("job_type", ["array", "independent"])
def test_next_session_finds_job_without_record_that_batch_has_forgotten(cloud, kill_at, job_type):
    """The first child job has stored the record."""
    name = f"killed-forgotten-{job_type}"
    kill_at(name, "after SubmitJob", job_type=job_type)
    knot = ck.Knot(name=name, cloud=cloud)
    (job_id,) = jobs_in_queue(cloud, knot)
    until(lambda: cloud.call("batch", "describe_jobs", jobs=[job_id])["jobs"][0]["status"] == "SUCCEEDED")
    FaultSwitches(cloud).forget(job_id)
    assert jobs_in_queue(cloud, knot) == []
    (job,) = knot.jobs
    assert job.job_id == job_id
    if job_type == "array":
        assert job.result(LONG) == [0, 10, 20]
    else:
        assert job.future()[0].result(LONG) == 0


@pytest.mark.parametrize(("moment", "submitted"), [("before SubmitJob", 0), ("after SubmitJob", 1)])
def test_next_session_completes_half_submitted_independent_map(cloud, kill_at, moment, submitted):
    name = f"killed-independent-{submitted}"
    traces = kill_at(name, moment, job_type="independent")
    knot = ck.Knot(name=name, cloud=cloud)
    assert len(jobs_in_queue(cloud, knot)) == submitted
    if not submitted:
        assert knot.jobs == []
        return
    (job,) = knot.jobs
    assert job.job_ids == jobs_in_queue(cloud, knot)
    assert job.future()[0].result(LONG) == 0
    # The message shows the states at the collector's last poll.
    until(lambda: job.states.get("SUCCEEDED") == 1)
    assert calls(traces) == {"0": 1}
    # Another session could still be submitting, so the session gives up the missing jobs only after a long time.
    with pytest.raises(ck.CKTimeoutError, match=r"Progress: 1/3, 2 not submitted yet .*retry_failed\(\)"):
        job.result(1)
    old = replace(job.manifest, created="2026-01-01T00:00:00+00:00")
    cloud.storage.put(job.keys.manifest, old.to_document(job.keys.manifest))
    later = ck.BatchJob(job.job_id, cloud=cloud)
    with pytest.raises(ck.JobNotSubmittedError, match=r"^Element 1 .*Submit it: future\.retry_failed\(\)\."):
        later.result(LONG)
    assert later.retry_failed().result(LONG) == [0, 10, 20]
    assert calls(traces) == {"0": 1, "1": 1, "2": 1}


def test_reading_jobs_of_knot_deletes_old_leftovers(cloud):
    knot = ck.Knot(name="killed-long-ago", func=str, cloud=cloud)
    folder, old = f"{RUNS}/{knot.name}/", "20260101T000000000000-abcdef"
    key, _ = claim(cloud.storage, knot.name, "d" * 64, old)
    for leftover in (f"{folder}{old}/inputs", key):
        cloud.storage.put(leftover, b"large")
    assert knot.map([1]).result(LONG) == ["1"]
    (job,) = knot.jobs
    assert all(stored.startswith(job.keys.prefix) for stored in cloud.storage.keys(folder))


def test_cleanup_deletes_old_run_that_was_never_submitted(cloud, kill_at, tmp_path):
    kill_at("killed-abandoned", "before SubmitJob")
    knot = ck.Knot(name="killed-abandoned", cloud=cloud)
    future = knot.map([(str(tmp_path), 0)], starmap=True, env_vars={"UNUSED": "1"})
    abandoned, submitted = runs_of(cloud, "killed-abandoned")
    created = run_time(submitted.run_id)
    assert discard_abandoned(cloud, [abandoned, submitted], created) == []
    assert discard_abandoned(cloud, [abandoned, submitted], created + 2 * ABANDONED) == [abandoned.run_id]
    assert runs_of(cloud, "killed-abandoned") == [submitted]
    assert list(cloud.storage.keys(f"{abandoned.prefix}/")) == []
    assert future.job.keys == submitted
    assert batch.find_by_name(cloud.door, future.job.job_queue, future.job.name)
