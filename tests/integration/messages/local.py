"""Invalid options, directories and requirements of the embedded cloud, and missing programs."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import cloudknot as ck
from cloudknot.aws.images.ecr import RegistryLogin
from cloudknot.aws.images.registry.client import Registry
from cloudknot.aws.sdk.process_limits import _allow_open_files, _check_tasks
from cloudknot.local.admin import answers
from cloudknot.local.directory.claim import check_owner
from cloudknot.local.directory.files import MARKER
from cloudknot.local.directory.locks import locked
from cloudknot.local.directory.state import CloudState, read_state
from cloudknot.local.options import ServerOptions, check_running
from cloudknot.local.runners.docker import connect
from cloudknot.local.runners.images.prune import limit
from cloudknot.local.runners.images.store import materialise
from cloudknot.local.server.registry import check, registry_of
from cloudknot.local.session.launch import check_installed, launch
from cloudknot.program.program import make_program
from tests.helpers.foreign import foreign_directory
from tests.helpers.functions import square
from tests.helpers.images import render_image
from tests.integration.aws.test_translation import refusing_server
from tests.integration.local.runners.source_archives import BROKEN, source_lock
from tests.integration.messages.catalogue import Area, World, error_of

AREA = Area("embedded cloud")
AREA.refuses(
    ck.LocalCloud,
    {"directory": "x", "runner": "threads"},
    {"directory": "x", "runner": "docker"},
    {"directory": "x", "runner": "process", "registry": "localhost:5000"},
    {"directory": "x", "aws_access_key_id": "AKIA"},
)


@AREA.case
def directory_with_foreign_files(world: World) -> object:
    world.path.joinpath("thesis.tex").touch()
    return ck.LocalCloud(world.path).start()


@AREA.case
def directory_of_newer_cloudknot(world: World) -> object:
    (world.path / MARKER).write_text("99", encoding="utf-8")
    return ck.LocalCloud(world.path).start()


@AREA.case
def stopped_and_deleted_cloud(world: World) -> list[BaseException]:
    cloud = ck.LocalCloud(world.path / "cloud")
    cloud.call("sts", "get_caller_identity")
    cloud.stop()
    stopped = error_of(lambda: cloud.call("sts", "get_caller_identity"))
    shutil.rmtree(cloud.directory)
    return [stopped, error_of(lambda: cloud.call("sts", "get_caller_identity"))]


@AREA.case
def killed_cloud(world: World) -> None:
    cloud = ck.LocalCloud(world.path / "cloud")
    os.kill(cloud.start().pid, signal.SIGKILL)
    cloud.call("sts", "get_caller_identity")
    cloud.stop()


@AREA.case
def directory_of_another_user(world: World) -> None:
    check_owner(foreign_directory(world.path))


@AREA.case
def running_cloud_with_other_options(world: World) -> None:
    state = read_state(world.cloud.directory)
    check_running(world.cloud.directory, ServerOptions(runner="docker"), cast(Any, state))


@AREA.case
def held_lock(world: World) -> None:
    with locked(world.path / "lock"), locked(world.path / "lock", timeout=0.1):
        pass


@AREA.case
def server_that_cannot_start(world: World) -> object:
    return launch(world.path, ServerOptions(runner="threads"), "cloudknot.local.server")


@AREA.case
def no_docker_engine(world: World) -> object:
    world.patch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    return connect()


@AREA.case
def image_that_needs_docker_engine(world: World) -> Path:
    program = make_program(square, requirements=[])
    return materialise(world.path, render_image(program, apt_packages=("imagemagick",)))


@AREA.case
def missing_requirement(world: World) -> Path:
    program = make_program(square, requirements=["no-such-package-of-anybody==1"])
    return materialise(world.path, render_image(program))


@AREA.case
def package_of_offline_lock_that_is_not_installed(world: World) -> Path:
    image = render_image(make_program(square, requirements=["no-such-package-of-anybody==1"]))
    packages = tuple(replace(package, sha256="", url="", filename="") for package in image.lock.packages)
    return materialise(world.path, replace(image, lock=replace(image.lock, packages=packages)))


@AREA.case
def source_archive_that_cannot_be_built(world: World) -> Path:
    image = render_image(make_program(square, requirements=[]))
    return materialise(world.path / "cloud", replace(image, lock=source_lock(world.path, BROKEN)))


@AREA.case
def limit_that_is_no_number(world: World) -> float:
    world.patch.setenv("CLOUDKNOT_LOCAL_GB", "ten")
    return limit()


@AREA.case
def environment_that_cannot_be_created(world: World) -> Path:
    world.patch.setenv("CLOUDKNOT_LOCAL_ENVIRONMENTS", str(world.path / "environments"))
    world.patch.setattr("sys._base_executable", str(world.path / "no-python"))
    return materialise(world.path, render_image(make_program(square, requirements=[])))


@AREA.case
def cloud_without_packages(world: World) -> None:
    world.patch.setattr("cloudknot.local.session.launch._NEEDED", ("no_such_package",))
    check_installed()


@AREA.case
def cloud_that_hangs(world: World) -> list[BaseException]:
    world.patch.setattr("cloudknot.local.admin.REQUEST_TIMEOUT", 0.2)
    world.patch.setattr("cloudknot.local.session.cloud.STOP_TIMEOUT", 0.0)
    world.patch.setattr("cloudknot.local.session.connection.ANSWER_TIMEOUT", 0.2)
    cloud = ck.LocalCloud(world.path)
    process = cloud.start().pid
    os.kill(process, signal.SIGSTOP)
    try:
        return [error_of(cloud.start), error_of(cloud.stop)]
    finally:
        os.kill(process, signal.SIGKILL)
        os.kill(process, signal.SIGCONT)


@AREA.case
def clock_that_is_wrong(world: World) -> None:
    with refusing_server("cloudknot", 403, "RequestTimeTooSkewed", "as the cloud says it") as endpoint:
        answers(CloudState(endpoint, 1, "AKIA", "secret"))


@AREA.case
def directory_that_cannot_be_written(world: World) -> object:
    world.path.joinpath("file").touch()
    return ck.LocalCloud(world.path / "file" / "cloud").start()


@AREA.case
def low_limits_of_process(world: World) -> list[BaseException]:
    return [error_of(lambda: _allow_open_files(64, 64)), error_of(lambda: _check_tasks(40, 30, 16))]


@AREA.case
def unusable_registries(world: World) -> list[Exception]:
    raised = [error_of(lambda: check(_registry("http://127.0.0.1:1")))]
    for status in (401, 404, 500):
        with refusing_server("ecr", status, "Refused", "as a registry says it") as endpoint:
            raised.append(error_of(lambda url=endpoint: check(_registry(url))))
            raised.append(error_of(lambda url=endpoint: _registry(url).put_manifest("data", "v1", "text/plain", b"")))  # type: ignore[misc]
    return raised


def _registry(url: str) -> Registry:
    return registry_of(RegistryLogin(url.removeprefix("http://"), "AWS", ""))
