"""LocalCloud: the embedded cloud as a `Cloud`. Finds the one that runs for a directory, or starts it.

Nothing of moto is imported here: the cloud is another process, reached over HTTP like any other.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

from cloudknot.aws.cloud import Cloud, PublishableImage
from cloudknot.aws.door import Door
from cloudknot.aws.ecr import Repository
from cloudknot.errors import (
    CKTimeoutError,
    CloudError,
    CloudknotConfigurationError,
    CloudknotInputError,
    ResourceExistsException,
)
from cloudknot.local.own_routes import STATUS, STOP, ask
from cloudknot.local.state import REGION, CloudState, is_locked, locked, make_private, read_state, server_lock

DIRECTORY_VARIABLE = "CLOUDKNOT_LOCAL_DIR"
STOP_TIMEOUT = 60.0
"""Seconds that the cloud may take to end its jobs and itself."""


@dataclass(frozen=True)
class CloudStatus:
    """A running cloud.

    ``uptime`` and ``idle`` are seconds, ``jobs`` the number of jobs in each state; ``runner`` is ``"process"`` or
    ``"docker"``, and ``registry`` where its images are.
    """

    endpoint: str
    pid: int
    directory: Path
    vcpus: float
    uptime: float
    idle: float
    jobs: Mapping[str, int] = field(default_factory=dict)
    runner: str = "process"
    registry: str | None = None


def default_directory() -> Path:
    """``CLOUDKNOT_LOCAL_DIR``, else ``cloudknot/local`` in ``XDG_CACHE_HOME`` or ``~/.cache``."""
    chosen = os.environ.get(DIRECTORY_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cloudknot" / "local"


class LocalCloud(Cloud):
    """The embedded cloud: AWS's API on this machine, jobs as processes of this machine.

    Parameters
    ----------
    directory : path, optional
        Where the cloud keeps itself; one cloud runs for each directory. Default: `default_directory`.
    vcpus : int, optional
        How many vCPUs jobs may hold at a time. Default: this machine's. Only counts for a cloud that is started.
    port : int, optional
        Default: any free one. Only counts for a cloud that is started.
    runner : {"process", "docker"}, optional
        What a job is: a process of this machine, or a container of its image, which needs a Docker engine on this
        machine. Default: that of the running cloud, else ``"docker"`` with a ``registry`` and ``"process"`` without.
    registry : str, optional
        With ``runner="docker"``: the address of the registry that images are pushed to and pulled from, for example
        ``"127.0.0.1:5000"``. Its login is in ``CLOUDKNOT_REGISTRY_USERNAME`` and ``CLOUDKNOT_REGISTRY_PASSWORD``
        when the cloud is started.

    Making one does no I/O. The first use finds the running cloud of the directory, or starts one that stays when this
    process ends, until it is stopped or a day passes without use. As a context manager it stops, at the end, a cloud
    that it started itself.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        vcpus: float | None = None,
        port: int | None = None,
        runner: str | None = None,
        registry: str | None = None,
    ) -> None:
        super().__init__(REGION)
        self._directory, self._vcpus, self._port = directory, vcpus, port
        self._runner, self._registry = _checked_runner(runner, registry), registry
        self._state: CloudState | None = None
        self._started_here = False
        self._starting = threading.Lock()

    def __enter__(self) -> LocalCloud:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._started_here:
            self.stop()

    def __repr__(self) -> str:
        return f"LocalCloud({str(self.directory)!r})"

    @cached_property
    def directory(self) -> Path:
        """Where the cloud keeps itself."""
        return Path(self._directory).expanduser().absolute() if self._directory else default_directory()

    @cached_property
    def profile(self) -> str | None:
        """None: the embedded cloud has a key of its own."""
        return None

    @cached_property
    def region(self) -> str:
        """``us-east-1``."""
        return REGION

    @property
    def patience(self) -> float:
        """Seconds; a cloud on this machine that does not answer has ended."""
        return 30.0

    @property
    def endpoint_url(self) -> str | None:
        """Where the cloud answers; found, or started, by asking."""
        return self._running().endpoint

    @cached_property
    def door(self) -> Door:
        return Door(self._session_arguments(), self.endpoint_url, isolated=True)

    def environment(self) -> dict[str, str]:
        """The variables that point AWS's own tools, or a worker run by hand, at this cloud."""
        state = self._running()
        return {
            "AWS_ENDPOINT_URL": state.endpoint,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": state.access_key,
            "AWS_SECRET_ACCESS_KEY": state.secret_key,
        }

    def log_url(self, stream: str) -> str:
        """A URL that shows a log stream in a browser for a week, or as long as the cloud runs."""
        from urllib.parse import urlencode

        from cloudknot.aws.signing import AccessKey, presign

        state = self._running()
        url = f"{state.endpoint}/_cloudknot/log?{urlencode({'stream': stream})}"
        return presign(url, AccessKey(state.access_key, state.secret_key), service="cloudknot", region=REGION)

    def _session_arguments(self) -> dict[str, Any]:
        state = self._running()
        return {
            "region_name": REGION,
            "aws_access_key_id": state.access_key,
            "aws_secret_access_key": state.secret_key,
        }

    def _push(self, image: PublishableImage, repository: Repository, uri: str) -> None:
        """Build and push it as on AWS; or, for the process runner, make it a directory and let ECR know its tag."""
        if self._running().runner == "docker":
            super()._push(image, repository, uri)
            return
        from cloudknot.local.images import materialise

        materialise(self.directory, image)
        manifest = {"schemaVersion": 2, "mediaType": _MANIFEST_TYPE, "config": {"digest": image.tag}, "layers": []}
        with contextlib.suppress(ResourceExistsException):
            self.call(
                "ecr",
                "put_image",
                repositoryName=repository.name,
                imageTag=image.tag,
                imageManifest=json.dumps(manifest),
                imageManifestMediaType=_MANIFEST_TYPE,
            )

    def start(self) -> CloudStatus:
        """Find the running cloud, or start one.

        Raises
        ------
        CloudknotConfigurationError
            What the embedded cloud needs is not installed.
        CloudError
            It did not start; the end of its log is in the text.
        """
        self._running()
        status = self.status()
        if status is None:
            raise CloudError(f"The local cloud in {self.directory} ended as it was found. Call again.")
        return status

    def stop(self) -> bool:
        """End the cloud and its jobs, and wait until it is gone; False when none was running."""
        state, self._state, self._started_here = read_state(self.directory), None, False
        self.__dict__.pop("door", None)
        if state is None or ask(state, STOP) is None:
            return False
        deadline = time.monotonic() + STOP_TIMEOUT
        while is_locked(server_lock(self.directory)):
            if time.monotonic() > deadline:
                raise CKTimeoutError(
                    f"The local cloud in {self.directory} has not ended within {STOP_TIMEOUT:.0f} s. "
                    f"End its process, {state.pid}, yourself."
                )
            time.sleep(0.02)
        return True

    def status(self) -> CloudStatus | None:
        """What the running cloud says of itself; None when none is running. Never starts one."""
        state = read_state(self.directory)
        answer = state and ask(state, STATUS)
        if not answer:
            return None
        names = ("endpoint", "pid", "vcpus", "uptime", "idle", "jobs", "runner", "registry")
        return CloudStatus(directory=self.directory, **{name: answer[name] for name in names})

    def _running(self) -> CloudState:
        with self._starting:
            if self._state is None:
                self._state = self._find() or self._start()
            return self._state

    def _find(self) -> CloudState | None:
        state = read_state(self.directory)
        if state is None or ask(state, STATUS) is None:
            return None
        if self._runner not in (None, state.runner) or self._registry not in (None, state.registry):
            raise CloudknotConfigurationError(
                f"The local cloud that runs in {self.directory} has other choices (runner {state.runner}, registry "
                f"{state.registry}) than asked for (runner {self._runner}, registry {self._registry}). Stop it with "
                "`cloudknot local stop`, or choose another directory."
            )
        return state

    def _start(self) -> CloudState:
        from cloudknot.local.launch import check_docker, check_installed, launch

        check_installed()
        if self._registry is not None:
            check_docker(self._registry)
        make_private(self.directory)
        # Whoever comes second finds what the first one started.
        with locked(self.directory / "start.lock"):
            found = self._find()
            if found is not None:
                return found
            choices = {"vcpus": self._vcpus, "port": self._port, "runner": self._runner, "registry": self._registry}
            state = launch(self.directory, choices)
        self._started_here = True
        return state


def _checked_runner(runner: str | None, registry: str | None) -> str | None:
    """The runner asked for, by name or by a registry; None when neither was."""
    if runner not in (None, "process", "docker"):
        raise CloudknotInputError(f'runner={runner!r} is not acceptable: it must be "process" or "docker".')
    if runner == "docker" and registry is None:
        raise CloudknotInputError(
            'runner="docker" needs registry="HOST:PORT", where images are pushed to and pulled from.'
        )
    if runner == "process" and registry is not None:
        raise CloudknotInputError('A registry is for runner="docker" only: processes need none.')
    return runner if registry is None else "docker"


_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
