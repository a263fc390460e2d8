"""`LocalCloud`, the client of the embedded cloud. It connects to the running cloud of a directory, or starts one.

The embedded cloud is another process, and is reached over HTTP as AWS is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from shlex import quote
from types import TracebackType
from typing import TYPE_CHECKING

from cloudknot.aws.batch import LogStream
from cloudknot.aws.cloud import Cloud
from cloudknot.aws.door import Door
from cloudknot.aws.images.image_store import ImageStore
from cloudknot.aws.sdk.process_limits import check_limits
from cloudknot.errors import CKTimeoutError, ClockSkewError, CloudError
from cloudknot.local import admin
from cloudknot.local.directory.claim import check_owner
from cloudknot.local.directory.deletion import delete_files
from cloudknot.local.directory.files import JOBS, MARKER, server_lock, start_lock, state_file
from cloudknot.local.directory.locks import is_locked, locked
from cloudknot.local.directory.refused_writes import usable
from cloudknot.local.directory.state import REGION, CloudState, read_state, write_state
from cloudknot.local.options import (
    DIRECTORY_VARIABLE,
    ServerOptions,
    access_key_from,
    check_system,
    checked_runner,
    default_directory,
    usual_directory,
)
from cloudknot.local.runners.choice import RUNNERS
from cloudknot.local.session.connection import POLL_INTERVAL, Connection
from cloudknot.options.public import public_function

if TYPE_CHECKING:
    from cloudknot.local.iam.signing import AccessKey
    from cloudknot.local.runners.images.prune import Pruned
    from cloudknot.local.session.usage import CloudUsage

STOP_TIMEOUT = 60.0
"""Seconds for the cloud to end its jobs and itself."""
SHRINK_TIMEOUT = 600.0
"""Seconds for the cloud to shrink its databases."""


class LocalCloud(Cloud):
    """The embedded cloud: a server on this machine with the API of AWS. Its jobs run on this machine, too.

    Creating the object does no I/O. The first use connects to the running cloud of the directory, or starts one.
    The cloud keeps running when this process ends. It ends with `stop`, or after a day without use. Knots, results and
    jobs stay in its directory, and are there at the next start. `delete` removes them.
    As a context manager, the object stops the cloud at the end of the block if it has started the cloud itself.

    If the running cloud has another ``runner``, ``registry`` or ``iam`` than the arguments, the first use raises
    `CloudknotConfigurationError`.

    It needs Linux, WSL or macOS: on Windows, creating the object raises `CloudknotConfigurationError`.

    Parameters
    ----------
    directory : path, optional
        The directory of the cloud's files. One cloud can run for each directory. Default: ``CLOUDKNOT_LOCAL_DIR``,
        else ``cloudknot/local`` in ``XDG_DATA_HOME`` or ``~/.local/share``.
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
        engine on this machine. Default: the runner of the running cloud, else that of its last start. For a new cloud,
        ``"docker"`` with a ``registry`` and ``"process"`` without.
    registry : str, optional
        The address of the registry for images, for example ``"127.0.0.1:5000"``. Only with ``runner="docker"``.
        The server reads the login from ``CLOUDKNOT_REGISTRY_USERNAME`` and ``CLOUDKNOT_REGISTRY_PASSWORD``.
    iam : bool, optional
        True to accept keys created by IAM (CreateAccessKey, AssumeRole), and to enforce their policies. False to
        accept only the owner's key and the keys of jobs. Default: the choice of the running cloud, else that of its
        last start, else False.
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

    def __enter__(self) -> LocalCloud:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Sessions share the cloud of a directory. Another session may rely on a cloud that it has started.
        if self._connection.started_here:
            self.stop()

    def __repr__(self) -> str:
        return f"LocalCloud({str(self.directory)!r})"

    @cached_property
    def directory(self) -> Path:
        """The directory of the cloud's files."""
        return self._directory or default_directory()

    @cached_property
    def _connection(self) -> Connection:
        return Connection(self.directory, self._options, self._server, self._redirect)

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
        # A stopped cloud will not answer again by itself.
        return 30.0 if self._connection.is_running or self._connection.may_recover else 0.0

    @property
    def shortest_child(self) -> float:
        """The seconds that a child job with ``chunksize="auto"`` should take at least."""
        # A child is a fork, which starts in milliseconds, so short children can use all processors.
        return 1.0

    @cached_property
    def _login(self) -> tuple[str, ...]:
        return str(self.directory), self._key.access_key if self._key else ""

    def _expected(self) -> AbstractContextManager[None]:
        """Have a new server process make its imports during the block. It creates nothing."""
        return self._connection.expected()

    @property
    def endpoint_url(self) -> str | None:
        """The URL of the server. Reading it starts the cloud if none runs."""
        return self._connection.running().endpoint

    @cached_property
    def door(self) -> Door:
        """The object that makes all calls to the embedded cloud."""
        check_limits()
        state = self._connection.running()
        return Door(
            self._session_arguments(),
            state.endpoint,
            isolated=True,
            silence=self._connection.explain_silence,
            can_recover=self._connection.recover,
            place=self.place,
        )

    def _redirect(self, state: CloudState) -> None:
        """Use the new address of a cloud that was started again."""
        # Knots share the door, so their clients move as well.
        if "door" in self.__dict__:
            self.door.redirect(state.endpoint)

    def environment(self) -> dict[str, str]:
        """Return the environment variables that connect AWS's own tools to this cloud.

        They serve a worker run by hand as well.
        """
        state, key = self._connection.running(), self._used_key()
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

        state = self._connection.running()
        return self._key or AccessKey(state.access_key, state.secret_key)

    def log_url(self, stream: LogStream) -> str:
        """Return a URL that shows a log stream in a browser. It works for a week, while the cloud runs."""
        from urllib.parse import urlencode

        from cloudknot.local.iam.signing import presign

        state = self._connection.running()
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
        if RUNNERS[self._connection.running().runner].needs_registry:
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
        if self._connection.renew():
            self._disconnect()
        status = self.status()
        if status is None:
            raise CloudError(self._connection.explain_silence())
        return status

    def stop(self) -> bool:
        """End the cloud and its jobs, and wait for its end. Return False if no cloud ran.

        Knots, results and jobs are kept. Jobs that run are retried at the next start, as after the loss of a host.

        Raises
        ------
        CKTimeoutError
            The cloud still runs after 60 seconds.
        """
        # The connection keeps its state: a thread that waits for this cloud must get an error, and not start the cloud
        # by asking it. Only `start` does that.
        self._connection.started_here, was_running = False, self._connection.is_running
        stopping, deadline = None, time.monotonic() + STOP_TIMEOUT
        while self._connection.is_running:
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
        if read_state(self.directory) is not None:
            # A crash left it, or a long idle time. With it, open sessions would start the cloud again by themselves.
            with locked(start_lock(self.directory)):
                if not self._connection.is_running:
                    state_file(self.directory).unlink(missing_ok=True)
        return was_running

    def delete(self) -> None:
        """Stop the cloud, and delete its knots, results, jobs, images and installed packages. Other files stay.

        Raises
        ------
        CKTimeoutError
            The cloud still runs after 60 seconds, or another session starts it at this moment.
        """
        with usable(self.directory):
            check_owner(self.directory)
            self.stop()
            if not (self.directory / MARKER).exists():
                return
            # A session that starts the cloud at this moment waits for the first lock, and then makes a new cloud.
            with locked(start_lock(self.directory)), locked(server_lock(self.directory), STOP_TIMEOUT):
                delete_files(self.directory)
        self._disconnect()
        del self._connection

    def prune(self, unused_days: float = 0.0) -> Pruned:
        """Remove images and installed packages that no knot and no job of this cloud uses.

        Databases return the space of deleted results, logs and records to the disk.
        A cloud that does not run is started for this, since it knows the knots, and stopped afterwards. Packages that
        several clouds share (``CLOUDKNOT_LOCAL_ENVIRONMENTS``) stay for a day after their last use.

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

        with usable(self.directory):
            check_owner(self.directory)
            with left_as_found(self):
                pruned = prune(self.directory, self._used_images(), unused_days * DAY)
                return replace(pruned, freed=pruned.freed + self._shrink())

    def _shrink(self) -> int:
        """Have the running cloud give the space of deleted rows back to the disk. Return the bytes."""
        from cloudknot.local.session.usage import size_of_databases

        state, before = self._connection.find(), size_of_databases(self.directory)
        if state is not None:
            admin.ask(state, "POST", admin.SHRINK_PATH, timeout=SHRINK_TIMEOUT)
        return max(0, before - size_of_databases(self.directory))

    def _used_images(self) -> set[str]:
        """Return the tags of the images that knots use. Start the cloud if only it can answer."""
        from cloudknot.local.runners.images.store import used_images

        if self._connection.find() is None and not (self.directory / JOBS).exists():
            return set()
        self.start()
        return used_images(self, self.directory)

    def usage(self) -> CloudUsage:
        """Return the disk space and the memory that the cloud uses. Never start it."""
        from cloudknot.local.session.usage import usage_of

        state = self.status()
        return usage_of(self.directory, state.pid if state else None)

    def _request_stop(self, state: CloudState) -> None:
        # SIGTERM as the second way: a signal arrives even if all threads of the server are busy.
        answer = None
        with contextlib.suppress(ClockSkewError):
            answer = admin.ask(state, "POST", admin.STOP_PATH)
        if answer is None and self._connection.is_running and read_state(self.directory) == state:
            with contextlib.suppress(ProcessLookupError):
                os.kill(state.pid, signal.SIGTERM)

    def status(self) -> admin.CloudStatus | None:
        """Return the status of the running cloud, or None if no cloud runs. Never start one."""
        return admin.status(self.directory)

    def _disconnect(self) -> None:
        """Drop the clients of another cloud that had the same directory before."""
        for name in ("door", "storage"):
            self.__dict__.pop(name, None)
        self._in_buckets.clear()


@contextlib.contextmanager
def left_as_found(cloud: LocalCloud) -> Iterator[None]:
    """Stop a cloud at the end of the block if it does not run now."""
    was_running, left = is_locked(server_lock(cloud.directory)), read_state(cloud.directory)
    try:
        yield
    finally:
        if not was_running:
            cloud.stop()
            # Nobody had stopped the cloud, so open sessions may still start it again by themselves.
            if left is not None and cloud.directory.is_dir():
                write_state(cloud.directory, left)
