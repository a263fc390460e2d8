"""LocalCloud: the embedded cloud as a `Cloud`. Finds the one that runs for a directory, or starts it.

Nothing of moto is imported here: the cloud is another process, reached over HTTP like any other.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from cloudknot.aws.batch import LogStream
from cloudknot.aws.cloud import Cloud
from cloudknot.aws.door import Door
from cloudknot.aws.images.image_store import ImageStore
from cloudknot.errors import CKTimeoutError, CloudError
from cloudknot.local import admin
from cloudknot.local.options import ServerOptions, access_key_from, check_running, checked_runner, default_directory
from cloudknot.local.runners.choice import DEFAULT, RUNNERS
from cloudknot.local.state import REGION, CloudState, claim, is_locked, locked, read_state, server_lock

if TYPE_CHECKING:
    from cloudknot.local.iam.signing import AccessKey

STOP_TIMEOUT = 60.0
"""Seconds that the cloud may take to end its jobs and itself."""
ANSWER_TIMEOUT = 30.0
"""Seconds to wait for the answer of a cloud that starts, ends or is busy."""


class LocalCloud(Cloud):
    """The embedded cloud: AWS's API on this machine, jobs as processes of this machine.

    Parameters
    ----------
    directory : path, optional
        Where the cloud keeps itself; one cloud runs for each directory. Default: `default_directory`.
    vcpus : int, optional
        How many vCPUs jobs may hold at a time. Default: this machine's. Only counts for a cloud that is started.
    quota : int, optional
        How many job queues there may be, and compute environments. Default: AWS's 50. Counts as ``vcpus`` does.
    port : int, optional
        Default: any free one. Counts as ``vcpus`` does.
    runner : {"process", "docker"}, optional
        What a job is: a process of this machine, or a container of its image, which needs a Docker engine on this
        machine. Default: that of the running cloud, else ``"docker"`` with a ``registry`` and ``"process"`` without.
    registry : str, optional
        With ``runner="docker"``: the address of the registry that images are pushed to and pulled from, for example
        ``"127.0.0.1:5000"``. Its login is in ``CLOUDKNOT_REGISTRY_USERNAME`` and ``CLOUDKNOT_REGISTRY_PASSWORD``
        when the cloud is started.
    iam : bool, optional
        Whether keys that are made by IAM (CreateAccessKey, AssumeRole) are let in and held to their policies. Default:
        that of the running cloud, else no: then only the owner's key is, and those of jobs. Counts as ``vcpus`` does.
    aws_access_key_id, aws_secret_access_key, aws_session_token : str, optional
        The key of somebody else, to use in place of the owner's (as of ``boto3.Session``).

    Making one does no I/O. The first use finds the running cloud of the directory, or starts one that stays when this
    process ends, until it is stopped or a day passes without use. As a context manager it stops, at the end, a cloud
    that it started itself.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        vcpus: float | None = None,
        quota: int | None = None,
        port: int | None = None,
        runner: str | None = None,
        registry: str | None = None,
        iam: bool | None = None,
        aws_access_key_id: str | None = None,
        aws_secret_access_key: str | None = None,
        aws_session_token: str | None = None,
    ) -> None:
        super().__init__(REGION)
        self._directory = directory
        self._options = ServerOptions(vcpus, quota, port, checked_runner(runner, registry), registry, iam)
        self._key = access_key_from(aws_access_key_id, aws_secret_access_key, aws_session_token)
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
        """Seconds; a cloud whose process has ended will not answer again."""
        return 30.0 if self._is_running else 0.0

    @cached_property
    def _login(self) -> tuple[str, ...]:
        return str(self.directory), self._key.access_key if self._key else ""

    @property
    def endpoint_url(self) -> str | None:
        """Where the cloud answers; found, or started, by asking."""
        return self._running().endpoint

    @cached_property
    def door(self) -> Door:
        state = self._running()
        return Door(
            self._session_arguments(),
            state.endpoint,
            isolated=True,
            silence=lambda: self._silence(state),
            lasting=lambda: self._lasts(state),
        )

    def _silence(self, state: CloudState) -> str:
        """What to do when a cloud that was found does not answer."""
        if self._lasts(state):
            return (
                f"The embedded cloud at {state.endpoint} does not answer (process {state.pid}). "
                "Call again, or end it with stop() of this LocalCloud."
            )
        return (
            f"The embedded cloud at {state.endpoint} has ended, and what it held is gone. "
            'Make the Knot again, with cloud="local", or call start() of this LocalCloud first.'
        )

    def _lasts(self, state: CloudState) -> bool:
        """Whether the cloud that was found is still there, silent as it may be."""
        return self._is_running and read_state(self.directory) == state

    @property
    def _is_running(self) -> bool:
        """Whether there is a cloud's process, busy as it may be."""
        return is_locked(server_lock(self.directory))

    def environment(self) -> dict[str, str]:
        """The variables that point AWS's own tools, or a worker run by hand, at this cloud."""
        state, key = self._running(), self._used_key()
        return {
            "AWS_ENDPOINT_URL": str(state.endpoint),
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": key.access_key,
            "AWS_SECRET_ACCESS_KEY": key.secret_key,
            **({"AWS_SESSION_TOKEN": key.token} if key.token else {}),
        }

    def _used_key(self) -> AccessKey:
        """The key that was given, else the owner's."""
        from cloudknot.local.iam.signing import AccessKey

        state = self._running()
        return self._key or AccessKey(state.access_key, state.secret_key)

    def log_url(self, stream: LogStream) -> str:
        """A URL that shows a log stream in a browser for a week, or as long as the cloud runs."""
        from urllib.parse import urlencode

        from cloudknot.local.iam.signing import presign

        state = self._running()
        url = f"{state.endpoint}{admin.LOG_PATH}?{urlencode(stream._asdict())}"
        return presign(url, self._used_key(), service="cloudknot", region=REGION)

    def _session_arguments(self) -> dict[str, str | None]:
        key = self._used_key()
        return {
            "region_name": REGION,
            "aws_access_key_id": key.access_key,
            "aws_secret_access_key": key.secret_key,
            "aws_session_token": key.token,
        }

    @property
    def has_regions(self) -> bool:
        """False: the embedded cloud is one region, and its only login is its own key."""
        return False

    @property
    def image_store(self) -> ImageStore | None:
        """The registry for a runner that needs one, else directories of this machine."""
        if RUNNERS[self._running().runner].needs_registry:
            return super().image_store
        from cloudknot.local.runners.images import DirectoryStore

        return DirectoryStore(self.directory)

    def start(self) -> admin.CloudStatus:
        """Find the running cloud, or start one.

        Raises
        ------
        CloudknotConfigurationError
            What the embedded cloud needs is not installed.
        CloudknotInputError
            The directory is somebody else's.
        CloudError
            It did not start, and the end of its log is in the text; or it does not answer.
        """
        if self._state is not None and self._state != self._find():
            self._forget()
        state = self._running()
        status = self.status()
        if status is None:
            raise CloudError(self._silence(state))
        return status

    def stop(self) -> bool:
        """End the cloud and its jobs, and wait until it is gone; False when none was running."""
        # What waits for this cloud must learn that it ended, and not start another by asking; `start` does that.
        self._started_here, found = False, self._is_running
        told, deadline = None, time.monotonic() + STOP_TIMEOUT
        while self._is_running:
            state = read_state(self.directory)
            if state is not None and state != told:
                told = state
                self._tell_to_end(state)
            if time.monotonic() > deadline:
                raise CKTimeoutError(
                    f"The local cloud in {self.directory} has not ended within {STOP_TIMEOUT:.0f} s. "
                    f"End its process{f', {told.pid},' if told else ''} yourself."
                )
            time.sleep(0.02)
        return found

    def _tell_to_end(self, state: CloudState) -> None:
        """Ask, or else send SIGTERM, which a cloud hears even when all its threads are busy."""
        if admin.ask(state, "POST", admin.STOP_PATH) is None and self._lasts(state):
            with contextlib.suppress(ProcessLookupError):
                os.kill(state.pid, signal.SIGTERM)

    def status(self) -> admin.CloudStatus | None:
        """Return the status of the running cloud; None when none runs. Never starts one."""
        return admin.status(self.directory)

    def _forget(self) -> None:
        """The cloud that was found is no more; the next use finds or starts another."""
        self._state = None
        for name in ("door", "storage"):
            self.__dict__.pop(name, None)
        self._in_buckets.clear()

    def _running(self) -> CloudState:
        with self._starting:
            if self._state is None:
                self._state = self._find() or self._start()
            return self._state

    def _find(self) -> CloudState | None:
        """The cloud of the directory; None when there is no process of one."""
        state, deadline = None, time.monotonic() + ANSWER_TIMEOUT
        while self._is_running:
            state = read_state(self.directory)
            if time.monotonic() > deadline or (state is not None and admin.answers(state)):
                if state is not None:
                    check_running(self.directory, self._options, state)
                return state
            time.sleep(0.02)
        return None

    def _start(self) -> CloudState:
        from cloudknot.local.server.launch import check_installed, check_registry, launch

        check_installed()
        RUNNERS[self._options.runner or DEFAULT].check()
        if self._options.registry:
            check_registry(self._options.registry)
        claim(self.directory)
        # Whoever comes second finds what the first one started.
        with locked(self.directory / "start.lock"):
            found = self._find()
            if found is not None:
                return found
            state = launch(self.directory, self._options)
        self._started_here = True
        return state
