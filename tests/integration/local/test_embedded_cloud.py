"""The embedded cloud as a client sees it: a real server, real HTTP through boto3, real job processes."""

import fcntl
import itertools
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from cloudknot.errors import CloudError, CloudknotInputError, ImageError
from cloudknot.image.publish import publish
from cloudknot.local import LocalCloud
from cloudknot.local.batch.logs import LogShipper
from cloudknot.local.batch.records import Exited, Started, Task
from cloudknot.local.runners.fork_server_process import ForkServerProcess
from cloudknot.local.runners.images import materialise
from cloudknot.local.runners.process import ProcessRunner
from cloudknot.local.state import CloudState, is_locked, locked, read_state, server_lock, state_file, write_state
from tests.helpers.paths import ROOT
from tests.helpers.waiting import until

WORKER = ["python", "-m", "cloudknot_worker"]
WORKER_SOURCE = """
import atexit, json, os, signal, subprocess, sys, threading, time

def warm():
    pass

def main(argv):
    name, *rest = argv
    return globals()[name](*rest)

def show():
    print(json.dumps({"environment": dict(os.environ), "directory": os.getcwd(), "files": os.listdir(),
                      "path": sys.path, "prefix": sys.prefix}))

def leave(code):
    os._exit(int(code))

def fall(number):
    os.kill(os.getpid(), int(number))
    time.sleep(60)

def sys_exit(text):
    sys.exit(text)

def throw():
    raise RuntimeError("thrown by the job")

def once():
    return 0 if os.environ["AWS_BATCH_JOB_ATTEMPT"] == "2" else 5

def fail_if(index):
    return int(os.environ["AWS_BATCH_JOB_ARRAY_INDEX"] == index)

def family(path):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(path + ".new", "w") as stream:
        stream.write(f"{os.getpid()} {child.pid}")
    os.rename(path + ".new", path)
    time.sleep(600)

def linger():
    atexit.register(lambda: (print("atexit function"), sys.exit(3)))
    threading.Thread(target=lambda: (time.sleep(0.3), print("thread"))).start()
    return 7

def nap():
    time.sleep(0.2)

def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)

def escape(path):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    with open(path + ".new", "w") as stream:
        stream.write(str(child.pid))
    os.rename(path + ".new", path)
    wait_for(path + ".go")

def escape_without_a_trace(path):
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            with open(path + ".new", "w") as stream:
                stream.write(str(os.getpid()))
            os.rename(path + ".new", path)
            time.sleep(600)
        os._exit(0)
    wait_for(path)

def talk(path):
    print("first line")
    while not os.path.exists(path):
        time.sleep(0.01)
    print("last line", end="")
"""


@dataclass(frozen=True)
class Image:
    tag: str
    requirements: tuple[str, ...] = ()
    environment_digest: str = "none"
    nocache: bool = False
    extra_tags: tuple[str, ...] = ()
    needs_engine: str = ""
    has_environment_stage: bool = False
    files: dict = field(
        default_factory=lambda: {
            "cloudknot_worker/__init__.py": b"",
            "cloudknot_worker/__main__.py": WORKER_SOURCE.encode(),
        }
    )


class Client:
    """What the tests do with a cloud's Batch."""

    def __init__(self, cloud):
        self.cloud = cloud
        self.batch, self.logs = cloud.client("batch"), cloud.client("logs")
        self.image = publish(cloud, Image("worker"), cloud.repository("tests"))
        role = cloud.call("iam", "create_role", RoleName="service", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        self.batch.create_compute_environment(computeEnvironmentName="env", type="UNMANAGED", serviceRole=role)
        self.queue("main")
        self.define("worker", self.image)

    def queue(self, name):
        order = [{"order": 1, "computeEnvironment": "env"}]
        self.batch.create_job_queue(jobQueueName=name, state="ENABLED", priority=1, computeEnvironmentOrder=order)

    def define(self, name, image, **choices):
        container = {"image": image, "vcpus": 1, "memory": 128, "command": ["true"], **choices}
        self.batch.register_job_definition(jobDefinitionName=name, type="container", containerProperties=container)

    def submit(self, *command, size=None, environment=None, **choices):
        overrides = {"command": list(command)} if command else {}
        if environment:
            overrides["environment"] = [{"name": name, "value": value} for name, value in environment.items()]
        if size:
            choices["arrayProperties"] = {"size": size}
        settings = {"jobName": "job", "jobQueue": "main", "jobDefinition": "worker", **choices}
        return self.batch.submit_job(**settings, containerOverrides=overrides)["jobId"]

    def describe(self, job_id):
        return self.batch.describe_jobs(jobs=[job_id])["jobs"][0]

    def wait(self, job_id, *statuses):
        return until(lambda: (job := self.describe(job_id))["status"] in (statuses or ("SUCCEEDED", "FAILED")) and job)

    def run(self, *command, **choices):
        return self.wait(self.submit(*WORKER, *command, **choices))

    def lines(self, stream):
        try:
            events = self.logs.get_log_events(logGroupName="/aws/batch/job", logStreamName=stream, startFromHead=True)
        except self.logs.exceptions.ResourceNotFoundException:
            return []
        return [event["message"] for event in events["events"]]

    def shown(self, job_id):
        """What the worker's ``show`` printed in a job that has ended."""
        stream = self.wait(job_id)["container"]["logStreamName"]
        return json.loads(until(lambda: self.lines(stream))[0])


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("embedded") / "local"


@pytest.fixture(scope="module")
def embedded(directory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECRET_OF_THE_USER", "leaked")
        patch.setenv("PYTHONPATH", "/somewhere/of/the/user")
        with LocalCloud(directory, vcpus=2) as cloud:
            yield cloud


@pytest.fixture(scope="module")
def client(embedded):
    return Client(embedded)


@pytest.fixture
def own_cloud(tmp_path):
    """A cloud for one test to be rough with."""
    with LocalCloud(tmp_path / "own", vcpus=2) as cloud:
        yield cloud


class TestRequests:
    def test_only_the_owner_can_read_the_key(self, embedded, directory):
        assert stat.S_IMODE(state_file(directory).stat().st_mode) == 0o600
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert read_state(directory).secret_key not in repr(read_state(directory))

    @pytest.mark.parametrize("path", ["/", "/_cloudknot/status", "/moto-api/reset", "/v1/submitjob", "/bucket/key"])
    def test_an_unsigned_request_is_refused(self, embedded, path):
        connection = HTTPConnection(embedded.endpoint_url.partition("//")[2], timeout=10)
        connection.request("POST", path, body=b"{}")
        assert connection.getresponse().status == 403
        connection.close()

    @pytest.mark.parametrize(
        ("service", "operation", "code"),
        [
            ("s3", "list_buckets", "SignatureDoesNotMatch"),
            ("sts", "get_caller_identity", "SignatureDoesNotMatch"),
            ("ec2", "describe_vpcs", "SignatureDoesNotMatch"),
            ("batch", "describe_job_queues", "SignatureDoesNotMatch"),
            ("logs", "describe_log_groups", "SignatureDoesNotMatch"),
        ],
    )
    def test_a_wrong_secret_is_refused_in_each_protocol(self, embedded, directory, service, operation, code):
        client = foreign_client(service, embedded, read_state(directory).access_key)
        with pytest.raises(ClientError) as caught:
            getattr(client, operation)()
        assert caught.value.response["Error"]["Code"] == code

    def test_a_wrong_key_is_refused(self, embedded):
        with pytest.raises(ClientError) as caught:
            foreign_client("s3", embedded, "AKIANOBODY").list_buckets()
        assert caught.value.response["Error"]["Code"] == "InvalidAccessKeyId"

    def test_objects_with_difficult_keys_come_back_as_they_were(self, embedded):
        s3 = embedded.client("s3")
        s3.create_bucket(Bucket="difficult")
        for key in ("a b/c+d", "100%/é", "a//b", "x?y=z&w", "~tilde=(1)"):
            s3.put_object(Bucket="difficult", Key=key, Body=key.encode())
            assert s3.get_object(Bucket="difficult", Key=key)["Body"].read() == key.encode()

    def test_a_large_object_travels(self, embedded):
        s3, data = embedded.client("s3"), os.urandom(3 << 20)
        s3.create_bucket(Bucket="large")
        s3.put_object(Bucket="large", Key="k", Body=data)
        assert (
            s3.get_object(Bucket="large", Key="k", Range="bytes=1000000-1000009")["Body"].read()
            == (data[1000000:1000010])
        )

    def test_an_empty_object_travels(self, embedded):
        s3 = embedded.client("s3")
        s3.create_bucket(Bucket="empty")
        s3.put_object(Bucket="empty", Key="k", Body=b"")
        assert s3.get_object(Bucket="empty", Key="k")["Body"].read() == b""

    def test_the_users_profile_and_files_do_not_matter(self, directory, embedded, monkeypatch):
        monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
        monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null/nonsense")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIASOMEONEELSE")
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        assert LocalCloud(directory).account == embedded.account


def foreign_client(service, cloud, access_key):
    return boto3.client(
        service,
        endpoint_url=cloud.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key="wrong",
    )


class TestEnvironment:
    def test_a_job_sees_its_own_environment_and_nothing_of_the_users(self, client, directory):
        job_id = client.submit(*WORKER, "show", environment={"MINE": "yes"})
        shown = client.shown(job_id)
        variables, environment = shown["environment"], directory / "environments" / "none"
        assert variables["MINE"] == "yes"
        assert variables["AWS_BATCH_JOB_ID"] == job_id
        assert variables["AWS_ENDPOINT_URL"] == client.cloud.endpoint_url
        assert variables["PATH"].startswith(str(directory / "images" / "worker" / "environment" / "bin"))
        assert variables["HOME"] == shown["directory"]
        allowed = {"MINE", "PATH", "HOME", "LANG", "LC_ALL", "TZ"}
        assert {name for name in variables if not name.startswith("AWS_")} <= allowed
        assert "AWS_BATCH_JOB_ARRAY_INDEX" not in variables
        assert shown["prefix"] == str(environment.resolve()) or Path(shown["prefix"]).resolve() == environment
        assert "/somewhere/of/the/user" not in shown["path"]

    def test_its_directory_is_empty_and_gone_afterwards(self, client):
        shown = client.shown(client.submit(*WORKER, "show"))
        assert shown["files"] == []
        until(lambda: not Path(shown["directory"]).exists())

    def test_children_know_their_index_and_the_size(self, client):
        array = client.submit(*WORKER, "show", size=3)
        seen = [client.shown(f"{array}:{index}")["environment"] for index in range(3)]
        assert [one["AWS_BATCH_JOB_ARRAY_INDEX"] for one in seen] == ["0", "1", "2"]
        assert {one["AWS_BATCH_JOB_ARRAY_SIZE"] for one in seen} == {"3"}
        assert [one["AWS_BATCH_JOB_ID"] for one in seen] == [f"{array}:{index}" for index in range(3)]

    def test_any_other_command_is_run_with_parameters_put_in(self, client):
        client.define("echo", client.image, command=["echo", "Ref::what", "Ref::unknown"])
        job = client.wait(client.submit(jobDefinition="echo", parameters={"what": "it"}))
        assert job["container"]["command"] == ["echo", "it", "Ref::unknown"]
        assert until(lambda: client.lines(job["container"]["logStreamName"])) == ["it Ref::unknown"]

    def test_python_is_the_images(self, client, directory):
        job = client.wait(client.submit("python", "-c", "import sys; print(sys.prefix)"))
        (line,) = until(lambda: client.lines(job["container"]["logStreamName"]))
        assert Path(line).resolve() == (directory / "environments" / "none").resolve()


class TestOutcomes:
    @pytest.mark.parametrize(
        ("command", "exit_code"),
        [
            (("leave", "0"), 0),
            (("leave", "9"), 9),
            (("fall", str(int(signal.SIGKILL))), 137),
            (("fall", str(int(signal.SIGTERM))), 143),
            (("throw",), 1),
            (("sys_exit", "text"), 1),
        ],
    )
    def test_exit_codes(self, client, command, exit_code):
        job = client.run(*command)
        assert job["container"]["exitCode"] == exit_code
        assert job["status"] == ("FAILED" if exit_code else "SUCCEEDED")
        assert job["statusReason"] == "Essential container in task exited"
        assert job["createdAt"] <= job["startedAt"] <= job["stoppedAt"]

    def test_a_command_that_does_not_exist(self, client):
        assert client.wait(client.submit("no-such-command"))["container"]["exitCode"] == 127

    def test_an_exception_is_in_the_log(self, client):
        job = client.run("throw")
        lines = until(lambda: client.lines(job["container"]["logStreamName"]))
        assert lines[-1] == "RuntimeError: thrown by the job"

    def test_a_job_ends_as_an_interpreter_does(self, client):
        job = client.run("linger")
        assert job["container"]["exitCode"] == 7
        lines = until(lambda: client.lines(job["container"]["logStreamName"]))
        assert lines[:2] == ["thread", "atexit function"]

    def test_an_array_with_a_failed_child(self, client):
        array = client.run("fail_if", "1", size=3)
        assert (array["status"], array["statusReason"]) == ("FAILED", "Array Child Job failed")
        assert array["arrayProperties"]["statusSummary"]["SUCCEEDED"] == 2
        pages = client.batch.get_paginator("list_jobs").paginate(arrayJobId=array["jobId"], jobStatus="FAILED")
        (failed,) = itertools.chain.from_iterable(page["jobSummaryList"] for page in pages)
        assert (failed["jobId"], failed["container"]["exitCode"]) == (f"{array['jobId']}:1", 1)

    def test_a_retried_job_shows_both_attempts(self, client):
        job = client.run("once", retryStrategy={"attempts": 3})
        assert job["status"] == "SUCCEEDED"
        assert [attempt["container"]["exitCode"] for attempt in job["attempts"]] == [5, 0]

    def test_a_missing_image_cannot_be_pulled(self, client):
        client.define("missing", client.image.replace(":worker", ":missing"))
        job = client.wait(client.submit("true", jobDefinition="missing"))
        assert job["statusReason"] == "Task failed to start"
        assert job["container"]["reason"].startswith("CannotPullContainerError: ")
        assert "exitCode" not in job["container"]

    def test_an_image_whose_worker_cannot_be_imported(self, client, directory):
        broken = Image("broken", files={"cloudknot_worker/__main__.py": b"import no_such_module"})
        client.define("broken", publish(client.cloud, broken, client.cloud.repository("tests")))
        job = client.wait(client.submit(*WORKER, jobDefinition="broken"))
        assert job["statusReason"] == "Task failed to start"
        assert "No module named 'no_such_module'" in job["container"]["reason"]

    def test_a_dependent_of_a_failed_job_fails(self, client):
        first = client.submit(*WORKER, "leave", "1")
        second = client.wait(client.submit(*WORKER, "leave", "0", dependsOn=[{"jobId": first}]))
        assert (second["status"], second["statusReason"]) == ("FAILED", "Dependent Job failed")
        assert second["attempts"] == []

    def test_overrides_that_are_too_long_fail_the_job(self, client):
        job = client.run("leave", "x" * 9000)
        assert (job["status"], job["statusReason"]) == ("FAILED", "Container Overrides length must be at most 8192")

    def test_many_independent_jobs_at_once(self, client):
        with ThreadPoolExecutor(32) as pool:
            ids = list(pool.map(lambda _: client.submit(*WORKER, "leave", "0"), range(60)))
        assert {client.wait(job_id)["status"] for job_id in ids} == {"SUCCEEDED"}

    def test_hundreds_that_start_at_once_all_end(self, tmp_path):
        with LocalCloud(tmp_path / "wide", vcpus=400) as cloud:
            client = Client(cloud)
            client.run("leave", "0")
            array = client.submit(*WORKER, "nap", size=600)
            assert client.wait(array)["arrayProperties"]["statusSummary"]["SUCCEEDED"] == 600


class TestStopping:
    def test_terminate_kills_the_job_and_its_descendants(self, client, tmp_path):
        job_id = client.submit(*WORKER, "family", str(tmp_path / "pids"), retryStrategy={"attempts": 3})
        pids = until_written(tmp_path / "pids")
        client.batch.terminate_job(jobId=job_id, reason="enough")
        job = client.wait(job_id)
        assert (job["statusReason"], job["container"]["exitCode"]) == ("enough", 143)
        assert len(job["attempts"]) == 1
        until(lambda: not any(map(alive, pids)))

    def test_what_left_the_process_group_ends_with_its_job_and_no_other(self, client, tmp_path):
        first, second = (client.submit(*WORKER, "escape", str(tmp_path / name)) for name in ("1", "2"))
        (one,), (other,) = until_written(tmp_path / "1"), until_written(tmp_path / "2")
        (tmp_path / "1.go").touch()
        client.wait(first)
        until(lambda: not alive(one))
        assert alive(other)
        client.batch.terminate_job(jobId=second, reason="enough")
        until(lambda: not alive(other))

    def test_what_cannot_be_told_to_be_a_jobs_ends_when_none_runs(self, client, tmp_path):
        client.run("escape_without_a_trace", str(tmp_path / "pid"))
        (pid,) = until_written(tmp_path / "pid")
        until(lambda: not alive(pid))

    def test_cancel_ends_what_waits(self, client, tmp_path):
        running = [client.submit(*WORKER, "talk", str(tmp_path / "go")) for _ in range(2)]
        waiting = client.submit(*WORKER, "leave", "0")
        for job_id in running:
            client.wait(job_id, "RUNNING")
        assert client.describe(waiting)["status"] == "RUNNABLE"
        client.batch.cancel_job(jobId=waiting, reason="not needed")
        assert client.wait(waiting)["statusReason"] == "not needed"
        (tmp_path / "go").touch()
        assert {client.wait(job_id)["status"] for job_id in running} == {"SUCCEEDED"}

    def test_terminate_in_bulk_names_what_it_does_not_know(self, client):
        job_id = client.submit(*WORKER, "leave", "0")
        answer = client.batch.terminate_jobs(jobs=[job_id, "nobody"], reason="done")
        assert answer["successful"] == [job_id]
        assert [error["job"] for error in answer["errors"]] == ["nobody"]

    def test_a_fork_server_that_dies_takes_its_jobs_along_and_the_next_job_runs(self, client, tmp_path):
        job_id = client.submit(*WORKER, "family", str(tmp_path / "pids"))
        pid, child = until_written(tmp_path / "pids")
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(parent, signal.SIGKILL)
        job = client.wait(job_id)
        assert job["status"] == "FAILED"
        assert job["statusReason"].startswith("Host EC2 (instance ")
        until(lambda: not alive(pid) and not alive(child))
        assert client.run("leave", "0")["status"] == "SUCCEEDED"


def until_written(path):
    until(lambda: path.exists() and path.read_text())
    return [int(word) for word in path.read_text().split()]


class TestLogs:
    def test_lines_appear_while_the_job_runs_and_the_rest_at_its_end(self, client, tmp_path):
        job_id = client.submit(*WORKER, "talk", str(tmp_path / "go"))
        stream = client.wait(job_id, "RUNNING")["container"]["logStreamName"]
        assert until(lambda: client.lines(stream)) == ["first line"]
        assert client.describe(job_id)["status"] == "RUNNING"
        (tmp_path / "go").touch()
        assert client.wait(job_id)["attempts"][0]["container"]["logStreamName"] == stream
        until(lambda: client.lines(stream) == ["first line", "last line"])

    def test_more_output_than_one_call_takes_arrives_whole_and_in_order(self, client):
        program = "for i in range(25000): print(i, 'x' * 60)"
        stream = client.wait(client.submit("python", "-c", program))["container"]["logStreamName"]

        def numbers():
            pages = client.logs.get_paginator("filter_log_events").paginate(
                logGroupName="/aws/batch/job", logStreamNames=[stream]
            )
            return [int(event["message"].split()[0]) for page in pages for event in page["events"]]

        until(lambda: len(numbers()) == 25000)
        assert numbers() == list(range(25000))

    def test_a_silent_job_has_no_stream(self, client):
        stream = client.run("leave", "0")["container"]["logStreamName"]
        client.shown(client.submit(*WORKER, "show"))
        found = client.logs.describe_log_streams(logGroupName="/aws/batch/job", logStreamNamePrefix=stream)
        assert found["logStreams"] == []

    def test_output_that_cannot_be_shipped_does_not_hold_up_that_of_others(self, tmp_path):
        shipped = []

        def call(operation, **arguments):
            if arguments["logStreamName"] == "bad":
                raise RuntimeError("a surprise")
            shipped.extend(event["message"] for event in arguments.get("logEvents", ()))
            return {}

        shipper = LogShipper(call)
        for name in ("bad", "good"):
            task = Task(name, "", (), {}, name)
            (tmp_path / name).write_text(f"{name}\n")
            shipper.follow(task, tmp_path / name)
            shipper.follow(task, None)
            until(lambda name=name: not (tmp_path / name).exists())
        assert shipped == ["good"]
        shipper.close()


class TestRefusals:
    @pytest.mark.parametrize(
        ("choices", "text"),
        [
            ({"jobName": "no spaces"}, "Job name should match valid pattern"),
            ({"jobQueue": "nowhere"}, "does not exist"),
            ({"jobDefinition": "nothing"}, "does not exist"),
            ({"jobDefinition": "worker:99"}, "does not exist"),
            ({"size": 10_001}, "Array size must be between 2 and 10000"),
            ({"size": 1}, "Array size must be between 2 and 10000"),
            ({"timeout": {"attemptDurationSeconds": 59}}, "at least 60"),
            ({"retryStrategy": {"attempts": 11}}, "between 1 and 10"),
            ({"dependsOn": [{"jobId": "nobody"}]}, "does not exist"),
            ({"dependsOn": [{"jobId": str(number)} for number in range(21)]}, "more than 20 dependencies"),
            ({"dependsOn": [{"type": "SEQUENTIAL"}]}, "Only an array job"),
            ({"environment": {"AWS_BATCH_JOB_ID": "mine"}}, "AWS_BATCH"),
            ({"environment": {"A": "x" * 40_000}}, "less than 30 KiB, got 40 KiB"),
        ],
    )
    def test_what_aws_refuses_is_a_client_exception(self, client, choices, text):
        with pytest.raises(client.batch.exceptions.ClientException, match=text) as caught:
            client.submit(*WORKER, "leave", "0", **choices)
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400

    def test_an_unknown_job_cannot_be_terminated(self, client):
        with pytest.raises(client.batch.exceptions.ClientException, match="does not exist"):
            client.batch.terminate_job(jobId=str(uuid.uuid4()), reason="x")

    def test_what_is_no_longer_there_is_refused_at_once(self, client):
        client.queue("brief")
        client.wait(client.submit("true", jobQueue="brief"))
        client.batch.update_job_queue(jobQueue="brief", state="DISABLED")
        with pytest.raises(client.batch.exceptions.ClientException, match="not enabled"):
            client.submit("true", jobQueue="brief")

    def test_a_name_means_the_latest_revision_at_once(self, client):
        client.define("growing", client.image, command=["echo", "1"])
        client.submit(jobDefinition="growing")
        client.define("growing", client.image, command=["echo", "2"])
        job = client.describe(client.submit(jobDefinition="growing"))
        assert job["container"]["command"] == ["echo", "2"]
        first = client.describe(client.submit(jobDefinition="growing:1"))
        assert first["container"]["command"] == ["echo", "1"]


class TestListing:
    def test_a_queue_is_listed_by_status_newest_first_and_in_pages(self, client):
        client.queue("listed")
        ids = [client.submit("true", jobQueue="listed", jobName=f"n{number}") for number in range(5)]
        for job_id in ids:
            client.wait(job_id)
        pages = client.batch.get_paginator("list_jobs").paginate(
            jobQueue="listed", jobStatus="SUCCEEDED", PaginationConfig={"PageSize": 2}
        )
        assert [job["jobId"] for page in pages for job in page["jobSummaryList"]] == ids[::-1]
        assert client.batch.list_jobs(jobQueue="listed")["jobSummaryList"] == []
        found = client.batch.list_jobs(jobQueue="listed", filters=[{"name": "JOB_NAME", "values": ["N3"]}])
        assert [job["jobName"] for job in found["jobSummaryList"]] == ["n3"]

    def test_an_unknown_job_is_left_out_of_a_description(self, client):
        assert client.batch.describe_jobs(jobs=["nobody"])["jobs"] == []


class TestLife:
    def test_another_process_finds_the_running_cloud(self, embedded, directory):
        program = "import sys; from cloudknot.local import LocalCloud; print(LocalCloud(sys.argv[1]).start().pid)"
        root = str(ROOT)
        said = subprocess.run(
            [sys.executable, "-c", program, directory],
            capture_output=True,
            text=True,
            check=True,
            cwd=root,
            timeout=60,
        )
        assert int(said.stdout) == embedded.status().pid

    def test_sessions_that_start_at_once_get_one_cloud(self, tmp_path):
        clouds = [LocalCloud(tmp_path / "shared") for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            pids = list(pool.map(lambda cloud: cloud.start().pid, clouds))
        assert len(set(pids)) == 1
        with clouds[0], clouds[1], clouds[2], clouds[3]:
            pass
        assert clouds[0].status() is None

    def test_a_cloud_that_was_found_is_not_stopped_at_the_end_of_the_block(self, embedded, directory):
        with LocalCloud(directory) as found:
            assert found.status().pid == embedded.status().pid
        assert embedded.status() is not None

    def test_making_one_starts_nothing(self, tmp_path):
        cloud = LocalCloud(tmp_path / "untouched")
        assert cloud.region == "us-east-1"
        assert cloud.status() is None
        assert not (tmp_path / "untouched").exists()

    def test_stopping_ends_the_jobs_and_leaves_no_state(self, own_cloud, tmp_path):
        Client(own_cloud).submit(*WORKER, "family", str(tmp_path / "pids"))
        pids = until_written(tmp_path / "pids")
        pid = own_cloud.status().pid
        assert own_cloud.stop() is True
        until(lambda: not any(map(alive, [pid, *pids])))
        assert read_state(own_cloud.directory) is None
        assert own_cloud.status() is None
        assert own_cloud.stop() is False

    def test_a_killed_cloud_leaves_no_job_behind_and_is_replaced(self, own_cloud, tmp_path):
        Client(own_cloud).submit(*WORKER, "family", str(tmp_path / "pids"))
        pids = until_written(tmp_path / "pids")
        os.kill(own_cloud.status().pid, signal.SIGKILL)
        until(lambda: not any(map(alive, pids)))
        with LocalCloud(own_cloud.directory) as second:
            assert Client(second).run("leave", "0")["status"] == "SUCCEEDED"

    def test_an_idle_cloud_ends_by_itself_but_not_while_a_job_lives(self, tmp_path):
        directory = tmp_path / "idle"
        directory.mkdir()
        command = [sys.executable, "-m", "cloudknot.local.server", "--directory", directory, "--idle", "4"]
        root = ROOT
        server = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(root)}, cwd=root)
        try:
            until(lambda: read_state(directory))
            client = Client(LocalCloud(directory))
            job_id = client.submit(*WORKER, "talk", str(tmp_path / "go"))
            threading.Event().wait(6)
            assert server.poll() is None
            (tmp_path / "go").touch()
            client.wait(job_id)
            assert server.wait(30) == 0
        finally:
            server.kill()
            server.wait()
        assert not state_file(directory).exists()

    def test_a_cloud_that_cannot_start_says_why(self, tmp_path, embedded):
        port = int(embedded.endpoint_url.rpartition(":")[2])
        with pytest.raises(CloudError, match="Address already in use"):
            LocalCloud(tmp_path / "taken", port=port).start()


class TestDirectory:
    def test_somebody_elses_is_refused_and_left_as_it_is(self, tmp_path):
        tmp_path.chmod(0o755)
        (tmp_path / "scratch").mkdir()
        (tmp_path / "scratch" / "thesis.tex").touch()
        for use in (LocalCloud(tmp_path).start, lambda: materialise(tmp_path, Image("t"))):
            with pytest.raises(CloudknotInputError, match="is not empty"):
                use()
        assert LocalCloud(tmp_path).stop() is False
        assert [path.name for path in tmp_path.rglob("*")] == ["scratch", "thesis.tex"]
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755

    def test_a_cloud_leaves_mode_and_scratch_of_a_directory_that_it_did_not_make(self, tmp_path):
        tmp_path.chmod(0o755)
        with LocalCloud(tmp_path):
            (tmp_path / "scratch").mkdir()
            (tmp_path / "scratch" / "thesis.tex").touch()
        with LocalCloud(tmp_path):
            assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
        assert (tmp_path / "scratch" / "thesis.tex").exists()


class TestBusyCloud:
    """A cloud's process holds the lock; whether it answers is another matter."""

    SILENT = CloudState("http://127.0.0.1:9", 0, "AKIASILENT", "secret")

    def test_it_is_waited_for_and_no_other_is_started(self, embedded, directory, tmp_path):
        with locked(server_lock(tmp_path)), ThreadPoolExecutor(1) as pool:
            write_state(tmp_path, self.SILENT)
            starting = pool.submit(LocalCloud(tmp_path).start)
            with pytest.raises(TimeoutError):
                starting.result(0.5)
            write_state(tmp_path, read_state(directory))
            assert starting.result(30).pid == embedded.status().pid

    def test_stop_ends_one_that_does_not_answer(self, tmp_path):
        program = (
            "import fcntl, sys, time; f = open(sys.argv[1], 'a'); fcntl.flock(f, 2); print(flush=True); time.sleep(60)"
        )
        command = [sys.executable, "-c", program, server_lock(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            write_state(tmp_path, CloudState("http://127.0.0.1:9", process.pid, "AKIASILENT", "secret"))
            assert LocalCloud(tmp_path).stop() is True
            assert process.wait(10) == -signal.SIGTERM

    def test_the_error_says_whether_it_ended_or_does_not_answer(self, own_cloud):
        own_cloud.client("sts")
        state = read_state(own_cloud.directory)
        own_cloud.stop()
        with pytest.raises(CloudError, match=f"at {state.endpoint} has ended"):
            own_cloud.call("sts", "get_caller_identity")
        with locked(server_lock(own_cloud.directory)):
            write_state(own_cloud.directory, state)
            with pytest.raises(CloudError, match=rf"does not answer \(process {state.pid}\)"):
                own_cloud.call("sts", "get_caller_identity")

    def test_asking_for_a_lock_is_not_taken_for_holding_it(self, tmp_path):
        with (tmp_path / "lock").open("w") as asked:
            fcntl.flock(asked, fcntl.LOCK_SH)
            assert not is_locked(tmp_path / "lock")
        with locked(tmp_path / "lock"):
            assert is_locked(tmp_path / "lock")

    def test_a_server_whose_lock_is_being_asked_for_starts_all_the_same(self, tmp_path):
        with (tmp_path / "lock").open("w") as asked, ThreadPoolExecutor(1) as pool:
            fcntl.flock(asked, fcntl.LOCK_SH)
            taking = pool.submit(lambda: locked(tmp_path / "lock", 30).__enter__())
            fcntl.flock(asked, fcntl.LOCK_UN)
            assert taking.result(30)

    def test_its_end_is_bounded(self):
        program = (
            "import threading; from cloudknot.local.server import __main__ as s; s._limit(1); threading.Event().wait()"
        )
        command, root = [sys.executable, "-c", program], ROOT
        assert subprocess.run(command, cwd=root, timeout=60, check=False).returncode == -signal.SIGALRM


def fake_image(directory, program):
    """An image whose Python runs a program of the test's own instead of the fork server."""
    python = directory / "environment" / "bin" / "python"
    python.parent.mkdir(parents=True)
    prelude = "import json, socket, sys, time\ncontrol = socket.socket(fileno=int(sys.argv[-1]))\n"
    (directory / "program.py").write_text(f"{prelude}control.sendall(b'{{}}\\n')\n{program}")
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{directory / "program.py"}" "$@"\n')
    python.chmod(0o755)
    return directory


class TestWarmParent:
    def test_a_parent_that_does_not_read_keeps_nobody_waiting(self, tmp_path):
        image = fake_image(tmp_path / "deaf", "time.sleep(600)")
        parent = ForkServerProcess(image, tmp_path / "log", {}, lambda *_: None)
        sending = threading.Thread(target=lambda: [parent.send({"x": "x" * 9999}) for _ in range(500)], daemon=True)
        sending.start()
        sending.join(30)
        waiting = sending.is_alive()
        os.killpg(parent._process.pid, signal.SIGKILL)
        assert not waiting

    def test_all_that_was_sent_arrives_in_order(self, tmp_path):
        program = (
            "time.sleep(0.5)\n"
            "for line in control.makefile('rb'):\n"
            "    control.sendall(json.dumps({'seen': json.loads(line)['number']}).encode() + b'\\n')\n"
        )
        heard = []
        image = fake_image(tmp_path / "slow", program)
        parent = ForkServerProcess(image, tmp_path / "log", {}, lambda _, message: heard.append(message["seen"]))
        for number in range(500):
            assert parent.send({"number": number, "ballast": "x" * 5000})
        until(lambda: len(heard) == 500)
        parent.close()
        assert heard == list(range(500))
        assert parent.send({"number": 500}) is False

    def test_a_message_that_is_not_understood_is_not_the_last(self, tmp_path):
        heard = []

        def hear(_, message):
            heard.append(message)
            raise RuntimeError("a surprise")

        image = fake_image(tmp_path / "talking", 'control.sendall(b\'{"a": 1}\\n{"b": 2}\\n\')')
        ForkServerProcess(image, tmp_path / "log", {}, hear)
        until(lambda: len(heard) == 3)
        assert heard == [{"a": 1}, {"b": 2}, None]


class TestRunner:
    STARTS = (
        "for line in control.makefile('rb'):\n"
        "    request = json.loads(line)\n"
        "    if 'start' in request:\n"
        "        control.sendall(json.dumps({'started': request['start'], 'pid': 2**30}).encode() + b'\\n')\n"
    )

    @pytest.fixture
    def runner(self, tmp_path):
        fake_image(tmp_path / "images" / "t", self.STARTS)
        (tmp_path / "scratch").mkdir()
        runner = ProcessRunner(tmp_path / "images", tmp_path / "scratch", {}, lambda role: {}, lambda *_: None)
        yield runner
        runner.close()

    def test_a_task_whose_start_could_not_be_taken_in_fails(self, runner):
        events = []

        def report(event):
            events.append(event)
            if isinstance(event, Started):
                raise RuntimeError("a surprise")

        runner.start(Task("1", "r/i:t", (), {}, "s"), report)
        until(lambda: len(events) == 2)
        assert events[1] == Exited("1", None, "InternalError: a surprise")

    def test_a_task_without_a_directory_fails_and_the_next_one_starts(self, runner, tmp_path):
        events = []
        runner.start(Task("1", "r/i:t", (), {}, "s"), events.append)
        until(lambda: events == [Started("1")])
        (tmp_path / "scratch").rename(tmp_path / "away")
        runner.start(Task("2", "r/i:t", (), {}, "s"), events.append)
        until(lambda: len(events) == 2)
        assert (events[1].task_id, events[1].status_reason) == ("2", "Task failed to start")
        (tmp_path / "away").rename(tmp_path / "scratch")
        runner.start(Task("3", "r/i:t", (), {}, "s"), events.append)
        until(lambda: events[2:] == [Started("3")])


class TestImages:
    def test_an_installer_whose_session_died_keeps_others_out_until_it_ends(self, tmp_path):
        program = (
            "import sys; from pathlib import Path\n"
            "from tests.integration.local.test_embedded_cloud import Image, materialise\n"
            "materialise(Path(sys.argv[1]), Image('t', ('no-such-thing==1',), 'slow'))"
        )
        with socket.create_server(("127.0.0.1", 0)) as index:
            index.settimeout(60)
            settings = {"PIP_INDEX_URL": f"http://127.0.0.1:{index.getsockname()[1]}/", "PIP_RETRIES": "0"}
            environment = {**os.environ, **settings, "PIP_TIMEOUT": "60"}
            command, root = [sys.executable, "-c", program, tmp_path / "d"], ROOT
            with subprocess.Popen(command, env=environment, cwd=root, stderr=subprocess.DEVNULL) as session:
                connection, _ = index.accept()
                session.kill()
            lock = tmp_path / "d" / "environments" / "slow.lock"
            assert is_locked(lock)
            connection.close()
        until(lambda: not is_locked(lock))

    def test_requirements_are_exactly_those_asked_for_and_shared(self, client, tmp_path):
        six = Image("six-1", ("six==1.16.0",), "six")
        client.define("six", publish(client.cloud, six, client.cloud.repository("tests")))
        program = "import importlib.metadata as m; print(sorted(d.name + d.version for d in m.distributions()))"
        job = client.wait(client.submit("python", "-c", program, jobDefinition="six"))
        (line,) = until(lambda: client.lines(job["container"]["logStreamName"]))
        assert "six1.16.0" in line
        assert "boto3" not in line
        marker = client.cloud.directory / "environments" / "six" / ".complete"
        made = marker.stat().st_mtime_ns
        second = materialise(client.cloud.directory, Image("six-2", ("six==1.16.0",), "six"))
        assert (second / "environment").resolve() == marker.parent.resolve()
        assert marker.stat().st_mtime_ns == made

    def test_a_failed_installation_shows_what_pip_said_and_leaves_nothing(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        with pytest.raises(ImageError, match=r"(?s)no-such-thing==1.*pip said:.*No matching distribution") as caught:
            materialise(tmp_path, Image("t", ("no-such-thing==1",), "failing"))
        assert len(str(caught.value).splitlines()) < 25
        assert not (tmp_path / "environments" / "failing").exists()
        assert not (tmp_path / "images" / "t").exists()

    def test_a_half_made_and_a_broken_environment_are_made_again(self, tmp_path):
        half = tmp_path / "environments" / "none" / "bin"
        half.mkdir(parents=True)
        (half / "left-over").touch()
        python = materialise(tmp_path, Image("t")) / "environment" / "bin" / "python"
        assert not (half / "left-over").exists()
        python.unlink()
        python.symlink_to("/no/such/python")
        materialise(tmp_path, Image("t"))
        assert subprocess.run([python, "-c", ""], check=False, timeout=60).returncode == 0

    def test_two_at_once_make_one(self, tmp_path):
        with ThreadPoolExecutor(2) as pool:
            made = list(pool.map(lambda _: materialise(tmp_path, Image("t")), range(2)))
        assert made[0] == made[1]
        assert [path.name for path in (tmp_path / "images").iterdir()] == ["t"]

    def test_pip_does_not_see_the_users_python_settings(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PYTHONPATH", "/nonsense")
        monkeypatch.setenv("PIP_USER", "1")
        monkeypatch.setenv("PIP_TARGET", str(tmp_path / "elsewhere"))
        image = materialise(tmp_path, Image("t", ("six==1.16.0",), "six"))
        assert list((image / "environment").glob("lib/python*/site-packages/six.py"))
