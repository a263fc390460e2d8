"""The runner of containers: it pulls images from a registry and runs tasks in a Docker engine.

Each task has two threads: one from the pull to the end of its container, and one that copies the output to a file.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from cloudknot.aws.images import docker_context
from cloudknot.aws.images.ecr import RegistryLogin
from cloudknot.errors import CloudknotConfigurationError
from cloudknot.local.batch.records import HOST_LOST, NOT_STARTED, Exited, Started, Task
from cloudknot.local.batch.runner import Report
from cloudknot.local.iam.task_credentials import TOKEN_FILE

if TYPE_CHECKING:
    from docker import APIClient
    from docker.types import HostConfig

    from cloudknot.local.directory.full_disk import FullDisk

CLOUD_LABEL = "cloudknot.cloud"
"""The label of every container. Its value is the directory of the container's cloud."""
ENGINE_TIMEOUT = 60
"""Seconds for an answer from the engine, or for the next piece of a pull."""
POLL_INTERVAL = 5.0
"""Seconds between two checks of a running container."""
SHORT_INTERVAL = 0.05
"""Seconds between two checks of a container that has closed its output."""
OUTPUT_TIMEOUT = 10.0
"""Seconds for the last output of a container after its end."""
CLOSE_TIMEOUT = 20.0
"""Seconds for the threads of all tasks to end when the runner closes."""
LONGEST_LINE = 256 * 1024
"""Bytes of an unfinished line that are held back until the line ends."""
CPU_SHARES = 1024
"""CPU shares for each vCPU. They count on a busy machine only (ECS task definition parameters, "cpu")."""
TOKEN_IN_CONTAINER = "/run/cloudknot/authorization-token"
"""The file in a container with the token that authorizes it to get the credentials of its role."""
# The words of ECS. cloudknot recognizes an OutOfMemoryError by them.
OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"

_NO_ENGINE = (
    "The docker runner needs a Docker engine, but no engine answers{place}. {fix} Or leave out `--runner docker` (in "
    'Python: runner="docker"), to run jobs as processes of this machine. Docker reports: {error}'
)


class _State(TypedDict):
    """The fields of a container's state that the runner reads."""

    Running: bool
    ExitCode: int
    OOMKilled: bool


class _NotStartedError(Exception):
    """A container could not start. The text is the reason in the words of ECS."""


@dataclass(eq=False)
class _Running:
    """A task without a reported `Exited`."""

    task: Task
    report: Report
    output: Path
    container: str | None = None
    started: bool = False
    stopped_by: int | None = None


def engine_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions of a call to the engine: a refusal, or no answer."""
    # A function, so that a cloud of processes does not import the docker package.
    from docker.errors import DockerException

    return DockerException, OSError


def connect() -> APIClient:
    """Return a client of the Docker engine that ``DOCKER_HOST`` and Docker's other settings name.

    Raises
    ------
    CloudknotConfigurationError
        No engine answers.
    """
    import docker

    try:
        client = docker.APIClient(**_address(), version="auto", timeout=ENGINE_TIMEOUT, max_pool_size=64)
        client.ping()
    except docker_context.ContextError as error:
        raise CloudknotConfigurationError(f"The docker runner needs a Docker engine. {error}") from error
    except engine_errors() as error:
        raise CloudknotConfigurationError(_no_engine(error)) from error
    return client


def _address() -> dict[str, Any]:
    """Return the arguments of a client for the engine that Docker's settings name."""
    from docker.tls import TLSConfig
    from docker.utils import kwargs_from_env

    current = docker_context.current()
    if current is None:
        return dict(kwargs_from_env())
    if not current.certificates:
        return {"base_url": current.host}
    authority, certificate, key = current.certificates
    tls = TLSConfig(client_cert=(certificate, key), ca_cert=authority, verify=current.is_verified)
    return {"base_url": current.host, "tls": tls}


def _no_engine(error: Exception) -> str:
    import os
    import shutil

    host = os.environ.get("DOCKER_HOST")
    install = "Install and start Docker (on Debian: `sudo apt-get install docker.io`)."
    place, fix = " on this machine", f"{install} {docker_context.ELSEWHERE}"
    if host:
        place, fix = f" at DOCKER_HOST={host}", "Correct DOCKER_HOST, or unset it to use the engine of this machine."
    elif "ermission denied" in str(error):
        fix = "Add yourself to the group `docker` (`sudo usermod --append --groups docker $USER`) and log in again."
    elif socket := next(docker_context.other_sockets(), None):
        fix = docker_context.OTHER_SOCKET.format(socket=socket)
    elif shutil.which("dockerd"):
        start = "Docker is installed here. Start its engine (`sudo systemctl start docker`)."
        fix = f"{start} {docker_context.ELSEWHERE}"
    return _NO_ENGINE.format(place=place, fix=fix, error=str(error).rstrip("."))


class DockerRunner:
    """A `Runner` that executes tasks as containers.

    Parameters
    ----------
    client : docker.APIClient
    login : RegistryLogin
        The login for pulls from the registry that it names.
    directory : Path
        The directory of the embedded cloud. Containers from an earlier process of this cloud are removed at once.
    scratch : Path
        The directory for files with output, before it reaches the log.
    variables : mapping
        Environment variables of all tasks: endpoint and region.
    credentials : callable
        Returns the environment variables with the credentials of a role. One of them names a file.
    on_output : callable
        Called with ``(task, path)`` when a task starts, and with ``(task, None)`` when its output is complete.
    disk : FullDisk
        Knows whether tasks have failed for lack of space.
    """

    def __init__(
        self,
        client: APIClient,
        login: RegistryLogin,
        directory: Path,
        scratch: Path,
        variables: Mapping[str, str],
        credentials: Callable[[str | None], Mapping[str, str]],
        on_output: Callable[[Task, Path | None], None],
        disk: FullDisk,
    ) -> None:
        self._client, self._login, self._label = client, login, f"{CLOUD_LABEL}={directory}"
        self._scratch, self._variables, self._on_output = scratch, dict(variables), on_output
        self._credentials, self._disk = credentials, disk
        self._lock = threading.Lock()
        self._tasks: dict[str, _Running] = {}
        self._threads: set[threading.Thread] = set()
        self._pulls: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._pulled: set[str] = set()
        self._closed = False
        # Sends signals, because the caller of stop must not wait for the engine.
        self._signals = ThreadPoolExecutor(max_workers=4, thread_name_prefix="docker-runner")
        self._remove_all()

    def prepare(self, image: str, role: str | None, environment: Mapping[str, str]) -> None:
        """Do nothing: the engine keeps the images of earlier jobs."""

    def release(self, image: str) -> None:
        """Do nothing: no container waits for tasks."""

    def start(self, task: Task, report: Report) -> None:
        running = _Running(task, report, self._scratch / f"{task.id}.log")
        thread = threading.Thread(target=self._run, args=(running,), name=f"container-{task.id}", daemon=True)
        with self._lock:
            if self._closed:
                return
            self._tasks[task.id] = running
            self._threads.add(thread)
        thread.start()

    def stop(self, task_id: str, *, kill: bool) -> None:
        with self._lock:
            running = self._tasks.get(task_id)
            if running is None:
                return
            running.stopped_by = signal.SIGKILL if kill else signal.SIGTERM
            started = running.started and not self._closed
        if started:
            self._signals.submit(self._signal, running)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            # From here on, no thread reports the end of a task: see _run.
            self._tasks.clear()
            threads = list(self._threads)
        self._signals.shutdown(wait=True, cancel_futures=True)
        self._remove_all()
        deadline = time.monotonic() + CLOSE_TIMEOUT
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        # A thread may have created one more container during the first removal.
        self._remove_all()
        self._client.close()

    def _run(self, running: _Running) -> None:
        """Execute a task from the pull to its end, in a thread of its own."""
        task_id = running.task.id
        try:
            event = self._attempt(running)
        except _NotStartedError as error:
            event = Exited(task_id, None, str(error), NOT_STARTED)
        except engine_errors():
            # An engine that goes away ends its tasks as a lost host does on AWS.
            event = Exited(task_id, None, None, HOST_LOST)
        self._on_output(running.task, None)
        with self._lock:
            is_open = self._tasks.pop(task_id, None) is not None
        if is_open:
            running.report(event)
        if running.container is not None:
            self._remove(running.container)
        with self._lock:
            self._threads.discard(threading.current_thread())

    def _attempt(self, running: _Running) -> Exited:
        task = running.task
        self._pull(task.image)
        if running.stopped_by is not None or self._closed:
            return Exited(task.id, 128 + (running.stopped_by or signal.SIGKILL))
        container = running.container = self._create(task)
        self._on_output(task, running.output)
        # Attached before the start, so that no output is missed.
        output = self._client.attach(container, stream=True, demux=True)
        copier = threading.Thread(
            target=copy_output, args=(output, running.output), name=f"output-{task.id}", daemon=True
        )
        copier.start()
        begun = time.monotonic()
        self._start(running, container)
        state = self._wait(container, copier)
        copier.join(OUTPUT_TIMEOUT)
        if copier.is_alive():
            with running.output.open("ab") as file:
                file.write(b"\nDocker did not send the rest of the output of this container in 10 seconds.\n")
        # The kernel may kill any process of a container. A container that still ends with 0 has succeeded.
        code = state["ExitCode"]
        reason = OUT_OF_MEMORY if state["OOMKilled"] and code else None
        return Exited(task.id, code, reason or (self._disk.reason(begun) if 0 < code < 128 else None))

    def _pull(self, image: str) -> None:
        """Pull an image, once in the lifetime of a cloud (as ECS with ``ECS_IMAGE_PULL_BEHAVIOR=once``)."""
        from docker.utils import parse_repository_tag

        repository, tag = parse_repository_tag(image)
        # A job may use an image of another registry. That one must not see this login.
        is_own_registry = image.startswith(f"{self._login.registry}/")
        auth = {"username": self._login.username, "password": self._login.password} if is_own_registry else None
        with self._lock:
            pulling = self._pulls[image]
        with pulling:
            if image in self._pulled:
                return
            try:
                events = self._client.pull(repository, tag or "latest", stream=True, decode=True, auth_config=auth)
                failures = [event["error"] for event in events if "error" in event]
            except engine_errors() as error:
                failures = [_explanation(error)]
            if failures:
                # In the words of the ECS agent: the rules of job definitions match a missing image by them.
                raise _NotStartedError(f"CannotPullContainerError: Error response from daemon: {failures[0]}")
            self._pulled.add(image)

    def _create(self, task: Task) -> str:
        from docker.errors import ImageNotFound

        variables = {**self._variables, **self._credentials(task.role)}
        # The token is mounted as a file, so that no secret is in the environment of a container.
        token = variables.get(TOKEN_FILE)
        if token:
            variables[TOKEN_FILE] = TOKEN_IN_CONTAINER
        try:
            answer = self._client.create_container(
                task.image,
                list(task.command) or None,
                name=f"cloudknot-{task.id}",
                user=task.user,
                environment={**variables, **task.environment},
                labels=dict([self._label.split("=", 1)]),
                host_config=self._host_config(task, token),
            )
        except ImageNotFound as error:
            # The image was removed after its pull. The next attempt pulls it again.
            self._pulled.discard(task.image)
            raise _NotStartedError(f"CannotPullContainerError: {_explanation(error)}") from error
        except engine_errors() as error:
            raise _NotStartedError(f"CannotCreateContainerError: {_explanation(error)}") from error
        return str(answer["Id"])

    def _host_config(self, task: Task, token: str | None) -> HostConfig:
        from docker.types import LogConfig

        limit = f"{task.memory}m" if task.memory else None
        return self._client.create_host_config(
            # The embedded cloud listens on loopback only. A container reaches that with the network of the host.
            network_mode="host",
            binds={token: {"bind": TOKEN_IN_CONTAINER, "mode": "ro"}} if token else None,
            init=task.init,
            cpu_shares=max(2, int(task.vcpus * CPU_SHARES)),
            # With equal limits, Docker gives a container no swap.
            mem_limit=limit,
            memswap_limit=limit,
            # The output is read while it is written, so the engine need not keep it. It keeps a little, because
            # Debian's Docker has no log driver that keeps none.
            log_config=LogConfig(type="json-file", config={"max-size": "1m"}),
        )

    def _start(self, running: _Running, container: str) -> None:
        try:
            self._client.start(container)
        except engine_errors() as error:
            raise _NotStartedError(f"CannotStartContainerError: {_explanation(error)}") from error
        with self._lock:
            running.started = True
            is_open, stopped_by = running.task.id in self._tasks, running.stopped_by
        if is_open:
            running.report(Started(running.task.id))
        # A stop that came before the start found no container to signal.
        if stopped_by is not None:
            self._signal(running)

    def _wait(self, container: str, copier: threading.Thread) -> _State:
        """Wait for the end of a container, and return its state."""
        while True:
            # The end of the container ends its output, and so this join. The engine is asked from time to time as
            # well, because a connection to an engine that went away may stay silent.
            copier.join(POLL_INTERVAL)
            state: _State = self._client.inspect_container(container)["State"]
            if not state["Running"]:
                return state
            if not copier.is_alive():
                time.sleep(SHORT_INTERVAL)

    def _signal(self, running: _Running) -> None:
        if running.container is None:
            return
        with contextlib.suppress(*engine_errors()):
            self._client.kill(running.container, running.stopped_by)

    def _remove_all(self) -> None:
        """Remove all containers of this cloud, running ones included."""
        containers: Iterable[Mapping[str, str]] = ()
        with contextlib.suppress(*engine_errors()):
            containers = self._client.containers(all=True, filters={"label": self._label})
        for container in containers:
            self._remove(container["Id"])

    def _remove(self, container: str) -> None:
        with contextlib.suppress(*engine_errors()):
            self._client.remove_container(container, v=True, force=True)


def _explanation(error: Exception) -> str:
    """Return the engine's own message, without the words that docker-py adds."""
    return str(getattr(error, "explanation", None) or error)


def copy_output(output: Iterable[tuple[bytes | None, bytes | None]], path: Path) -> None:
    """Write a container's output to a file as it arrives, until it ends or the engine goes away.

    ``output`` yields pieces of standard output and standard error.
    """
    # Both streams go to one file. An unfinished line is held back, so that a line of the other stream cannot
    # continue it.
    unfinished = [b"", b""]
    with path.open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            for pieces in output:
                for number, piece in enumerate(pieces):
                    lines, newline, rest = (unfinished[number] + (piece or b"")).rpartition(b"\n")
                    file.write(lines + newline)
                    if len(rest) > LONGEST_LINE:
                        file.write(rest)
                        rest = b""
                    unfinished[number] = rest
        for rest in filter(None, unfinished):
            file.write(rest + b"\n")
