"""The embedded cloud: options that do not go together, directories, and programs that are missing."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, cast

import cloudknot as ck
from cloudknot.local.options import ServerOptions, check_running
from cloudknot.local.runners.docker import connect
from cloudknot.local.runners.images import materialise
from cloudknot.local.server.launch import launch
from cloudknot.local.state import locked, read_state
from tests.helpers.functions import square
from tests.helpers.images import render_image
from tests.integration.messages.catalogue import Area, World
from cloudknot.program.program import make_program

AREA = Area("embedded cloud")
AREA.refuses(
    ck.LocalCloud,
    {"directory": "x", "runner": "threads"},
    {"directory": "x", "runner": "docker"},
    {"directory": "x", "runner": "process", "registry": "localhost:5000"},
    {"directory": "x", "aws_access_key_id": "AKIA"},
)


@AREA.case
def directory_of_somebody_else(world: World) -> object:
    world.path.joinpath("thesis.tex").touch()
    return ck.LocalCloud(world.path).start()


@AREA.case
def running_cloud_with_other_options(world: World) -> None:
    state = read_state(world.cloud.directory)
    check_running(world.cloud.directory, ServerOptions(runner="docker"), cast(Any, state))


@AREA.case
def lock_that_is_held(world: World) -> None:
    with locked(world.path / "lock"), locked(world.path / "lock", timeout=0.1):
        pass


@AREA.case
def server_that_cannot_start(world: World) -> object:
    return launch(world.path, ServerOptions(runner="threads"))


@AREA.case
def no_docker_engine(world: World) -> object:
    world.patch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    return connect()


@AREA.case
def image_that_needs_an_engine(world: World) -> Path:
    program = make_program(square, requirements=[])
    return materialise(world.path, render_image(program, apt_packages=("imagemagick",)))


@AREA.case
def requirement_that_does_not_exist(world: World) -> Path:
    program = make_program(square, requirements=["no-such-package-of-anybody==1"])
    return materialise(world.path, render_image(program))


@AREA.case
def faults_on_a_cloud_that_is_not_there(world: World) -> None:
    ck.LocalCloud(world.path).faults.forget("job")


@AREA.case
def unknown_fault(world: World) -> None:
    world.cloud.faults.kill("no-such-job", "lightning")
