"""The table of runners: the one place that names them. A new runner is one more entry here.

`cloudknot.local.options` checks a choice against this table, the commands offer its names, and the server makes its
runner from it. Only the chosen runner's module is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloudknot.aws.images.ecr import RegistryLogin
    from cloudknot.local.batch.records import Task
    from cloudknot.local.batch.runner import Runner


@dataclass(frozen=True)
class Surroundings:
    """All that a runner is made from.

    Attributes
    ----------
    directory : Path
        The cloud's.
    scratch : Path
        A directory that lives as long as the server's process.
    variables : mapping
        Environment variables of every task besides its own: endpoint and region.
    credentials : callable
        Returns the environment variables that give a task with this role its credentials.
    on_output : callable
        Called with ``(task, path)`` when a task starts, and with ``(task, None)`` when its output is complete.
    login : RegistryLogin or None
        For the registry with the images; None without a registry.
    """

    directory: Path
    scratch: Path
    variables: Mapping[str, str]
    credentials: Callable[[str | None], Mapping[str, str]]
    on_output: Callable[[Task, Path | None], None]
    login: RegistryLogin | None


@dataclass(frozen=True)
class RunnerKind:
    """One kind of runner.

    Attributes
    ----------
    make : callable
        Makes the runner, in the server's process.
    check : callable
        Raises `CloudknotConfigurationError` where this machine cannot run it; called before a server is started.
    needs_registry : bool
        Whether its images are in a registry, and not in directories of this machine.
    """

    make: Callable[[Surroundings], Runner]
    check: Callable[[], None]
    needs_registry: bool


def _process(given: Surroundings) -> Runner:
    from cloudknot.local.runners.process import ProcessRunner

    images = given.directory / "images"
    return ProcessRunner(images, given.scratch, given.variables, given.credentials, given.on_output)


def _docker(given: Surroundings) -> Runner:
    from cloudknot.local.runners.docker import DockerRunner, connect

    assert given.login is not None, "checked with the options of the server"
    return DockerRunner(
        connect(), given.login, given.directory, given.scratch, given.variables, given.credentials, given.on_output
    )


def _check_process() -> None:
    """Processes need nothing that the embedded cloud does not need itself."""


def _check_docker() -> None:
    from cloudknot.local.runners.docker import connect

    connect().close()


RUNNERS = {
    "process": RunnerKind(_process, _check_process, needs_registry=False),
    "docker": RunnerKind(_docker, _check_docker, needs_registry=True),
}
DEFAULT = "process"
WITH_REGISTRY = "docker"
"""The runner of a cloud that is given a registry and no runner."""
