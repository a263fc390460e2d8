"""`CodeBuilder` sends the files of an image, starts a build, shows its log, and explains its failure.

A scripted AWS answers: CloudFormation, S3, CodeBuild and CloudWatch Logs.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import logging
import socketserver
import tarfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any, cast

import pytest

from cloudknot.aws import Cloud
from cloudknot.aws.images.ecr import Repository
from cloudknot.aws.images.image_store import Image
from cloudknot.deploy.codebuild import choice
from cloudknot.deploy.codebuild.code_builder import CodeBuilder
from cloudknot.deploy.codebuild.machines import MACHINES, estimate
from cloudknot.deploy.inventory import BUILDS
from cloudknot.errors import (
    CKTimeoutError,
    CloudknotError,
    ImageError,
    PermissionDeniedError,
    QuotaExceededError,
)
from cloudknot.image import context
from cloudknot.image.engine.builder import DockerBuilder
from cloudknot.program.program import make_program
from tests.helpers.functions import square
from tests.helpers.images import render_image
from tests.unit.deploy.test_stack import ScriptedCloud

PROGRAM = make_program(square, requirements=["six==1.16.0"])
URI = "123456789012.dkr.ecr.us-east-1.amazonaws.com/cloudknot"
GOOD = [
    "[Container] 2026/11/29 12:00:00 Running command docker build",
    "cloudknot-step context",
    "cloudknot-step login",
    "Login Succeeded",
    "cloudknot-step build",
    "Step 1/2 : FROM python:3.11-slim",
    "Step 2/2 : RUN true",
    "Successfully built 1234",
    "cloudknot-step check",
    "cloudknot-step push",
    "latest: digest: sha256:1234",
]
"""The log of a build that succeeds."""


class ScriptedStorage:
    """The objects of a bucket."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.sent: dict[str, bytes] = {}

    def ensure_bucket(self, tags: Mapping[str, str]) -> None: ...

    def upload(self, key: str, pieces: Iterable[bytes]) -> None:
        self.objects[key] = self.sent[key] = b"".join(pieces)

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)


class ScriptedAws(ScriptedCloud):
    """A fake AWS with one build. Each look at the build shows the next status, and a part of its log."""

    bucket, bucket_owner, partition, image_store = "lab", "123456789012", "aws", None

    def __init__(self, *statuses: str, log: Iterable[str] = GOOD, message: str = "", tags: Iterable[str] = ()) -> None:
        super().__init__()
        self.storage = ScriptedStorage()
        self.builds, self.log, self.message = list(statuses or ("IN_PROGRESS", "SUCCEEDED")), list(log), message
        self.has = set(tags)
        self.started: list[dict[str, Any]] = []
        self.stopped: list[str] = []
        self.on_look = lambda: None
        self.ends = "\n"

    def call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        if refusal := self.refusals.get(operation):
            raise refusal
        if service == "cloudformation":
            return super().call(service, operation, **arguments)
        return getattr(self, f"_{operation}")(**arguments)

    def _start_build(self, **request: Any) -> dict[str, Any]:
        self.started.append(request)
        return {"build": {"id": f"{BUILDS}:1"}}

    def _stop_build(self, *, id: str) -> dict[str, Any]:
        self.stopped.append(id)
        return {}

    def _batch_get_builds(self, *, ids: list[str]) -> dict[str, Any]:
        if ids == [choice.NO_BUILD]:
            return {"builds": []}
        self.on_look()
        if self.builds[0] == "MISSING":
            self.builds = self.builds[1:] or self.builds
            return {"buildsNotFound": ids}
        status = self.builds.pop(0) if len(self.builds) > 1 else self.builds[0]
        phase = {"phaseType": "BUILD", "contexts": [{"message": self.message}] if self.message else []}
        logs = {"groupName": "builds", "streamName": "1"}
        return {"builds": [{"id": ids[0], "buildStatus": status, "phases": [phase], "logs": logs}]}

    def _get_log_events(self, *, nextToken: str = "0", **names: Any) -> dict[str, Any]:  # noqa: N803
        assert names == {"logGroupName": "builds", "logStreamName": "1", "startFromHead": True}
        start = int(nextToken)
        lines = self.log[start : start + 4]
        return {
            "events": [{"message": f"{line}{self.ends}"} for line in lines],
            "nextForwardToken": str(start + len(lines)),
        }

    def repository(self, name: str = "cloudknot") -> Repository:
        return cast(Repository, self)

    arn = "arn:aws:ecr:us-east-1:123456789012:repository/cloudknot"

    def has_tag(self, tag: str) -> bool:
        return tag in self.has

    def builder(self, **choices: Any) -> CodeBuilder:
        return CodeBuilder(cast(Cloud, self), clock=lambda: self.now, sleep=self.sleep, **choices)


@contextmanager
def engine(path: str) -> Iterator[str]:
    """Serve the version of a Docker engine at a socket, and yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"ApiVersion": "1.41"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None: ...

    with socketserver.UnixStreamServer(path, Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"unix://{path}"
        finally:
            server.shutdown()
            thread.join(10)


@pytest.fixture(autouse=True)
def without_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDKNOT_PROGRESS", "0")


def image_with(*lines: str, **choices: Any) -> Image:
    return render_image(PROGRAM, dockerfile_lines=lines or ("RUN true",), **choices)


def system_uri(image: Image) -> str:
    return f"{URI}:{context.system_tag(image.files, image.platform)}"


def build_system(aws: ScriptedAws, image: Image | None = None) -> None:
    image = image or image_with()
    aws.builder().publish_system(image, aws.repository(), system_uri(image))


def variables(aws: ScriptedAws) -> dict[str, str]:
    (request,) = aws.started
    return {item["name"]: item["value"] for item in request["environmentVariablesOverride"]}


def files_sent(aws: ScriptedAws) -> dict[str, bytes]:
    (data,) = aws.storage.sent.values()
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as archive:
        return {member.name: cast(Any, archive.extractfile(member)).read() for member in archive}


def test_system_stage_is_sent_and_built_and_files_are_deleted() -> None:
    aws, image = ScriptedAws(), image_with()
    build_system(aws, image)
    assert files_sent(aws) == context.system_of(image.files)
    assert variables(aws)["IMAGE"] == system_uri(image)
    assert variables(aws)["CONTEXT_KEY"] in aws.storage.sent
    assert aws.storage.objects == {}
    assert aws.stopped == []


def test_same_files_make_same_archive() -> None:
    first, second = ScriptedAws(), ScriptedAws()
    build_system(first)
    build_system(second)
    assert list(first.storage.sent.values()) == list(second.storage.sent.values())


def test_image_in_repository_is_not_built() -> None:
    image = image_with()
    aws = ScriptedAws(tags=[system_uri(image).rpartition(":")[2]])
    build_system(aws, image)
    assert aws.started == []
    assert aws.writes == []


def test_request_has_no_secret_and_names_owner_of_bucket() -> None:
    aws = ScriptedAws()
    build_system(aws)
    assert variables(aws).keys() == {
        *("BASE", "MIRROR", "CONTEXT_BUCKET", "CONTEXT_KEY", "CONTEXT_OWNER", "IMAGE", "PLATFORM", "REGISTRY")
    }
    assert variables(aws)["CONTEXT_OWNER"] == "123456789012"


@pytest.mark.parametrize(
    ("base", "mirror"),
    [
        ("python:3.11-slim", "public.ecr.aws/docker/library/python:3.11-slim"),
        ("lab/python:3.11", None),
        ("ghcr.io/lab/python:3.11", None),
        ("python@sha256:" + "0" * 64, None),
    ],
)
def test_only_official_images_come_from_mirror(base: str, mirror: str | None) -> None:
    aws = ScriptedAws()
    build_system(aws, image_with(base_image=base))
    assert variables(aws).get("MIRROR") == mirror


@pytest.mark.parametrize(("platform", "kind"), [("linux/amd64", "LINUX_CONTAINER"), ("linux/arm64", "ARM_CONTAINER")])
def test_machine_has_architecture_of_image(platform: str, kind: str) -> None:
    aws = ScriptedAws()
    build_system(aws, image_with(platform=platform))
    assert aws.started[0]["environmentTypeOverride"] == kind
    assert ("aarch64" in aws.started[0]["imageOverride"]) == (platform == "linux/arm64")
    assert variables(aws)["PLATFORM"] == platform


def test_whole_image_has_labels_and_check_of_its_python() -> None:
    aws, image = ScriptedAws(), image_with()
    aws.builder().publish(image, aws.repository(), f"{URI}:{image.tag}")
    dockerfile = files_sent(aws)["Dockerfile"].decode()
    assert dockerfile.startswith(image.files["Dockerfile"].decode())
    assert '\nLABEL org.opencontainers.image.title="square"\n' in dockerfile
    assert variables(aws)["CHECK"] == context.python_check(image.python)


def test_failed_instruction_is_explained_as_for_engine() -> None:
    log = [*GOOD[:6], "Step 2/2 : RUN false", " ---> Running in 1", "nothing to do", "The command 'false' returned 1"]
    aws = ScriptedAws("IN_PROGRESS", "FAILED", log=log, message="exit status 1")
    with pytest.raises(ImageError) as caught:
        build_system(aws)
    text = str(caught.value)
    assert "failed: The command 'false' returned 1\nThe failed instruction of the Dockerfile:\n    RUN false\n" in text
    assert "The end of its log:\nnothing to do\nCorrect dockerfile_lines=" in text
    assert caught.value.instruction == "RUN false"
    assert aws.storage.objects == {}


@pytest.mark.parametrize(
    ("step", "output", "fix"),
    [
        ("RUN make", "No space left on device", "a disk of fixed size"),
        ("FROM python:3.11", "dial tcp: lookup registry.lab: no such host", "only registries on the Internet"),
        ("FROM lab/private:1", "pull access denied", "logs in only to the registry of your AWS account"),
        ("RUN curl http://server.lab", "Could not resolve host: server.lab", "only hosts on the Internet"),
        ("RUN make", "The command 'make' returned a non-zero code: 137", "fixed amount of memory"),
        ("RUN apt-get update && apt-get install git", "/bin/sh: apt-get: not found", "['RUN apk add PACKAGE']"),
        ("RUN ./tool", "exec ./tool: exec format error", "Correct dockerfile_lines=, or pass as base_image="),
    ],
)
def test_fix_of_failed_build_concerns_codebuild_and_no_engine_of_user(step: str, output: str, fix: str) -> None:
    aws = ScriptedAws("FAILED", log=[*GOOD[:6], f"Step 2/2 : {step}", output, "failed"], message="exit status 1")
    with pytest.raises(ImageError) as caught:
        build_system(aws)
    assert fix in str(caught.value).splitlines()[-1]
    assert "the Docker engine" not in str(caught.value)
    assert "`docker " not in str(caught.value)


def test_wrong_python_is_explained_as_for_engine() -> None:
    log = [*GOOD[:9], "cloudknot: this image has Python 3.9"]
    aws, image = ScriptedAws("FAILED", log=log, message="exit status 1"), image_with()
    with pytest.raises(ImageError, match=r"it has Python 3\.9\. The program was pickled by Python"):
        aws.builder().publish(image, aws.repository(), f"{URI}:{image.tag}")


@pytest.mark.parametrize(
    ("length", "words"),
    [(2, "could not read the files"), (4, "could not log in"), (10, "could not push"), (0, "AWS Health Dashboard")],
)
def test_failure_of_other_step_names_its_fix_and_log(length: int, words: str) -> None:
    aws = ScriptedAws("FAILED", log=GOOD[:length], message="exit status 254")
    with pytest.raises(ImageError) as caught:
        build_system(aws)
    assert words in str(caught.value)
    assert "docker info" in str(caught.value)
    assert "1 in builds" in str(caught.value)
    assert "CodeBuild reports for the phase BUILD: exit status 254." in str(caught.value)
    assert "Dockerfile" not in str(caught.value)


def test_build_over_time_limit_does_not_blame_dockerfile() -> None:
    aws = ScriptedAws("TIMED_OUT", log=GOOD[:6])
    with pytest.raises(ImageError, match="did not end within 60 minutes") as caught:
        build_system(aws)
    assert "Dockerfile" not in str(caught.value)


def test_image_that_another_session_pushed_counts_as_built() -> None:
    image = image_with()
    aws = ScriptedAws("IN_PROGRESS", "FAILED", log=GOOD[:10])

    def push() -> None:
        aws.has.add(system_uri(image).rpartition(":")[2])

    aws.on_look = push
    build_system(aws, image)
    assert len(aws.started) == 1


def test_build_without_end_is_stopped() -> None:
    aws = ScriptedAws("IN_PROGRESS")
    with pytest.raises(CKTimeoutError, match="did not end within 100 minutes"):
        build_system(aws)
    assert aws.stopped == [f"{BUILDS}:1"]
    assert aws.storage.objects == {}


def test_build_that_appears_late_is_followed() -> None:
    aws = ScriptedAws("MISSING", "MISSING", "IN_PROGRESS", "SUCCEEDED")
    build_system(aws)
    assert aws.stopped == []


def test_deleted_build_is_reported() -> None:
    with pytest.raises(ImageError, match="Somebody deleted the project of the build"):
        build_system(ScriptedAws("IN_PROGRESS", "MISSING"))


def test_events_of_several_lines_without_line_break_are_split() -> None:
    log = ["cloudknot-step build\nStep 1/1 : RUN false\nproblem", "The command 'false' returned 1"]
    aws = ScriptedAws("FAILED", log=log)
    aws.ends = ""
    with pytest.raises(ImageError) as caught:
        build_system(aws)
    assert caught.value.log == "problem"
    assert caught.value.instruction == "RUN false"


def test_interrupted_build_is_stopped() -> None:
    aws = ScriptedAws("IN_PROGRESS")

    def interrupt() -> None:
        raise KeyboardInterrupt

    aws.on_look = interrupt
    with pytest.raises(KeyboardInterrupt):
        build_system(aws)
    assert aws.stopped == [f"{BUILDS}:1"]
    assert aws.storage.objects == {}


def test_stop_from_another_thread_ends_build_and_deletes_files() -> None:
    aws, image = ScriptedAws("IN_PROGRESS", "STOPPED", log=GOOD[:5]), image_with()
    builder = aws.builder()
    aws.on_look = builder.stop
    with pytest.raises(ImageError, match="Somebody stopped the build"):
        builder.publish_system(image, aws.repository(), system_uri(image))
    assert aws.stopped == [f"{BUILDS}:1"]
    assert aws.storage.objects == {}


def test_stopped_builder_starts_no_build() -> None:
    aws, image = ScriptedAws(), image_with()
    builder = aws.builder()
    builder.stop()
    with pytest.raises(ImageError, match="was stopped"):
        builder.publish_system(image, aws.repository(), system_uri(image))
    assert aws.started == []
    assert aws.storage.objects == {}


def test_limit_of_new_account_is_explained() -> None:
    aws = ScriptedAws()
    refusal = "Cannot have more than 0 builds in queue for the account"
    aws.refusals["start_build"] = QuotaExceededError(refusal, code="AccountLimitExceededException", operation="x")
    with pytest.raises(QuotaExceededError, match="New accounts often have a limit of 0 or 1"):
        build_system(aws)
    assert aws.storage.objects == {}


def test_costs_are_shown_before_and_after(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "cloudknot")
    aws = ScriptedAws("IN_PROGRESS", "IN_PROGRESS", "SUCCEEDED")
    aws.on_look = lambda: aws.sleep(40)
    build_system(aws)
    before, after = caplog.messages
    assert "$0.005 for each minute" in before
    assert after == "The build on AWS CodeBuild took 3 minutes, about $0.015."


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1 minute, about $0.005"), (60, "1 minute, about $0.005"), (61, "2 minutes, about $0.010")],
)
def test_each_begun_minute_is_billed(seconds: float, text: str) -> None:
    assert estimate(MACHINES["linux/amd64"], seconds) == text


class TestProject:
    def test_project_keeps_repositories_and_buckets_of_other_sessions(self) -> None:
        aws = ScriptedAws()
        build_system(aws)
        aws.bucket, aws.builds = "other", ["SUCCEEDED"]
        aws.arn = aws.arn.replace("/cloudknot", "/lab")
        build_system(aws, image_with("RUN false"))
        assert aws.parameters["Repositories"].split(",") == [
            "arn:aws:ecr:us-east-1:123456789012:repository/cloudknot",
            "arn:aws:ecr:us-east-1:123456789012:repository/lab",
        ]
        assert aws.parameters["Contexts"].split(",") == [
            "arn:aws:s3:::lab/cloudknot.builds/*",
            "arn:aws:s3:::other/cloudknot.builds/*",
        ]
        assert aws.parameters["Owners"] == "123456789012"

    def test_project_that_is_up_to_date_is_not_changed(self) -> None:
        aws = ScriptedAws()
        build_system(aws)
        writes, aws.builds = list(aws.writes), ["SUCCEEDED"]
        build_system(aws, image_with("RUN false"))
        assert aws.writes == writes

    def test_role_keeps_boundary_until_session_has_another(self) -> None:
        aws, image = ScriptedAws(), image_with()
        for boundary, current in (("arn:1", "arn:1"), ("", "arn:1"), ("arn:2", "arn:2")):
            aws.builds = ["SUCCEEDED"]
            aws.builder(boundary=boundary).publish_system(image, aws.repository(), system_uri(image))
            assert aws.parameters["PermissionsBoundary"] == current


class TestChoice:
    @pytest.fixture(autouse=True)
    def without_engine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DOCKER_HOST", "unix:///no/engine.sock")
        monkeypatch.delenv("CLOUDKNOT_BUILDER", raising=False)

    def choose(self, aws: ScriptedAws, image: Image) -> object:
        return choice.choose_builder(cast(Cloud, aws), image, "cloudknot")

    def test_image_in_which_nothing_runs_needs_no_builder(self) -> None:
        assert self.choose(ScriptedAws(), render_image(PROGRAM)) is None

    def test_codebuild_is_chosen_without_engine(self) -> None:
        assert isinstance(self.choose(ScriptedAws(), image_with()), CodeBuilder)

    def test_published_image_needs_no_builder(self) -> None:
        image = image_with()
        assert self.choose(ScriptedAws(tags=[image.tag]), image) is None

    def test_new_program_on_built_system_needs_no_builder(self) -> None:
        image = image_with()
        system = ScriptedAws(tags=[system_uri(image).rpartition(":")[2]])
        assert self.choose(system, image) is None
        edited = dataclasses.replace(image, needs_engine=context.EDITED)
        assert isinstance(self.choose(system, edited), CodeBuilder)

    def test_setting_engine_refuses_without_engine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CLOUDKNOT_BUILDER", "engine")
        with pytest.raises(ImageError, match="DOCKER_HOST"):
            self.choose(ScriptedAws(), image_with())

    def test_unknown_setting_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CLOUDKNOT_BUILDER", "podman")
        with pytest.raises(
            CloudknotError, match="CLOUDKNOT_BUILDER is 'podman', which is not 'engine' or 'codebuild'"
        ):
            self.choose(ScriptedAws(), image_with())

    def test_denied_build_names_both_ways_and_creates_nothing(self) -> None:
        aws = ScriptedAws()
        aws.refusals["batch_get_builds"] = PermissionDeniedError("Your AWS credentials do not allow it.")
        with pytest.raises(
            ImageError, match=r"dockerfile_lines.*Docker engine.*DOCKER_HOST.*CodeBuild.*do not allow it"
        ):
            self.choose(aws, image_with())
        assert aws.writes == []

    def test_engine_that_answers_is_chosen(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
        with engine(str(tmp_path / "engine.sock")) as address:
            monkeypatch.setenv("DOCKER_HOST", address)
            assert isinstance(self.choose(ScriptedAws(), image_with()), DockerBuilder)
            monkeypatch.setenv("CLOUDKNOT_BUILDER", "codebuild")
            assert isinstance(self.choose(ScriptedAws(), image_with()), CodeBuilder)
