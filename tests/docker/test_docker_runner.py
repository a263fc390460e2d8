"""The docker runner of the embedded cloud runs jobs as real containers, and ECR shows the real registry."""

import contextlib
import gc
import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import cloudknot as ck
from cloudknot.deploy.job_definition import NO_IMAGE
from cloudknot.errors import CloudError, CloudknotConfigurationError, CloudknotInputError
from cloudknot.local.runners.docker import CLOUD_LABEL
from tests.helpers.paths import ROOT

LONG = 120
MB = 1_000_000


@pytest.fixture(scope="session")
def batch(cloud):
    """A Batch client of the cloud, with a queue for plain jobs of any image."""
    return batch_of(cloud)


def batch_of(cloud):
    """Create the queue "plain" in a cloud, and return its Batch client."""
    role = cloud.call("iam", "create_role", RoleName="service", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    client = cloud.client("batch")
    client.create_compute_environment(computeEnvironmentName="plain", type="UNMANAGED", serviceRole=role)
    order = [{"order": 1, "computeEnvironment": "plain"}]
    client.create_job_queue(jobQueueName="plain", state="ENABLED", priority=1, computeEnvironmentOrder=order)
    return client


def submit(batch, image, *command, overrides=None, **container):
    """Submit a job that runs a command, and return its id."""
    properties = {"image": image, "vcpus": 1, "memory": 256, "command": list(command), **container}
    batch.register_job_definition(jobDefinitionName="plain", type="container", containerProperties=properties)
    return batch.submit_job(
        jobName="job", jobQueue="plain", jobDefinition="plain", containerOverrides=overrides or {}
    )["jobId"]


def describe(batch, job_id):
    return batch.describe_jobs(jobs=[job_id])["jobs"][0]


def ended(batch, job_id):
    """Wait for the end of a job, and return its description."""
    return until(lambda: (job := describe(batch, job_id))["status"] in ("SUCCEEDED", "FAILED") and job)


def run(batch, image, *command, **choices):
    """Run a job that executes a command, and return its description."""
    return ended(batch, submit(batch, image, *command, **choices))


def lines(cloud, job):
    """Return the first page of a job's log, or [] before the log exists."""
    stream = job["container"]["logStreamName"]
    try:
        events = cloud.call("logs", "get_log_events", logGroupName="/aws/batch/job", logStreamName=stream)["events"]
    except ck.ResourceDoesNotExistException:
        return []
    return [event["message"] for event in events]


def all_lines(cloud, job):
    """Return all lines of a job's log, from every page."""
    streams = [job["container"]["logStreamName"]]
    pages = cloud.pages("logs", "filter_log_events", logGroupName="/aws/batch/job", logStreamNames=streams)
    return [event["message"] for page in pages for event in page["events"]]


def containers(engine, cloud, **options):
    """List the containers of a cloud, running or not."""
    return engine.containers(all=True, filters={"label": f"{CLOUD_LABEL}={cloud.directory}"}, **options)


def until(condition):
    """Return the first true value of a condition."""
    end = time.monotonic() + LONG
    while not (result := condition()):
        assert time.monotonic() < end, f"the condition stayed false for {LONG} s"
        time.sleep(0.05)
    return result


PRINT_SURROUNDINGS = """
import json, os
print(json.dumps({
    "user": os.getuid(),
    "first": open("/proc/1/comm").read().strip(),
    "environment": dict(os.environ),
    "directory": os.getcwd(),
}))
"""


@pytest.fixture(scope="session")
def image(machine, engine):
    """The base image in the registry, for jobs that need no program."""
    name = f"{machine.registry}/plain"
    engine.tag(machine.base_image, name, "1")
    login = {"username": machine.username, "password": machine.password}
    events = list(engine.push(name, "1", stream=True, decode=True, auth_config=login))
    assert not [event for event in events if "error" in event]
    return f"{name}:1"


def test_job_runs_its_command_with_its_environment(cloud, batch, image):
    overrides = {"environment": [{"name": "GREETING", "value": "hello"}]}
    job = run(batch, image, "python", "-c", PRINT_SURROUNDINGS, overrides=overrides)
    surroundings = json.loads(until(lambda: lines(cloud, job))[0])
    assert job["status"] == "SUCCEEDED"
    assert job["container"]["exitCode"] == 0
    expected = {"GREETING": "hello", "AWS_BATCH_JOB_ID": job["jobId"], "AWS_BATCH_JOB_ATTEMPT": "1"}
    assert expected.items() <= surroundings["environment"].items()
    place = {name: value for name, value in cloud.environment().items() if name.endswith(("_URL", "_REGION"))}
    assert place.items() <= surroundings["environment"].items()
    assert cloud.environment()["AWS_SECRET_ACCESS_KEY"] not in str(surroundings)
    assert (surroundings["user"], surroundings["directory"], surroundings["first"]) == (0, "/", "python")


GET_CREDENTIALS = """
import json, os, urllib.request
prefix = "AWS_CONTAINER_"
with open(os.environ[prefix + "AUTHORIZATION_TOKEN_FILE"]) as stream:
    headers = {"Authorization": stream.read()}
request = urllib.request.Request(os.environ[prefix + "CREDENTIALS_FULL_URI"], headers=headers)
print(json.load(urllib.request.urlopen(request))["RoleArn"])
"""


@pytest.mark.parametrize("user", ["0", "65534"])
def test_job_with_role_gets_its_credentials_as_any_user(cloud, batch, image, user):
    name = f"for-{user}"
    role = cloud.call("iam", "create_role", RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    job = run(batch, image, "python", "-c", GET_CREDENTIALS, user=user, jobRoleArn=role)
    assert until(lambda: lines(cloud, job)) == [role]
    assert job["status"] == "SUCCEEDED"


def test_container_has_user_and_init_process_of_job_definition(cloud, batch, image):
    job = run(
        batch, image, "python", "-c", PRINT_SURROUNDINGS, user="65534", linuxParameters={"initProcessEnabled": True}
    )
    surroundings = json.loads(until(lambda: lines(cloud, job))[0])
    assert surroundings["user"] == 65534
    assert surroundings["first"] in ("docker-init", "tini")


def test_log_has_every_line_of_both_output_streams(cloud, batch, image):
    # More lines than a page of the log holds, and no newline after the last one.
    job = run(batch, image, "sh", "-c", "seq 1 20000; echo problem >&2; printf end; exit 3")
    assert (job["status"], job["container"]["exitCode"]) == ("FAILED", 3)
    expected = sorted([*map(str, range(1, 20001)), "problem", "end"])
    until(lambda: sorted(all_lines(cloud, job)) == expected)


def test_log_keeps_lines_of_both_output_streams_whole(cloud, batch, image):
    job = run(batch, image, "sh", "-c", "printf one; sleep 0.3; echo problem >&2; sleep 0.3; echo ' line'; printf end")
    assert until(lambda: lines(cloud, job) == ["problem", "one line", "end"])


def test_job_over_its_memory_fails_with_reason_and_exit_code_of_aws(batch, image):
    job = run(batch, image, "python", "-c", f"data = bytearray({600 * MB})", memory=64)
    assert job["status"] == "FAILED"
    assert job["statusReason"] == "Essential container in task exited"
    assert job["container"]["exitCode"] == 137
    assert job["container"]["reason"] == "OutOfMemoryError: Container killed due to memory usage"


def test_reason_of_job_killed_by_signal_does_not_mention_memory(batch, image):
    # The kernel ignores SIGKILL from PID 1 to itself, so an init process must be PID 1.
    job = run(
        batch,
        image,
        "python",
        "-c",
        "import os; os.kill(os.getpid(), 9)",
        linuxParameters={"initProcessEnabled": True},
    )
    assert job["container"]["exitCode"] == 137
    assert "reason" not in job["container"]


def test_container_has_limits_of_job_and_shows_no_secret(engine, cloud, batch, image, machine):
    # As PID 1, `sleep` would ignore SIGTERM. An init process passes it on.
    job_id = submit(batch, image, "sleep", "600", memory=100, linuxParameters={"initProcessEnabled": True})
    (container,) = until(lambda: describe(batch, job_id)["status"] == "RUNNING" and containers(engine, cloud))
    about = engine.inspect_container(container["Id"])
    host, secret = about["HostConfig"], cloud.environment()["AWS_SECRET_ACCESS_KEY"]
    assert not [hidden for hidden in (machine.password, secret) if hidden in json.dumps(about)]
    assert (host["Memory"], host["MemorySwap"], host["CpuShares"]) == (100 * 2**20, 100 * 2**20, 1024)
    batch.terminate_job(jobId=job_id, reason="seen")
    job = ended(batch, job_id)
    assert (job["statusReason"], job["container"]["exitCode"]) == ("seen", 143)


@pytest.mark.parametrize("name", ["{registry}/plain:none", "{registry}/none:1"])
def test_job_with_missing_image_fails_to_start(batch, machine, name):
    job = run(batch, name.format(registry=machine.registry), "true")
    assert job["statusReason"] == "Task failed to start"
    # The rules of cloudknot's job definitions give such a job no further attempt.
    assert job["container"]["reason"].startswith(NO_IMAGE.rstrip("*"))
    assert "exitCode" not in job["container"]


def test_job_with_missing_command_fails_to_start(batch, image):
    job = run(batch, image, "no-such-command")
    assert job["statusReason"] == "Task failed to start"
    assert job["container"]["reason"].startswith("CannotStartContainerError: ")
    assert "no-such-command" in job["container"]["reason"]


def test_runner_removes_ended_containers(engine, cloud, batch, image):
    run(batch, image, "true")
    run(batch, image, "no-such-command")
    assert until(lambda: not containers(engine, cloud))


def test_runner_pulls_image_from_registry_once_per_cloud(engine, cloud, batch, image, machine):
    name = f"{machine.registry}/plain"
    engine.tag(machine.base_image, name, "2")
    login = {"username": machine.username, "password": machine.password}
    # The push has ended when its last event is read.
    list(engine.push(name, "2", stream=True, decode=True, auth_config=login))
    engine.remove_image(f"{name}:2")
    assert run(batch, f"{name}:2", "true")["status"] == "SUCCEEDED"
    assert engine.inspect_image(f"{name}:2")
    engine.remove_image(f"{name}:2")
    # A cloud pulls an image once. If someone removes it afterwards, one attempt fails and the next one pulls again.
    assert run(batch, f"{name}:2", "true")["container"]["reason"].startswith("CannotPullContainerError: ")
    assert run(batch, f"{name}:2", "true")["status"] == "SUCCEEDED"


@pytest.fixture
def own_cloud(machine, login, tmp_path):
    """An embedded cloud that the test may end."""
    with ck.LocalCloud(tmp_path / "own", vcpus=2, runner="docker", registry=machine.registry) as cloud:
        yield cloud


def running_container(engine, cloud, image):
    """Submit a long job, wait until it runs, and return the id of its container."""
    job_id = submit(batch_of(cloud), image, "sleep", "600")
    (container,) = until(
        lambda: describe(cloud.client("batch"), job_id)["status"] == "RUNNING" and containers(engine, cloud)
    )
    return container["Id"]


def test_stopped_cloud_removes_its_containers(engine, own_cloud, image):
    running_container(engine, own_cloud, image)
    assert own_cloud.stop() is True
    assert containers(engine, own_cloud) == []


def test_restarted_cloud_removes_only_containers_left_by_its_killed_predecessor(
    engine, cloud, batch, own_cloud, image, machine
):
    other_job = submit(batch, image, "sleep", "600")
    until(lambda: describe(batch, other_job)["status"] == "RUNNING")
    own_container = running_container(engine, own_cloud, image)
    os.kill(own_cloud.status().pid, signal.SIGKILL)
    until(lambda: own_cloud.status() is None)
    assert [container["Id"] for container in containers(engine, own_cloud)] == [own_container]
    with ck.LocalCloud(own_cloud.directory, runner="docker", registry=machine.registry):
        assert containers(engine, own_cloud) == []
        assert len(containers(engine, cloud)) == 1
    batch.terminate_job(jobId=other_job, reason="done")


class BreakableSocket(socketserver.ThreadingUnixStreamServer):
    """A socket that forwards to the engine until `cut`."""

    daemon_threads = True

    def __init__(self, path, engine_path):
        self.engine_path, self.open = engine_path, []
        super().__init__(str(path), Forwarder)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def cut(self):
        """Break all connections and refuse new ones."""
        self.shutdown()
        self.server_close()
        os.unlink(self.server_address)
        for connection in self.open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Forwarder(socketserver.BaseRequestHandler):
    def handle(self):
        with socket.socket(socket.AF_UNIX) as engine:
            engine.connect(self.server.engine_path)
            self.server.open += [self.request, engine]
            upload = threading.Thread(target=self.pump, args=(self.request, engine), daemon=True)
            upload.start()
            self.pump(engine, self.request)
            upload.join(LONG)

    def pump(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


def test_job_fails_with_lost_host_reason_when_engine_vanishes(engine, image, machine, login, tmp_path, monkeypatch):
    engine_socket = BreakableSocket(tmp_path / "engine", os.environ["DOCKER_HOST"].removeprefix("unix://"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/engine")
    with ck.LocalCloud(tmp_path / "own", runner="docker", registry=machine.registry) as cloud:
        client = batch_of(cloud)
        job_id = submit(client, image, "sleep", "600")
        until(lambda: describe(client, job_id)["status"] == "RUNNING")
        engine_socket.cut()
        assert ended(client, job_id)["statusReason"].startswith("Host EC2 (instance ")
    for container in containers(engine, cloud):
        engine.remove_container(container["Id"], force=True)


def test_command_starts_cloud_with_runner_and_leaks_no_password(machine, login, tmp_path):
    def cloudknot(*arguments):
        command = [sys.executable, "-c", "from cloudknot.cli.main import main; main()", "local", *arguments]
        where = {"cwd": ROOT, "timeout": LONG}
        return subprocess.run([*command, "--directory", tmp_path], capture_output=True, text=True, check=True, **where)

    cloudknot("start", "--runner", "docker", "--registry", machine.registry)
    cloud = ck.LocalCloud(tmp_path)
    try:
        status = cloud.status()
        assert (status.runner, status.registry) == ("docker", machine.registry)
        assert machine.registry in cloudknot("status").stdout
        assert machine.password not in Path(f"/proc/{status.pid}/cmdline").read_text()
        with pytest.raises(CloudknotConfigurationError, match=r"runner docker.*cloudknot local stop"):
            ck.LocalCloud(tmp_path, runner="process").start()
    finally:
        cloud.stop()
    texts = [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert not [text for text in texts if machine.password in text]


def test_cloud_with_wrong_registry_login_does_not_start(machine, monkeypatch, tmp_path):
    monkeypatch.setenv("CLOUDKNOT_REGISTRY_USERNAME", machine.username)
    monkeypatch.setenv("CLOUDKNOT_REGISTRY_PASSWORD", "wrong")
    cloud = ck.LocalCloud(tmp_path, runner="docker", registry=machine.registry)
    with pytest.raises(CloudknotConfigurationError, match="refuses the login in CLOUDKNOT_REGISTRY_USERNAME"):
        cloud.start()
    assert cloud.status() is None


def test_cloud_without_answer_from_registry_does_not_start(machine, tmp_path):
    with pytest.raises(CloudknotConfigurationError, match=r"127\.0\.0\.1:1 does not answer.*Start the registry"):
        ck.LocalCloud(tmp_path, runner="docker", registry="127.0.0.1:1").start()


# docker-py leaves a socket open when it finds no engine.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_cloud_without_engine_raises_configuration_error_with_setting_to_correct(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    cloud = ck.LocalCloud(tmp_path, runner="docker", registry="127.0.0.1:5000")
    with pytest.raises(
        CloudknotConfigurationError,
        match=r"no engine answers at DOCKER_HOST=unix:.*Correct DOCKER_HOST.*"
        r"leave out `--runner docker` \(in Python: runner=\"docker\"\)",
    ):
        cloud.start()
    gc.collect()


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"runner": "podman"}, r"^runner='podman' is not a runner .*\. Choose \"process\" or \"docker\"\.$"),
        ({"runner": "docker"}, r'^runner="docker" needs a registry\. .* registry="127\.0\.0\.1:5000"\.$'),
        (
            {"runner": "process", "registry": "127.0.0.1:5000"},
            r'^registry= is not available with runner="process"\. .*Remove registry=',
        ),
    ],
)
def test_local_cloud_refuses_inconsistent_runner_and_registry(choices, message):
    with pytest.raises(CloudknotInputError, match=message):
        ck.LocalCloud("anywhere", **choices)


class TestEcr:
    """ECR of the embedded cloud shows the repositories, images and logins of the registry."""

    @pytest.fixture
    def repository(self, cloud, engine, machine, request):
        """A repository with two images; the first has two tags."""
        repository = cloud.repository(f"tests-{request.node.name.lower()[:60].strip('_-')}".replace("_", "-"))
        uri = repository.create()
        for tag, base in (("a", machine.base_image), ("b", machine.base_image), ("c", "cloudknot-test/debian")):
            engine.tag(base, uri, tag)
            login = repository.login()
            auth = {"username": login.username, "password": login.password}
            assert not repository.has_tag(tag)
            events = list(engine.push(uri, tag, stream=True, decode=True, auth_config=auth))
            assert not [event for event in events if "error" in event]
            engine.remove_image(f"{uri}:{tag}")
        yield repository
        repository.clobber()

    def test_repository_uri_and_login_name_registry(self, repository, machine):
        assert repository.repo_uri == f"{machine.registry}/{repository.name}"
        assert repository.login().registry == machine.registry

    def test_ecr_lists_pushed_images_with_tags_and_sizes(self, cloud, repository):
        assert [repository.has_tag(tag) for tag in "abcd"] == [True, True, True, False]
        details = cloud.call("ecr", "describe_images", repositoryName=repository.name)["imageDetails"]
        assert sorted(detail["imageTags"] for detail in details) == [["a", "b"], ["c"]]
        assert all(detail["imageSizeInBytes"] > 10 * MB for detail in details)
        listed = cloud.call("ecr", "list_images", repositoryName=repository.name)["imageIds"]
        assert [image["imageTag"] for image in listed] == ["a", "b", "c"]

    def test_deleted_tag_leaves_other_tags_of_image(self, cloud, repository):
        def delete(tag):
            ids = [{"imageTag": tag}]
            return cloud.call("ecr", "batch_delete_image", repositoryName=repository.name, imageIds=ids)

        delete("a")
        assert [repository.has_tag(tag) for tag in "abc"] == [False, True, True]
        assert delete("none")["failures"][0]["failureCode"] == "ImageNotFound"
        delete("b")
        assert [repository.has_tag(tag) for tag in "abc"] == [False, False, True]

    def test_deleted_image_loses_all_tags(self, repository):
        (twice,) = [digest for digest, tags in repository.images().items() if tags == ("a", "b")]
        repository.delete_images([twice, f"sha256:{'0' * 64}"])
        assert list(repository.images().values()) == [("c",)]

    def test_tag_is_added_and_moved_without_push(self, cloud, repository):
        def digest(tag):
            answer = cloud.call("ecr", "describe_images", repositoryName=repository.name, imageIds=[{"imageTag": tag}])
            return answer["imageDetails"][0]["imageDigest"]

        repository.add_tag("a", "latest")
        assert digest("latest") == digest("a")
        repository.add_tag("c", "latest")
        repository.add_tag("c", "latest")
        assert digest("latest") == digest("c")

    def test_deleted_repository_loses_its_images(self, cloud, repository):
        with pytest.raises(CloudError, match="RepositoryNotEmptyException"):
            cloud.call("ecr", "delete_repository", repositoryName=repository.name)
        repository.clobber()
        repository.create()
        assert not repository.has_tag("a")

    def test_missing_repository_raises_resource_does_not_exist(self, cloud):
        with pytest.raises(ck.ResourceDoesNotExistException, match="RepositoryNotFoundException"):
            cloud.call("ecr", "describe_images", repositoryName="no-such-repository")
