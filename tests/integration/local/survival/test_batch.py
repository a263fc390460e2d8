"""Jobs, resources and logs of the embedded cloud's Batch after the end of its server, by `stop` and by SIGKILL."""

import contextlib
import random
import threading
import time
from collections import Counter

import pytest

from cloudknot.errors import CloudknotError
from cloudknot.local import LocalCloud
from tests.helpers.batch import WORKER, Client, alive, until_written
from tests.helpers.waiting import until

ON_LOST_HOST = [
    {"action": "RETRY", "onStatusReason": "Host EC2*"},
    {"action": "EXIT", "onReason": "*", "onExitCode": "*"},
]
RETRIES = {"attempts": 3, "evaluateOnExit": ON_LOST_HOST}
LOST = "Host EC2 (instance i-"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """Return the client of one cloud for all tests here, each of which ends its server."""
    with LocalCloud(tmp_path_factory.mktemp("survival") / "cloud", vcpus=2) as cloud:
        yield Client(cloud)


def reasons(job):
    """Return the statusReason of each attempt."""
    return [attempt["statusReason"] for attempt in job["attempts"]]


def test_running_children_are_lost_and_retried_and_waiting_ones_go_on(client, interrupted, tmp_path):
    array = client.submit(*WORKER, "wait_for", str(tmp_path / "go"), size=4, retryStrategy=RETRIES)
    for index in (0, 1):
        client.wait(f"{array}:{index}", "RUNNING")
    interrupted(client.cloud)
    client.connect()
    (tmp_path / "go").touch()
    assert client.wait(array)["status"] == "SUCCEEDED"
    children = [client.describe(f"{array}:{index}") for index in range(4)]
    assert [len(child["attempts"]) for child in children] == [2, 2, 1, 1]
    for child in children[:2]:
        assert reasons(child)[0].startswith(LOST)
        assert "exitCode" not in child["attempts"][0]["container"]
    # One host for all that ran on it.
    assert len({reasons(child)[0] for child in children[:2]}) == 1


def test_running_job_without_retries_fails_with_its_host(client, interrupted, tmp_path):
    job_id = client.submit(*WORKER, "wait_for", str(tmp_path / "go"))
    client.wait(job_id, "RUNNING")
    interrupted(client.cloud)
    client.connect()
    job = client.wait(job_id)
    assert (job["status"], len(job["attempts"])) == ("FAILED", 1)
    assert job["statusReason"].startswith(LOST)


def test_ended_jobs_and_their_logs_are_as_before(client, interrupted):
    array = client.run("show", size=2)
    failed = client.run("leave", "3", retryStrategy={"attempts": 2})
    ids = [array["jobId"], f"{array['jobId']}:0", failed["jobId"]]
    streams = [client.describe(f"{array['jobId']}:{index}")["container"]["logStreamName"] for index in (0, 1)]
    for stream in streams:
        until(lambda stream=stream: client.lines(stream))

    def seen():
        jobs = client.batch.describe_jobs(jobs=ids)["jobs"]
        listed = client.batch.list_jobs(jobQueue="main", jobStatus="FAILED")["jobSummaryList"][:1]
        children = client.batch.list_jobs(arrayJobId=array["jobId"], jobStatus="SUCCEEDED")["jobSummaryList"]
        return jobs, listed, children, [client.lines(stream) for stream in streams]

    before = seen()
    interrupted(client.cloud)
    client.connect()
    assert seen() == before
    assert [job["jobId"] for job in before[1]] == [failed["jobId"]]


def test_dependents_start_after_a_needed_job_that_was_retried(client, interrupted, tmp_path):
    first = client.submit(*WORKER, "wait_for", str(tmp_path / "go"), size=2, retryStrategy=RETRIES)
    second = client.submit(*WORKER, "leave", "0", size=2, dependsOn=[{"jobId": first, "type": "N_TO_N"}])
    third = client.submit(*WORKER, "leave", "0", dependsOn=[{"jobId": second}])
    client.wait(f"{first}:0", "RUNNING")
    interrupted(client.cloud)
    client.connect()
    assert client.describe(third)["status"] == "PENDING"
    (tmp_path / "go").touch()
    assert client.wait(third)["status"] == "SUCCEEDED"
    assert client.describe(third)["startedAt"] >= client.describe(second)["stoppedAt"]
    assert client.describe(f"{second}:0")["startedAt"] >= client.describe(f"{first}:0")["stoppedAt"]


def test_terminated_job_stays_terminated(client, interrupted, tmp_path):
    program = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"open({str(tmp_path / 'ready')!r}, 'w').close(); time.sleep(600)"
    )
    running = client.submit("python", "-c", program, retryStrategy=RETRIES)
    until((tmp_path / "ready").exists)
    client.batch.terminate_job(jobId=running, reason="enough")
    interrupted(client.cloud)
    client.connect()
    job = client.wait(running)
    assert (job["status"], job["statusReason"], len(job["attempts"])) == ("FAILED", "enough", 1)
    assert job["isTerminated"]


def test_queues_environments_and_definitions_stay_and_no_revision_comes_back(client, interrupted):
    container = {"image": "i", "vcpus": 1, "memory": 9}
    definition = {"jobDefinitionName": "revised", "type": "container", "containerProperties": container}
    kept, latest = (client.batch.register_job_definition(**definition) for _ in range(2))
    client.batch.deregister_job_definition(jobDefinition=latest["jobDefinitionArn"])
    limits = [{"reason": "MISCONFIGURATION:X", "state": "RUNNABLE", "maxTimeSeconds": 700, "action": "CANCEL"}]
    client.batch.update_job_queue(jobQueue="main", jobStateTimeLimitActions=limits)

    def seen():
        return (
            client.batch.describe_job_queues()["jobQueues"],
            client.batch.describe_compute_environments()["computeEnvironments"],
            client.batch.describe_job_definitions(jobDefinitionName="revised")["jobDefinitions"][-2:],
        )

    before = seen()
    interrupted(client.cloud)
    client.connect()
    assert seen() == before
    assert before[0][0]["jobStateTimeLimitActions"] == limits
    assert [found["status"] for found in before[2]] == ["ACTIVE", "INACTIVE"]
    new = client.batch.register_job_definition(**definition)
    assert new["revision"] == latest["revision"] + 1 == kept["revision"] + 2
    client.batch.deregister_job_definition(jobDefinition=new["jobDefinitionArn"])
    client.batch.deregister_job_definition(jobDefinition=kept["jobDefinitionArn"])


def test_job_of_a_deleted_queue_ends_after_a_kill(client, killed, tmp_path):
    client.queue("other")
    job_id = client.submit(*WORKER, "wait_for", str(tmp_path / "go"), jobQueue="other", retryStrategy=RETRIES)
    client.wait(job_id, "RUNNING")
    client.batch.update_job_queue(jobQueue="other", state="DISABLED")
    client.batch.delete_job_queue(jobQueue="other")
    killed(client.cloud)
    client.connect()
    assert client.wait(job_id)["statusReason"] == "The job queue was deleted"


def test_no_process_of_a_job_outlives_a_killed_server(client, killed, tmp_path):
    client.submit(*WORKER, "family", str(tmp_path / "pids"))
    pids = until_written(tmp_path / "pids")
    killed(client.cloud)
    assert until(lambda: not any(map(alive, pids)))


RECORD = (
    "import os; print(os.environ['AWS_BATCH_JOB_ID'], os.environ['AWS_BATCH_JOB_ATTEMPT'], file=open({path!r}, 'a'))"
)


class Load:
    """Sessions that submit jobs while the server is killed. ``acknowledged`` has the ids of the answers."""

    def __init__(self, cloud, path):
        self.cloud, self.path = cloud, path
        self.acknowledged, self.done = [], threading.Event()
        self.threads = [threading.Thread(target=self.submit, args=(size,), daemon=True) for size in (3, None)]

    def submit(self, size):
        command = ["python", "-c", RECORD.format(path=str(self.path))]
        array = {} if size is None else {"arrayProperties": {"size": size}}
        while not self.done.is_set():
            # A refused connection and a cut answer are the subject of the test: such a job may exist or not.
            with contextlib.suppress(CloudknotError, OSError):
                answer = self.cloud.call(
                    "batch",
                    "submit_job",
                    jobName="load",
                    jobQueue="main",
                    jobDefinition="worker",
                    containerOverrides={"command": command},
                    retryStrategy={"attempts": 10, "evaluateOnExit": ON_LOST_HOST},
                    **array,
                )
                self.acknowledged.append((answer["jobId"], size))
            time.sleep(0.5)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        for thread in self.threads:
            thread.join(120)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.more)])
def test_kills_at_random_moments_lose_no_acknowledged_job_and_run_no_attempt_twice(tmp_path, killed, kills):
    chance, record = random.Random(kills), tmp_path / "record"
    with LocalCloud(tmp_path / "own", vcpus=4) as cloud:
        client = Client(cloud)
        assert client.run("leave", "0")["status"] == "SUCCEEDED"
        with Load(cloud, record) as load:
            for _ in range(kills):
                time.sleep(chance.uniform(0.0, 1.5))
                killed(cloud)
        client.connect()
        runs = Counter()
        for job_id, size in load.acknowledged:
            job = client.wait(job_id)
            leaves = [f"{job_id}:{index}" for index in range(size)] if size else [job_id]
            for leaf in client.batch.describe_jobs(jobs=leaves)["jobs"]:
                # Ten lost hosts in a row end a job, too. All others succeed in the end.
                if leaf["status"] == "FAILED":
                    assert all(reason.startswith(LOST) for reason in reasons(leaf))
                    assert len(leaf["attempts"]) == 10
                runs[leaf["jobId"]] = len(leaf["attempts"])
            assert job["status"] == "SUCCEEDED" or kills > 9
    assert load.acknowledged
    lines = record.read_text(encoding="utf-8").splitlines()
    # A line is one execution of one attempt.
    assert max(Counter(lines).values()) == 1
    executed = Counter(line.split()[0] for line in lines)
    for job_id, attempts in runs.items():
        assert 1 <= executed[job_id] <= attempts
