"""Images that cannot be described, built or pushed."""

from __future__ import annotations

import json
import subprocess

from docker.errors import APIError

import cloudknot as ck
from cloudknot.aws.images.image_store import Image
from cloudknot.errors import ImageError
from cloudknot.image import context
from cloudknot.image.docker_image import DockerImage, docker_image_of
from cloudknot.image.engine.builder import DockerBuilder
from cloudknot.image.git_pins import pinned
from cloudknot.image.render import render
from cloudknot.options.choices import KnotOptions
from cloudknot.program.program import make_program
from tests.helpers.functions import cube, square
from tests.helpers.images import described, render_image
from tests.integration.messages.catalogue import Area, World, error_of
from tests.unit.image.test_builder import PIP_STEP, Engine, Refusing, Registry, publish

AREA = Area("image")
PROGRAM = make_program(square, requirements=["six==1.16.0"])


def _built_whole() -> Image:
    return described({**render(PROGRAM), "Dockerfile": b"FROM mine\nCOPY . /opt/cloudknot\n"})


@AREA.case
def push_without_destination(world: World) -> None:
    DockerImage(func=square, dir_name=world.path / "d").push()


@AREA.case
def clobber_of_image_with_edited_files(world: World) -> BaseException:
    image = DockerImage("edited", abs, dir_name=world.path / "edited")
    image.docker_path.write_text("FROM python")
    image.clobber()
    return error_of(lambda: image.docker_path)


@AREA.case
def push_before_build(world: World) -> None:
    DockerImage(func=square, dir_name=world.path / "d").push(repo_uri="registry/name")


@AREA.case
def docker_image_of_another_type(world: World) -> object:
    return docker_image_of(KnotOptions.make(docker_image="python:3.11"))


@AREA.case
def directory_below_a_file(world: World) -> object:
    world.path.joinpath("file").touch()
    return DockerImage(func=square, dir_name=world.path / "file" / "d")


@AREA.case
def directory_without_program(world: World) -> object:
    return DockerImage(dir_name=world.path)


@AREA.case
def directory_of_earlier_version(world: World) -> object:
    DockerImage(func=square, dir_name=world.path / "d")
    info = world.path / "d" / "program" / "program.json"
    info.write_text(json.dumps({key: value for key, value in json.loads(info.read_text()).items() if key != "format"}))
    return ck.Knot(docker_image=DockerImage(dir_name=world.path / "d"), cloud=world.cloud)


@AREA.case
def directory_with_foreign_files(world: World) -> object:
    file = next(name for name in render(PROGRAM) if name.startswith(("program/", "cloudknot_worker/")))
    world.path.joinpath(file).parent.mkdir(parents=True)
    world.path.joinpath(file).write_text("mine")
    return DockerImage(func=square, dir_name=world.path)


@AREA.case
def outdated_edited_file(world: World) -> None:
    image = DockerImage(func=square, dir_name=world.path / "d")
    image.req_path.write_text(image.req_path.read_text() + "six\n")
    DockerImage(func=cube, dir_name=world.path / "d", requirements=["attrs"])


@AREA.case
def git_repository_without_answer(world: World) -> None:
    def fail(url: str) -> dict[str, str]:
        raise subprocess.TimeoutExpired("git", 15)

    pinned(["https://github.com/owner/name"], fail)


@AREA.case
def missing_branch(world: World) -> None:
    pinned(["https://github.com/owner/name@v9"], lambda url: {"HEAD": "0" * 40})


@AREA.case
def no_docker_engine(world: World) -> None:
    world.patch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    DockerBuilder().build(render_image(PROGRAM), "x:1")


@AREA.case
def failed_instruction(world: World) -> None:
    events = [
        {"stream": f"Step 2/9 : {PIP_STEP}\n"},
        {"stream": "ERROR: No matching distribution found for six==1.16.0\n"},
        {"error": "The command '/bin/sh -c python -m pip install' returned a non-zero code: 1"},
    ]
    publish(render_image(PROGRAM), Engine(events=events), Registry())


@AREA.case
def refused_dockerfile_line(world: World) -> None:
    publish(render_image(PROGRAM, dockerfile_lines=["RUNN make"]), Refusing(), Registry())


@AREA.case
def failed_apt_package(world: World) -> None:
    image = render_image(PROGRAM, apt_packages=("imagej",))
    step = next(line for line in image.files["Dockerfile"].decode().splitlines() if "apt-get" in line)
    events = [
        {"stream": f"Step 2/9 : {step}\n"},
        {"stream": "E: Unable to locate package imagej\n"},
        {"error": "The command '/bin/sh -c apt-get install' returned a non-zero code: 100"},
    ]
    publish(image, Engine(events=events), Registry())


@AREA.case
def missing_base_image(world: World) -> None:
    events = [
        {"stream": "Step 1/9 : FROM python:3.99-slim\n"},
        {"error": "manifest for python:3.99-slim not found: manifest unknown: manifest unknown"},
    ]
    publish(render_image(PROGRAM, base_image="python:3.99-slim"), Engine(events=events), Registry())


@AREA.case
def base_image_with_old_python(world: World) -> None:
    image = render_image(PROGRAM, base_image="old:1")
    check = next(line for line in image.files["Dockerfile"].decode().splitlines() if context.is_python_check(line))
    log = "cloudknot: this image has Python 3.9\n"
    events = [{"stream": f"Step 5/9 : {check}\n"}, {"stream": log}, {"error": "returned a non-zero code: 1"}]
    publish(image, Engine(events=events), Registry())


@AREA.case
def own_dockerfile_without_python(world: World) -> None:
    publish(_built_whole(), Engine(exit_code=1, output=b"python: not found\n"), Registry())


@AREA.case
def base_image_for_another_architecture(world: World) -> None:
    publish(render_image(PROGRAM, platform="linux/arm64", base_image="mine:1"), Engine(), Registry())


@AREA.case
def no_emulation(world: World) -> None:
    events = [{"stream": "Step 3/9 : RUN x\n"}, {"stream": "exec /bin/sh: exec format error\n"}, {"error": "code: 1"}]
    publish(render_image(PROGRAM, platform="linux/arm64"), Engine(events=events), Registry())


@AREA.case
def interrupted_push(world: World) -> None:
    publish(render_image(PROGRAM), Engine(push_error=APIError("connection reset")), Registry())


@AREA.case
def refused_push(world: World) -> None:
    refusal = APIError("denied: requested access to the resource is denied")
    publish(render_image(PROGRAM), Engine(push_error=refusal), Registry())


@AREA.case
def engine_that_shuts_down(world: World) -> object:
    class Ended(Engine):
        def inspect_image(self, uri: str) -> dict[str, str]:
            raise APIError("the engine is shutting down")

    try:
        publish(_built_whole(), Ended(), Registry())
    except ImageError as error:
        return error
    return None


@AREA.case
def no_emulation_for_own_dockerfile(world: World) -> None:
    output = b"standard_init_linux.go:228: exec user process caused: exec format error"
    publish(_built_whole(), Engine(exit_code=1, output=output), Registry())
