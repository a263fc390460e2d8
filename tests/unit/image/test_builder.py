"""`DockerBuilder` sends requests to an engine and explains its errors. Engine and registry are small fakes."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from docker.errors import APIError, ImageNotFound, StreamParseError
from requests import Response
from urllib3.exceptions import ProtocolError

from cloudknot.aws.images.ecr import RegistryLogin
from cloudknot.aws.images.image_store import Image
from cloudknot.errors import ImageError
from cloudknot.image import context
from cloudknot.image.engine.build_log import EngineLog
from cloudknot.image.engine.builder import DockerBuilder, as_tar
from cloudknot.image.render import render
from cloudknot.program.program import Program, make_program
from tests.helpers.functions import square
from tests.helpers.images import described, render_image

NAME = "123456789012.dkr.ecr.us-east-1.amazonaws.com/cloudknot"
SECRET = "the-password"
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The version of this Python."""


@dataclass
class Engine:
    """A fake engine. It records requests, keeps the images that it built, and answers builds with ``events``."""

    events: list[dict[str, Any]] = field(default_factory=list)
    images: set[str] = field(default_factory=set)
    requests: list[tuple[Any, ...]] = field(default_factory=list)
    contexts: list[dict[str, bytes]] = field(default_factory=list)
    options: list[dict[str, Any]] = field(default_factory=list)
    logins: list[Any] = field(default_factory=list)
    architecture: str = "amd64"
    exit_code: int = 0
    output: bytes = b""
    push_error: Exception | None = None

    def build(self, fileobj: io.BytesIO, tag: str, **options: Any) -> Iterator[dict[str, Any]]:
        self.requests.append(("build", tag.rpartition(":")[2]))
        with tarfile.open(fileobj=fileobj) as tar:
            self.contexts.append({name: tar.extractfile(name).read() for name in tar.getnames()})  # type: ignore[union-attr]
        self.options.append(options)
        yield from self.events
        self.images.add(tag)

    def push(self, uri: str, auth_config: Any = None, **options: Any) -> Iterator[dict[str, Any]]:
        self.requests.append(("push", uri.rpartition(":")[2]))
        self.logins.append(auth_config)
        if self.push_error:
            raise self.push_error
        yield {"id": "abc", "status": "Pushing", "progressDetail": {"current": 1, "total": 2}}

    def pull(self, name: str, tag: str, auth_config: Any = None, **options: Any) -> Iterator[dict[str, Any]]:
        self.requests.append(("pull", tag))
        self.logins.append(auth_config)
        self.images.add(f"{name}:{tag}")
        yield {"id": "abc", "status": "Pull complete", "progressDetail": {}}

    def inspect_image(self, uri: str) -> dict[str, str]:
        if uri not in self.images:
            raise ImageNotFound("none")
        return {"Os": "linux", "Architecture": self.architecture}

    def tag(self, uri: str, name: str, tag: str, force: bool) -> None:
        self.requests.append(("tag", uri, f"{name}:{tag}"))

    def create_container(self, uri: str, command: list[str], **options: Any) -> dict[str, str]:
        self.requests.append(("run", command[0]))
        return {"Id": "c1"}

    def start(self, container: str) -> None: ...

    def wait(self, container: str, timeout: int) -> dict[str, int]:
        return {"StatusCode": self.exit_code}

    def logs(self, container: str) -> bytes:
        return self.output

    def remove_container(self, container: str, force: bool) -> None:
        self.requests.append(("remove", container))


@dataclass
class Registry:
    """A fake repository with some tags."""

    tags: set[str] = field(default_factory=set)

    def has_tag(self, tag: str) -> bool:
        return tag in self.tags

    def login(self) -> RegistryLogin:
        return RegistryLogin("registry", "AWS", SECRET)


@pytest.fixture
def program() -> Program:
    return make_program(square, requirements=["six==1.16.0"])


@pytest.fixture
def image(program: Program) -> Image:
    return render_image(program)


def publish(image: Image, engine: Engine, registry: Registry) -> None:
    DockerBuilder(engine).publish(image, registry, f"{NAME}:{image.tag}")


def test_publish_builds_and_pushes_first_image_in_two_layers(image: Image) -> None:
    engine = Engine()
    publish(image, engine, Registry())
    env, tag = image.environment_tag, image.tag
    assert engine.requests == [("build", env), ("push", env), ("build", tag), ("push", tag)]
    lower, upper = engine.contexts
    assert set(lower) == {"Dockerfile", "pylock.toml", "requirements.lock", "requirements.txt"}
    assert upper["program/function.pkl"] == image.files["program/function.pkl"]
    assert [options.get("labels", {}).get("org.opencontainers.image.title") for options in engine.options] == [
        None,
        "square",
    ]
    assert engine.options[1]["buildargs"] == {"ENVIRONMENT": f"{NAME}:{env}"}
    assert {options["platform"] for options in engine.options} == {"linux/amd64"}


def test_publish_builds_only_program_on_known_environment(image: Image, program: Program) -> None:
    engine, registry = Engine(), Registry()
    publish(image, engine, registry)
    registry.tags |= {image.environment_tag, image.tag}
    engine.requests.clear()
    edited = render_image(replace(program, digest="0" * 64, pickled=b"other"))
    publish(edited, engine, registry)
    assert engine.requests == [("build", edited.tag), ("push", edited.tag)]


def test_publish_pulls_environment_that_registry_has(image: Image) -> None:
    engine = Engine()
    publish(image, engine, Registry({image.environment_tag}))
    assert engine.requests == [("pull", image.environment_tag), ("build", image.tag), ("push", image.tag)]


def test_interrupted_push_is_repeated_without_reinstalling(image: Image) -> None:
    engine, registry = Engine(push_error=APIError("connection reset")), Registry()
    with pytest.raises(ImageError, match=r"Pushing .* failed: connection reset.* try again"):
        publish(image, engine, registry)
    engine.push_error = None
    engine.requests.clear()
    publish(image, engine, registry)
    env, tag = image.environment_tag, image.tag
    assert engine.requests == [("push", env), ("build", tag), ("push", tag)]


def test_refused_push_names_login_as_cause(image: Image) -> None:
    engine = Engine(push_error=APIError("denied: requested access to the resource is denied"))
    with pytest.raises(
        ImageError, match=r"Pushing .* is denied\. The registry refused the login or the push\. .*`docker login`\.$"
    ):
        publish(image, engine, Registry())


def test_publish_without_cache_builds_and_pushes_everything(image: Image) -> None:
    engine = Engine()
    uncached = replace(image, nocache=True)
    publish(uncached, engine, Registry({image.environment_tag, image.tag}))
    env, tag = image.environment_tag, image.tag
    assert engine.requests == [("build", env), ("push", env), ("build", tag), ("push", tag)]
    assert [options["nocache"] for options in engine.options] == [True, True]


def test_engine_builds_for_platform_of_image(program: Program) -> None:
    engine = Engine(architecture="arm64")
    publish(render_image(program, platform="linux/arm64"), engine, Registry())
    assert {options["platform"] for options in engine.options} == {"linux/arm64"}


def test_builder_gives_login_only_to_engine(
    image: Image, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDKNOT_PROGRESS", "1")
    engine = Engine(events=[{"stream": "Step 1/2 : FROM x\n"}])
    with caplog.at_level("DEBUG"):
        publish(image, engine, Registry({image.environment_tag}))
    assert engine.logins == [{"username": "AWS", "password": SECRET}] * 2
    printed = capfd.readouterr()
    assert "Building the image" in printed.err
    assert SECRET not in printed.out + printed.err + caplog.text + repr(Registry().login()) + repr(engine.options)


def test_build_error_has_failed_step_and_end_of_its_log(image: Image) -> None:
    events = [{"stream": "Step 1/9 : FROM python:3.11-slim\n"}, {"stream": " ---> 1\n"}]
    events += [{"stream": "Step 2/9 : RUN python -m pip install -r requirements.txt\n"}]
    events += [{"stream": f"line {number}\n"} for number in range(50)]
    events += [{"error": "The command '/bin/sh -c python' returned a non-zero code: 1"}]
    with pytest.raises(ImageError, match=r"^Building the image failed") as raised:
        publish(image, Engine(events=events), Registry())
    text = str(raised.value)
    assert "RUN python -m pip install -r requirements.txt" in text
    assert "line 49" in text
    assert "line 29\n" not in text
    assert raised.value.instruction == "RUN python -m pip install -r requirements.txt"
    assert raised.value.log.splitlines()[-1] == "line 49"


PIP_STEP = "RUN env/bin/python -m pip install --requirement env/requirements.lock"
DNS = 'Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io: no such host'


@pytest.mark.parametrize(
    ("step", "log", "error", "problem", "fix"),
    [
        ("FROM pyton:3.11", "", DNS, "base image pyton:3.11 cannot be reached", "correct base_image= if it is"),
        (
            "FROM pyton:3.11",
            "",
            "manifest unknown",
            "pyton:3.11 does not exist in its registry",
            "Correct base_image=",
        ),
        (
            "FROM Py:3",
            "",
            "invalid reference format",
            "'Py:3' is not the name of an image",
            "Correct base_image=",
        ),
        (
            "FROM x",
            "",
            "no matching manifest for linux/arm64/v8 in the manifest list",
            "is not for",
            "an image that exists for",
        ),
        ("FROM ${SYSTEM}", "", "wanted linux/amd64, actual: linux/arm64", "pyton:3.11 is not for", "exists for linux"),
        (
            "RUN make",
            "cc1: No space left on device",
            "code: 1",
            "The disk of the machine that builds the image is full",
            "`docker system",
        ),
        (
            "RUN x",
            "curl: (6) Could not resolve host: x",
            "code: 6",
            "step of the build has no network",
            "Check the net",
        ),
        (
            "COPY a /",
            "",
            "COPY failed: file not found in build context",
            "does not have",
            "or correct dockerfile_lines=",
        ),
        (
            "RUN make",
            "",
            "returned a non-zero code: 137",
            "lack of memory",
            "more memory, or correct dockerfile_lines=",
        ),
        (PIP_STEP, "error: command 'gcc' failed: No such file", "code: 1", "no compiler", "apt_packages=['build-ess"),
        (PIP_STEP, "ERROR: hashes do not match", "code: 1", "hashes do not match", "Correct requirements= and try"),
        ("RUN pip install x", "ERROR: No such x", "code: 1", "No such x", "Correct dockerfile_lines= and try again."),
    ],
)
def test_known_cause_of_failed_build_has_its_fix(
    program: Program, step: str, log: str, error: str, problem: str, fix: str
) -> None:
    image = render_image(program, base_image="pyton:3.11")
    engine = Engine(events=[{"stream": f"Step 1/9 : {step}\n"}, {"stream": f"{log}\n"}, {"error": error}])
    with pytest.raises(ImageError) as raised:
        publish(image, engine, Registry())
    assert problem in str(raised.value)
    assert fix in str(raised.value).splitlines()[-1]
    assert raised.value.instruction == step


def test_line_that_arrives_in_pieces_stays_one_line(program: Program) -> None:
    pieces = ["start\n", "\x1b[91mE: Unable to \x1b[0m", "\x1b[91mlocate package x\n\x1b[0m", "end"]
    events = [{"stream": text} for text in ["Step 1/9 : RUN x\n", *pieces, "Removing intermediate container 1\n"]]
    with pytest.raises(ImageError, match="has no package x") as raised:
        publish(render_image(program), Engine(events=[*events, {"error": "code: 1"}]), Registry())
    assert raised.value.log == "start\nE: Unable to locate package x\nend"


def test_error_for_edited_dockerfile_names_it_and_no_option(program: Program) -> None:
    image = replace(render_image(program), needs_engine=context.EDITED)
    events = [{"stream": "Step 1/9 : RUN apt-get update && apt-get install x\n"}, {"error": "code: 1"}]
    with pytest.raises(ImageError, match="Correct the Dockerfile that you edited and try again"):
        publish(image, Engine(events=events), Registry())


class Refusing(Engine):
    """An engine that does not accept a Dockerfile."""

    def build(self, fileobj: io.BytesIO, tag: str, **options: Any) -> Iterator[dict[str, Any]]:
        with tarfile.open(fileobj=fileobj) as tar:
            lines = tar.extractfile("Dockerfile").read().decode().splitlines()  # type: ignore[union-attr]
        answer = Response()
        answer.status_code = 400
        number = next(number for number, line in enumerate(lines, 1) if "RUNN" in line)
        raise APIError("400", answer, f"dockerfile parse error line {number}: unknown instruction: RUNN")


def test_refused_line_of_dockerfile_is_shown_with_its_option(program: Program) -> None:
    image = render_image(program, dockerfile_lines=["RUNN make"])
    with pytest.raises(ImageError, match=r"unknown instruction: RUNN\.\nThe line of the Dockerfile:\n    RUNN make\n"):
        publish(image, Refusing(), Registry())


@pytest.mark.parametrize(
    "error", [ProtocolError("Connection broken"), ConnectionResetError("reset"), StreamParseError(ValueError("half"))]
)
def test_lost_engine_is_reported_as_such(image: Image, error: Exception) -> None:
    class Stopped(Engine):
        def build(self, fileobj: io.BytesIO, tag: str, **options: Any) -> Iterator[dict[str, Any]]:
            yield {"stream": "Step 1/9 : FROM x\n"}
            raise error

    with pytest.raises(ImageError, match=r"connection to the Docker engine broke\. .* Check the Docker engine with"):
        publish(image, Stopped(), Registry())


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("cloudknot: this image has Python 3.9\n", "it has Python 3.9"),
        ("/bin/sh: 1: python: not found\n", "it has no command `python`"),
    ],
)
def test_environment_with_another_python_is_not_pushed(program: Program, log: str, reason: str) -> None:
    image = render_image(program, base_image="old:1")
    instruction = next(
        line for line in image.files["Dockerfile"].decode().splitlines() if context.is_python_check(line)
    )
    engine = Engine(
        events=[{"stream": f"Step 5/9 : {instruction}\n"}, {"stream": log}, {"error": "returned a non-zero code: 1"}]
    )
    with pytest.raises(ImageError, match="pickled by Python") as raised:
        publish(image, engine, Registry())
    assert reason in str(raised.value)
    assert "old:1" in str(raised.value)
    assert engine.requests == [("build", image.environment_tag)]


def with_own_dockerfile(program: Program) -> Image:
    """Return an image with a Dockerfile of a person's own, without stages."""
    return described({**render(program), "Dockerfile": b"FROM mine\nCOPY . /opt/cloudknot\n"})


def test_own_dockerfile_is_built_whole_and_its_python_checked(program: Program) -> None:
    engine, image = Engine(), with_own_dockerfile(program)
    publish(image, engine, Registry())
    assert engine.requests == [("build", image.tag), ("run", "python"), ("remove", "c1"), ("push", image.tag)]
    assert engine.contexts == [dict(image.files)]


def test_own_dockerfile_with_another_python_is_not_pushed(program: Program) -> None:
    engine = Engine(exit_code=1, output=b"cloudknot: this image has Python 3.8\n")
    with pytest.raises(
        ImageError, match=r"it has Python 3\.8\. The program was pickled by .* Its base image is mine\."
    ):
        publish(with_own_dockerfile(program), engine, Registry())
    assert ("remove", "c1") in engine.requests
    assert "push" not in {request[0] for request in engine.requests}


def test_image_of_another_architecture_is_not_pushed(program: Program) -> None:
    engine = Engine()
    with pytest.raises(ImageError, match=r"is for linux/amd64, but the instance types need linux/arm64.*mine:1"):
        publish(render_image(program, platform="linux/arm64", base_image="mine:1"), engine, Registry())
    assert "push" not in {request[0] for request in engine.requests}


def test_builder_checks_python_of_program_stage_with_commands(program: Program) -> None:
    files = render(program)
    image = described({**files, "Dockerfile": files["Dockerfile"] + b"RUN ln -sf python3.8 /usr/bin/python\n"})
    engine = Engine(exit_code=1, output=b"cloudknot: this image has Python 3.8\n")
    with pytest.raises(ImageError, match=r"it has Python 3\.8\. The program was pickled by"):
        publish(image, engine, Registry())
    assert ("push", image.tag) not in engine.requests


def test_error_names_platform_that_engine_cannot_run(program: Program) -> None:
    image = render_image(program, platform="linux/arm64")
    events = [{"stream": "Step 3/9 : RUN x\n"}, {"stream": "exec /bin/sh: exec format error\n"}, {"error": "code: 1"}]
    with pytest.raises(ImageError, match="cannot run programs for linux/arm64"):
        publish(image, Engine(events=events), Registry())
    output = b"standard_init_linux.go:228: exec user process caused: exec format error"
    with pytest.raises(ImageError, match="cannot run programs for linux/amd64"):
        publish(with_own_dockerfile(program), Engine(exit_code=1, output=output), Registry())


def test_publish_system_builds_and_pushes_first_stage_once(program: Program) -> None:
    image = render_image(program, apt_packages=["hello"])
    tag = context.system_tag(image.files, image.platform)
    engine, registry = Engine(), Registry()
    DockerBuilder(engine).publish_system(image, registry, f"{NAME}:{tag}")
    assert engine.requests == [("build", tag), ("push", tag)]
    assert set(engine.contexts[0]) == {"Dockerfile", "requirements.txt"}
    assert b"hello" in engine.contexts[0]["Dockerfile"]
    assert b"pip" not in engine.contexts[0]["Dockerfile"]
    registry.tags.add(tag)
    DockerBuilder(engine).publish_system(image, registry, f"{NAME}:{tag}")
    assert len(engine.requests) == 2


def test_build_needs_no_registry_and_reuses_environment(image: Image) -> None:
    engine = Engine()
    DockerBuilder(engine).build(image, "mine:1")
    DockerBuilder(engine).build(image, "mine:2")
    assert engine.requests == [("build", image.environment_tag), ("build", "1"), ("build", "2")]


@pytest.mark.parametrize("version", [RUNNING, "2.7"], ids=["running version", "2.7"])
def test_python_check_passes_only_in_its_version(version: str, run_python: Callable[[str], tuple[int, str]]) -> None:
    status, output = run_python(context.python_check(version))
    assert (status == 0) is (version == RUNNING)
    assert context.python_found(output) == (None if version == RUNNING else RUNNING)


@pytest.fixture
def run_python() -> Callable[[str], tuple[int, str]]:
    """Return a function that runs code in a new Python and returns its exit code and stderr."""

    def run(code: str) -> tuple[int, str]:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stderr

    return run


def test_archive_does_not_depend_on_order_of_files() -> None:
    files = {"b": b"2", "a/c": b"1"}
    assert as_tar(files).getvalue() == as_tar(dict(reversed(files.items()))).getvalue()


def test_archive_keeps_executable_bits() -> None:
    with tarfile.open(fileobj=as_tar({"run": b"", "read": b""}, {"run"})) as tar:
        assert {member.name: oct(member.mode) for member in tar} == {"run": "0o755", "read": "0o644"}


def test_log_of_build_error_has_no_escape_codes() -> None:
    events = [
        {"stream": "Step 1/1 : RUN pip install nothing\n"},
        {"stream": "\x1b[91mERROR: no such package\n\x1b[0m"},
        {"stream": "\x1b[0m\n"},
        {"error": "it returned a non-zero code: 1"},
    ]
    with EngineLog("Building", shown=False) as log, pytest.raises(ImageError) as raised:
        log.follow(events)
    assert raised.value.log == "ERROR: no such package"
    assert "\x1b" not in str(raised.value)


def test_push_shows_its_progress_in_bytes(capfd: pytest.CaptureFixture[str]) -> None:
    sizes = {"aaa": 3000, "bbb": 1000}
    events: list[dict[str, Any]] = [{"id": "ccc", "status": "Layer already exists"}]
    for name, size in sizes.items():
        events += [{"id": name, "status": "Pushing", "progressDetail": {"current": size // 2, "total": size}}]
        events += [{"id": name, "status": "Pushed"}]
    with EngineLog(f"Pushing {NAME}:env-1", "Pushing the environment", shown=True) as log:
        log.follow(events)
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert "Pushing the environment" in line
    assert "4.0/4.0 kB" in line
