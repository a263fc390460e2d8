"""`LocalCloud`, the client of the embedded cloud. It connects to the running cloud of a directory, or starts one.

This module must not import moto: the embedded cloud is another process, and is reached over HTTP as AWS is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from functools import cached_property
from pathlib import Path
from shlex import quote
from types import TracebackType
from typing import TYPE_CHECKING

from cloudknot.aws.batch import LogStream
from cloudknot.aws.cloud import Cloud
from cloudknot.aws.door import Door
from cloudknot.aws.images.image_store import ImageStore
from cloudknot.aws.sdk.process_limits import CLOUD_TASKS, check_limits
from cloudknot.errors import CKTimeoutError, ClockSkewError, CloudError
from cloudknot.local import admin
from cloudknot.local.directory.state import (
    REGION,
    CloudState,
    check_owner,
    claim,
    is_locked,
    locked,
    read_state,
    server_lock,
    usable,
)
from cloudknot.local.options import (
    DIRECTORY_VARIABLE,
    ServerOptions,
    access_key_from,
    check_running,
    check_system,
    checked_runner,
    default_directory,
    usual_directory,
)
from cloudknot.local.runners.choice import DEFAULT, RUNNERS
from cloudknot.options.public import public_function
from cloudknot.options.variables import check_variables

if TYPE_CHECKING:
    from cloudknot.local.iam.signing import AccessKey
    from cloudknot.local.runners.images.prune import Pruned

STOP_TIMEOUT = 60.0
"""Seconds for the cloud to end its jobs and itself."""
ANSWER_TIMEOUT = 30.0
"""Seconds for the first answer from a cloud that is starting, stopping or busy."""
POLL_INTERVAL = 0.02
"""Seconds between two checks of a cloud that is starting or stopping."""


class LocalCloud(Cloud):
    """The embedded cloud: a server on this machine with the API of AWS. Its jobs run on this machine, too.

    Creating the object does no I/O. The first use connects to the running cloud of the directory, or starts one.
    The cloud keeps running when this process ends. It ends with `stop`, or after a day without use.
    As a context manager, the object stops the cloud at the end of the block if it has started the cloud itself.

    If the running cloud has another ``runner``, ``registry`` or ``iam`` than the arguments, the first use raises
    `CloudknotConfigurationError`.

    It needs Linux, WSL or macOS: on Windows, creating the object raises `CloudknotConfigurationError`.

    Parameters
    ----------
    directory : path, optional
        The directory of the cloud's files. One cloud can run for each directory. Default: ``CLOUDKNOT_LOCAL_DIR``,
        else ``cloudknot/local`` in ``XDG_CACHE_HOME`` or ``~/.cache``.
    vcpus : int, optional
        The vCPUs that running jobs may hold together. Default: the number of this machine. Without effect on a cloud
        that runs already.
    quota : int, optional
        The maximum number of job queues, and of compute environments. Default: 50, as on AWS. Without effect on a
        cloud that runs already.
    port : int, optional
        The port of the server. Default: any free port. Without effect on a cloud that runs already.
    runner : {"process", "docker"}, optional
        How jobs run: as processes of this machine, or as containers of their images. ``"docker"`` needs a Docker
        engine on this machine. Default: the runner of the running cloud. For a new cloud, ``"docker"`` with a
        ``registry`` and ``"process"`` without.
    registry : str, optional
        The address of the registry for images, for example ``"127.0.0.1:5000"``. Only with ``runner="docker"``.
        A new cloud reads the login from ``CLOUDKNOT_REGISTRY_USERNAME`` and ``CLOUDKNOT_REGISTRY_PASSWORD``.
    iam : bool, optional
        True to accept keys created by IAM (CreateAccessKey, AssumeRole), and to enforce their policies. False to
        accept only the owner's key and the keys of jobs. Default: the choice of the running cloud, or else False.
    aws_access_key_id, aws_secret_access_key, aws_session_token : str, optional
        A key to use in place of the owner's key, as for ``boto3.Session``.

    Examples
    --------
    >>> with ck.LocalCloud() as cloud:
    ...     knot = ck.Knot(name="square", func=square, cloud=cloud)
    ...     print(knot.map(range(10)).result())
    """

    _server = "cloudknot.local.server"
    """The program of the server process, for ``python -m``."""

    @public_function
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
        check_system()
        super().__init__(REGION)
        # At once, because the working directory may change before the first use.
        self._directory = Path(os.path.abspath(os.path.expanduser(directory))) if directory else None
        self._options = ServerOptions(vcpus, quota, port, checked_runner(runner, registry), registry, iam)
        self._key = access_key_from(aws_access_key_id, aws_secret_access_key, aws_session_token)
        # The running cloud that this object has connected to.
        self._state: CloudState | None = None
        self._started_here = False
        self._starting = threading.Lock()

    def __enter__(self) -> LocalCloud:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Sessions share the cloud of a directory. Another session may rely on a cloud that it has started.
        if self._started_here:
            self.stop()

    def __repr__(self) -> str:
        return f"LocalCloud({str(self.directory)!r})"

    @cached_property
    def directory(self) -> Path:
        """The directory of the cloud's files."""
        return self._directory or default_directory()

    @cached_property
    def profile(self) -> str | None:
        """None: the embedded cloud has its own key and needs no AWS profile."""
        return None

    @cached_property
    def region(self) -> str:
        """The region ``us-east-1``, the only one of the embedded cloud."""
        return REGION

    @property
    def place(self) -> str:
        """The cloud for a message, with the source of the choice."""
        return f"the embedded cloud at {self.directory} ({self._chosen_by})"

    @property
    def patience(self) -> float:
        """Seconds that a wait for results continues without an answer from the cloud."""
        # An ended process will not answer again.
        return 30.0 if self._is_running else 0.0

    @property
    def shortest_child(self) -> float:
        """The seconds that a child job with ``chunksize="auto"`` should take at least."""
        # A child is a fork, which starts in milliseconds, so short children can use all processors.
        return 1.0

    @cached_property
    def _login(self) -> tuple[str, ...]:
        return str(self.directory), self._key.access_key if self._key else ""

    @property
    def endpoint_url(self) -> str | None:
        """The URL of the server. Reading it starts the cloud if none runs."""
        return self._running().endpoint

    @cached_property
    def door(self) -> Door:
        """The object that makes all calls to the embedded cloud."""
        check_limits()
        state = self._running()
        return Door(
            self._session_arguments(),
            state.endpoint,
            isolated=True,
            silence=lambda: self._explain_silence(state),
            can_recover=lambda: self._still_runs(state),
            place=self.place,
        )

    def _explain_silence(self, state: CloudState) -> str:
        """Return cause and fix for a cloud that does not answer."""
        if self._still_runs(state):
            return (
                f"The embedded cloud at {state.endpoint} does not answer, but its process {state.pid} still runs. "
                f"Call again, or end the cloud with {self!r}.stop()."
            )
        return (
            f"The embedded cloud at {state.endpoint} has ended, and its resources and results are gone. "
            "Create the Knot again. If its cloud is a LocalCloud object, call start() of that object first."
        )

    def _still_runs(self, state: CloudState) -> bool:
        """Return whether the process of this state still runs, even if it does not answer."""
        return self._is_running and read_state(self.directory) == state

    @property
    def _is_running(self) -> bool:
        """Whether a process of the cloud runs, even if it does not answer."""
        # The process holds this lock for its lifetime, and the kernel frees the lock when it dies.
        return is_locked(server_lock(self.directory))

    def environment(self) -> dict[str, str]:
        """Return the environment variables that connect AWS's own tools to this cloud.

        They serve a worker run by hand as well.
        """
        state, key = self._running(), self._used_key()
        return {
            "AWS_ENDPOINT_URL": str(state.endpoint),
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": key.access_key,
            "AWS_SECRET_ACCESS_KEY": key.secret_key,
            **({"AWS_SESSION_TOKEN": key.token} if key.token else {}),
        }

    def _used_key(self) -> AccessKey:
        """Return the key from the constructor, or else the owner's key."""
        from cloudknot.local.iam.signing import AccessKey

        state = self._running()
        return self._key or AccessKey(state.access_key, state.secret_key)

    def log_url(self, stream: LogStream) -> str:
        """Return a URL that shows a log stream in a browser. It works for a week, while the cloud runs."""
        from urllib.parse import urlencode

        from cloudknot.local.iam.signing import presign

        state = self._running()
        url = f"{state.endpoint}{admin.LOG_PATH}?{urlencode(stream._asdict())}"
        return presign(url, self._used_key(), service="cloudknot", region=REGION)

    def command(self, arguments: str) -> str:
        """Return a command line of ``cloudknot`` that uses this cloud, for a message."""
        # No command has an option for the directory, except those of `cloudknot local`.
        directory = (
            "" if self.directory == usual_directory() else f"{DIRECTORY_VARIABLE}={quote(str(self.directory))} "
        )
        return f"{directory}cloudknot {arguments} --cloud local"

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
        """False: the embedded cloud has one region, and no profiles."""
        return False

    @property
    def image_store(self) -> ImageStore | None:
        """The registry if the runner needs one, or else directories on this machine."""
        if RUNNERS[self._running().runner].needs_registry:
            return super().image_store
        from cloudknot.local.runners.images.store import DirectoryStore

        return DirectoryStore(self.directory)

    def start(self) -> admin.CloudStatus:
        """Connect to the running cloud, or start one, and return its status.

        Returns
        -------
        CloudStatus
            The cloud's ``endpoint``, ``pid`` and options, and the number of ``jobs`` in each state.

        Raises
        ------
        CloudknotConfigurationError
            A package of the embedded cloud is not installed, the running cloud has other options, the directory
            cannot be written, or the system allows too few open files or processes.
        CloudknotInputError
            The directory is in use for something other than an embedded cloud, or belongs to another user.
        ClockSkewError
            The clock of this process is more than 15 minutes from that of the cloud.
        CloudError
            The cloud could not start or does not answer. The message has the end of its log.
        """
        if self._state is not None and self._state != self._find_running():
            self._disconnect()
        state = self._running()
        status = self.status()
        if status is None:
            raise CloudError(self._explain_silence(state))
        return status

    def stop(self) -> bool:
        """End the cloud and its jobs, and wait for its end. Return False if no cloud ran.

        Raises
        ------
        CKTimeoutError
            The cloud still runs after 60 seconds.
        """
        # self._state stays: a thread that waits for this cloud must get an error, and not start a new cloud by
        # asking it. Only `start` does that.
        self._started_here, was_running = False, self._is_running
        stopping, deadline = None, time.monotonic() + STOP_TIMEOUT
        while self._is_running:
            # A cloud that is still starting writes its state a moment later.
            state = read_state(self.directory)
            if state is not None and state != stopping:
                stopping = state
                self._request_stop(state)
            if time.monotonic() > deadline:
                process = f"process {stopping.pid}" if stopping else "process"
                command = f" with `kill -9 {stopping.pid}`" if stopping else ""
                raise CKTimeoutError(
                    f"The embedded cloud in {self.directory} still runs after {STOP_TIMEOUT:.0f} seconds. "
                    f"End its {process}{command}."
                )
            time.sleep(POLL_INTERVAL)
        return was_running

    def prune(self, unused_days: float = 0.0) -> Pruned:
        """Remove images and installed packages that no knot and no job of this cloud uses.

        A cloud that does not run has no knots. Packages that several clouds share (``CLOUDKNOT_LOCAL_ENVIRONMENTS``)
        stay for a day after their last use.

        Parameters
        ----------
        unused_days : float, default 0.0
            Days since the last use, below which an image or environment stays.

        Returns
        -------
        Pruned
            The numbers of ``images`` and ``environments`` removed, the bytes ``freed``, and the number of environments
            ``kept`` with their ``size``.
        """
        from cloudknot.local.runners.images.prune import DAY, prune
        from cloudknot.local.runners.images.store import used_images

        with usable(self.directory):
            check_owner(self.directory)
            used = used_images(self, self.directory) if self._find_running() else set()
            return prune(self.directory, used, unused_days * DAY)

    def _request_stop(self, state: CloudState) -> None:
        # SIGTERM as the second way: a signal arrives even if all threads of the server are busy.
        answer = None
        with contextlib.suppress(ClockSkewError):
            answer = admin.ask(state, "POST", admin.STOP_PATH)
        if answer is None and self._still_runs(state):
            with contextlib.suppress(ProcessLookupError):
                os.kill(state.pid, signal.SIGTERM)

    def status(self) -> admin.CloudStatus | None:
        """Return the status of the running cloud, or None if no cloud runs. Never start one."""
        return admin.status(self.directory)

    def _disconnect(self) -> None:
        """Drop the connection to an ended cloud, so that the next use connects to another or starts one."""
        self._state = None
        for name in ("door", "storage"):
            self.__dict__.pop(name, None)
        self._in_buckets.clear()

    def _running(self) -> CloudState:
        # Knot creates its image and its stacks in parallel, so two threads may use a new object at the same time.
        with self._starting:
            if self._state is None:
                check_variables()
                with usable(self.directory):
                    check_owner(self.directory)
                    self._state = self._find_running() or self._start()
            return self._state

    def _find_running(self) -> CloudState | None:
        """Return the running cloud of the directory, or None. Wait for one that is starting or stopping."""
        state, deadline = None, time.monotonic() + ANSWER_TIMEOUT
        while self._is_running:
            state = read_state(self.directory)
            if time.monotonic() > deadline or (state is not None and admin.answers(state)):
                if state is not None:
                    check_running(self.directory, self._options, state)
                return state
            time.sleep(POLL_INTERVAL)
        return None

    def _start(self) -> CloudState:
        from cloudknot.local.directory.full_disk import refuse_full
        from cloudknot.local.server.launch import check_installed, check_registry, launch

        # Checked before the start: of a server that fails to start, only the end of its log is known.
        check_installed()
        check_limits(CLOUD_TASKS)
        RUNNERS[self._options.runner or DEFAULT].check()
        if self._options.registry:
            check_registry(self._options.registry)
        # A server on a full disk could not even write its log.
        refuse_full(self.directory)
        claim(self.directory)
        # Two sessions may start a cloud at the same time. The second one finds the cloud of the first.
        with locked(self.directory / "start.lock"):
            running = self._find_running()
            if running is not None:
                return running
            state = launch(self.directory, self._options, self._server)
        self._started_here = True
        return state
