"""Runs tasks as containers of a Docker engine, from images that are pulled from a registry.

A container has the network of the host, so that it reaches the cloud's endpoint on loopback. One thread sees a task
through from the pull to its end, another copies its output to a file. The engine is asked every few seconds, so an
engine that goes away ends a task as a lost host does on AWS."""

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
from typing import TYPE_CHECKING, TypedDict

from cloudknot.aws.images.ecr import RegistryLogin
from cloudknot.errors import CloudknotConfigurationError
from cloudknot.local.batch.records import HOST_LOST, NOT_STARTED, Exited, Started, Task
from cloudknot.local.batch.runner import Report
from cloudknot.local.iam.task_credentials import TOKEN_FILE

if TYPE_CHECKING:
    from docker import APIClient
    from docker.types import HostConfig

CLOUD_LABEL = "cloudknot.cloud"
"""Every container has it; its value is the directory of the cloud that it belongs to."""
ENGINE_TIMEOUT = 60
"""Seconds for an answer of the engine, or for the next piece of a pull."""
LOOK_INTERVAL = 5.0
"""Seconds between two looks at a container that goes on printing, or is silent."""
SHORT_INTERVAL = 0.05
OUTPUT_TIMEOUT = 10.0
CLOSE_TIMEOUT = 20.0
LONGEST_LINE = 256 * 1024
"""Bytes of a line that are held back until it ends."""
CPU_SHARES = 1024
"""A vCPU's, of those that containers share when the machine is busy (ECS task definition parameters, "cpu")."""
TOKEN_IN_CONTAINER = "/run/cloudknot/authorization-token"
"""Where a container finds what it must show to get the credentials of its role."""
OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"

_NO_ENGINE = (
    "Running jobs as containers needs a Docker engine, and none answers ({error}). Install and start one (on Debian "
    "`apt-get install docker.io`), or leave out --runner docker: jobs are then processes of this machine."
)


class _State(TypedDict):
    """The state of a container, the part of it that is read here."""

    Running: bool
    ExitCode: int
    OOMKilled: bool


class _NotStartedError(Exception):
    """A container did not come to run; the text is the reason as ECS words it."""


@dataclass(eq=False)
class _Running:
    """A task that has not been reported as exited."""

    task: Task
    report: Report
    output: Path
    container: str | None = None
    started: bool = False
    stopped_by: int | None = None


def engine_errors() -> tuple[type[Exception], ...]:
    """What a call of the engine can raise: a refusal, or no answer."""
    from docker.errors import DockerException

    return DockerException, OSError


def connect() -> APIClient:
    """Return a client of the engine that Docker's own settings (``DOCKER_HOST``) name.

    Raises
    ------
    CloudknotConfigurationError
        No engine answers.
    """
    import docker

    try:
        client = docker.from_env(timeout=ENGINE_TIMEOUT, max_pool_size=64).api
        client.ping()
    except engine_errors() as error:
        raise CloudknotConfigurationError(_NO_ENGINE.format(error=error)) from error
    return client


class DockerRunner:
    """A `Runner` of containers.

    Parameters
    ----------
    client : docker.APIClient
    login : RegistryLogin
        For pulls from the registry that it names.
    directory : Path
        The cloud's. Containers of it that an earlier process of the cloud has left are removed.
    scratch : Path
        Where output goes on its way to the log.
    variables : mapping
        What every task's environment has besides its own: endpoint and region.
    credentials : callable
        What the environment of a task with this role says of its credentials; one variable names a file.
    on_output : callable
        Told ``(task, path)`` of the file that a task's output goes to when it starts, and ``(task, None)`` when the
        task has ended and the file is complete.
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
    ) -> None:
        self._client, self._login, self._label = client, login, f"{CLOUD_LABEL}={directory}"
        self._scratch, self._variables, self._on_output = scratch, dict(variables), on_output
        self._credentials = credentials
        self._lock = threading.Lock()
        self._tasks: dict[str, _Running] = {}
        self._threads: set[threading.Thread] = set()
        self._pulls: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._pulled: set[str] = set()
        self._closed = False
        # Signals, which must not keep the caller of stop waiting.
        self._aside = ThreadPoolExecutor(max_workers=4, thread_name_prefix="docker-runner")
        self._remove_all()

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
            self._aside.submit(self._signal, running)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._tasks.clear()
            threads = list(self._threads)
        self._aside.shutdown(wait=True, cancel_futures=True)
        self._remove_all()
        deadline = time.monotonic() + CLOSE_TIMEOUT
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        # A container that was being created the first time.
        self._remove_all()
        self._client.close()

    def _run(self, running: _Running) -> None:
        """A task's life, in a thread of its own."""
        task_id = running.task.id
        try:
            event = self._attempt(running)
        except _NotStartedError as error:
            event = Exited(task_id, None, str(error), NOT_STARTED)
        except engine_errors():
            event = Exited(task_id, None, None, HOST_LOST)
        self._on_output(running.task, None)
        with self._lock:
            wanted = self._tasks.pop(task_id, None) is not None
        if wanted:
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
        output = self._client.attach(container, stream=True, demux=True)
        copier = threading.Thread(
            target=copy_output, args=(output, running.output), name=f"output-{task.id}", daemon=True
        )
        copier.start()
        self._start(running, container)
        state = self._wait(container, copier)
        copier.join(OUTPUT_TIMEOUT)
        return Exited(task.id, state["ExitCode"], OUT_OF_MEMORY if state["OOMKilled"] and state["ExitCode"] else None)

    def _pull(self, image: str) -> None:
        """Pull an image once in the life of a cloud (as ECS with ``ECS_IMAGE_PULL_BEHAVIOR=once``)."""
        from docker.utils import parse_repository_tag

        repository, tag = parse_repository_tag(image)
        ours = image.startswith(f"{self._login.registry}/")
        auth = {"username": self._login.username, "password": self._login.password} if ours else None
        with self._lock:
            pulling = self._pulls[image]
        with pulling:
            if image in self._pulled:
                return
            try:
                events = self._client.pull(repository, tag or "latest", stream=True, decode=True, auth_config=auth)
                failures = [event["error"] for event in events if "error" in event]
            except engine_errors() as error:
                failures = [_said(error)]
            if failures:
                raise _NotStartedError(f"CannotPullContainerError: {failures[0]}")
            self._pulled.add(image)

    def _create(self, task: Task) -> str:
        from docker.errors import ImageNotFound

        variables = {**self._variables, **self._credentials(task.role)}
        token = variables.get(TOKEN_FILE)
        if token:
            variables[TOKEN_FILE] = TOKEN_IN_CONTAINER
        try:
            made = self._client.create_container(
                task.image,
                list(task.command) or None,
                name=f"cloudknot-{task.id}",
                user=task.user,
                environment={**variables, **task.environment},
                labels=dict([self._label.split("=", 1)]),
                host_config=self._host_config(task, token),
            )
        except ImageNotFound as error:
            # Somebody has removed it since. The next attempt pulls it again.
            self._pulled.discard(task.image)
            raise _NotStartedError(f"CannotPullContainerError: {_said(error)}") from error
        except engine_errors() as error:
            raise _NotStartedError(f"CannotCreateContainerError: {_said(error)}") from error
        return str(made["Id"])

    def _host_config(self, task: Task, token: str | None) -> HostConfig:
        from docker.types import LogConfig

        limit = f"{task.memory}m" if task.memory else None
        return self._client.create_host_config(
            network_mode="host",
            binds={token: {"bind": TOKEN_IN_CONTAINER, "mode": "ro"}} if token else None,
            init=task.init,
            cpu_shares=max(2, int(task.vcpus * CPU_SHARES)),
            mem_limit=limit,
            memswap_limit=limit,
            # The output is read as it is written; the engine need not keep all of it, too.
            log_config=LogConfig(type="json-file", config={"max-size": "1m"}),
        )

    def _start(self, running: _Running, container: str) -> None:
        try:
            self._client.start(container)
        except engine_errors() as error:
            raise _NotStartedError(f"CannotStartContainerError: {_said(error)}") from error
        with self._lock:
            running.started = True
            known, stopped = running.task.id in self._tasks, running.stopped_by
        if known:
            running.report(Started(running.task.id))
        if stopped is not None:
            self._signal(running)

    def _wait(self, container: str, copier: threading.Thread) -> _State:
        """The state of a container when it has ended, which ends its output, too."""
        while True:
            copier.join(LOOK_INTERVAL)
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
        """Remove every container of this cloud, whatever it does."""
        found: Iterable[Mapping[str, str]] = ()
        with contextlib.suppress(*engine_errors()):
            found = self._client.containers(all=True, filters={"label": self._label})
        for container in found:
            self._remove(container["Id"])

    def _remove(self, container: str) -> None:
        with contextlib.suppress(*engine_errors()):
            self._client.remove_container(container, v=True, force=True)


def _said(error: Exception) -> str:
    """What the engine itself said, without docker-py's words around it."""
    return str(getattr(error, "explanation", None) or error)


def copy_output(output: Iterable[tuple[bytes | None, bytes | None]], path: Path) -> None:
    """Write a container's output to a file, as it comes, until it ends or the engine goes away.

    A line of standard output and one of standard error stay two, also where one is begun before the other has ended.
    """
    begun = [b"", b""]
    with path.open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            for pieces in output:
                for number, piece in enumerate(pieces):
                    lines, newline, rest = (begun[number] + (piece or b"")).rpartition(b"\n")
                    file.write(lines + newline)
                    if len(rest) > LONGEST_LINE:
                        file.write(rest)
                        rest = b""
                    begun[number] = rest
        for rest in filter(None, begun):
            file.write(rest + b"\n")
