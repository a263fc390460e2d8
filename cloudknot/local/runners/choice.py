"""The table of runners, the only place that names them. A new runner needs one more entry here.

`cloudknot.local.options` checks ``runner=`` against this table, the command line offers its names, and the server
creates its runner from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cloudknot.local.directory.files import IMAGES

if TYPE_CHECKING:
    from cloudknot.aws.images.ecr import RegistryLogin
    from cloudknot.local.batch.records import Task
    from cloudknot.local.batch.runner import Runner
    from cloudknot.local.directory.full_disk import FullDisk


@dataclass(frozen=True)
class RunnerSettings:
    """The settings of a new runner.

    Attributes
    ----------
    directory : Path
        The directory of the embedded cloud.
    scratch : Path
        A directory for temporary files. It is deleted when the server's process ends.
    variables : mapping
        Environment variables of all tasks: endpoint and region.
    credentials : callable
        Returns the environment variables with the credentials of a role.
    on_output : callable
        Called with ``(task, path)`` when a task starts, and with ``(task, None)`` when its output is complete.
    disk : FullDisk
    login : RegistryLogin or None
        The login for the registry with the images; None without a registry.
    """

    directory: Path
    scratch: Path
    variables: Mapping[str, str]
    credentials: Callable[[str | None], Mapping[str, str]]
    on_output: Callable[[Task, Path | None], None]
    disk: FullDisk
    login: RegistryLogin | None


@dataclass(frozen=True)
class RunnerKind:
    """One kind of runner.

    Attributes
    ----------
    make : callable
        Creates the runner, in the server's process.
    check : callable
        Raises `CloudknotConfigurationError` if this machine cannot run it. Called before a server is started.
    needs_registry : bool
        True if its images come from a registry, False if they are directories on this machine.
    """

    make: Callable[[RunnerSettings], Runner]
    check: Callable[[], None]
    needs_registry: bool


# Each function imports its runner itself, so that a cloud of processes does not need the docker package.
def _process(settings: RunnerSettings) -> Runner:
    from cloudknot.local.runners.process import ProcessRunner

    return ProcessRunner(
        settings.directory / IMAGES,
        settings.scratch,
        settings.variables,
        settings.credentials,
        settings.on_output,
        settings.disk,
    )


def _docker(settings: RunnerSettings) -> Runner:
    from cloudknot.local.runners.docker import DockerRunner, connect

    assert settings.login is not None, "the server checks its options for a registry"
    return DockerRunner(
        connect(),
        settings.login,
        settings.directory,
        settings.scratch,
        settings.variables,
        settings.credentials,
        settings.on_output,
        settings.disk,
    )


def _check_process() -> None:
    """Check nothing: processes have no requirements beyond those of the embedded cloud itself."""


def _check_docker() -> None:
    from cloudknot.local.runners.docker import connect

    connect().close()


RUNNERS = {
    "process": RunnerKind(_process, _check_process, needs_registry=False),
    "docker": RunnerKind(_docker, _check_docker, needs_registry=True),
}
DEFAULT = "process"
WITH_REGISTRY = "docker"
"""The default runner of a cloud with a registry."""
