"""Messages about the differences between Linux, Windows and macOS."""

from __future__ import annotations

import pytest
from docker.credentials.errors import StoreError
from docker.errors import DockerException

import cloudknot as ck
from cloudknot.image.engine import connection
from cloudknot.image.engine.builder import DockerBuilder
from cloudknot.local.options import check_system
from cloudknot.local.runners import docker
from cloudknot.program.program import make_program
from cloudknot.program.requirements import from_user
from tests.integration.messages.catalogue import Area, World

AREA = Area("platforms")


@AREA.case
def embedded_cloud_on_windows(world: World) -> None:
    check_system("win32")


@AREA.case
def requirement_that_linux_lacks(world: World) -> None:
    from_user(["pywin32==306"])


@AREA.case
def import_that_linux_lacks(world: World) -> None:
    def function() -> object:
        import winreg

        return winreg

    make_program(function)


def _missing_context(world: World) -> None:
    world.patch.delenv("DOCKER_HOST", raising=False)
    world.patch.setenv("DOCKER_CONTEXT", "labb")
    world.patch.setenv("DOCKER_CONFIG", str(world.path))


@AREA.case
def missing_context_for_build(world: World) -> None:
    _missing_context(world)
    connection.connect()


@AREA.case
def missing_context_for_docker_runner(world: World) -> None:
    _missing_context(world)
    docker.connect()


@AREA.case
def credential_helpers_that_cannot_run(world: World) -> list[object]:
    errors: list[object] = []
    for error in (
        StoreError("docker-credential-desktop not installed"),
        DockerException("Credentials store error: x"),
    ):
        with pytest.raises(ck.CloudknotError) as caught, DockerBuilder()._translated("Building the image"):
            raise error
        errors.append(caught.value)
    return errors
