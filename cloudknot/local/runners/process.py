"""The runner of processes: it forks tasks from fork servers, one for each image and job role.

An image is a directory ``<images>/<tag>``, written by `images`. Each task gets the environment variables of its job
only, and an empty working directory as its HOME.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cloudknot.local.batch.records import HOST_LOST, NOT_STARTED, Event, Exited, Started, Task
from cloudknot.local.batch.runner import Report
from cloudknot.local.runners.fork_server_client import PROGRAM, ForkServerClient, ForkServerFailed
from cloudknot.local.runners.imports import Imports, imports_of

if TYPE_CHECKING:
    from cloudknot.local.directory.full_disk import FullDisk
    from cloudknot.local.runners.fork_server import Message

MAX_FORK_SERVERS = 8
"""The number of fork servers to keep. If one more is needed, the oldest idle one is closed first."""

_log = logging.getLogger(__name__)

_TAG = re.compile(r"\w[\w.-]{0,127}")
_INHERITED = ("LANG", "LC_ALL", "TZ")
_NO_IMPORT_READS = ("AWS_", "CLOUDKNOT_")
"""Prefixes of the variables that may differ between a fork server with imports and its tasks."""


@dataclass
class _Running:
    """A task without a reported `Exited`."""

    task: Task
    report: Report
    directory: Path
    output: Path
    fork_server: ForkServerClient | None = None
    pid: int | None = None
    stopped_by: int | None = None
    begun: float = field(default_factory=time.monotonic)


class _Kind(NamedTuple):
    """The tasks that can share a fork server. All of them have the credentials that it got before the first fork."""

    tag: str
    role: str | None
    variables: frozenset[tuple[str, str]]
    """The own variables of these tasks that an import may read. Empty if the fork server makes no imports."""


class ProcessRunner:
    """A `Runner` that executes tasks as processes.

    Parameters
    ----------
    images : Path
        The directory of the images, with one subdirectory for each tag.
    scratch : Path
        The directory for the working directories of tasks. Each is deleted when its task ends.
    variables : mapping
        Environment variables of all tasks: endpoint and region.
    credentials : callable
        Returns the environment variables with the credentials of a role.
    on_output : callable
        Called with ``(task, path)`` when a task starts, and with ``(task, None)`` when its output is complete.
    disk : FullDisk
        Knows whether tasks have failed for lack of space.
    """

    def __init__(
        self,
        images: Path,
        scratch: Path,
        variables: Mapping[str, str],
        credentials: Callable[[str | None], Mapping[str, str]],
        on_output: Callable[[Task, Path | None], None],
        disk: FullDisk,
    ) -> None:
        self._images, self._scratch = images, scratch
        self._variables = dict(variables) | {name: os.environ[name] for name in _INHERITED if name in os.environ}
        self._credentials, self._on_output, self._disk = credentials, on_output, disk
        self._lock = threading.Lock()
        self._fork_servers: dict[_Kind, ForkServerClient] = {}
        self._imports: dict[str, Imports] = {}
        self._numbers = itertools.count()
        self._tasks: dict[str, _Running] = {}
        self._closed = False
        # For slow work that the caller of start must not wait for: launching a fork server, deleting a directory.
        # Failures are reported from here as well, because start must not call report itself.
        self._background = ThreadPoolExecutor(max_workers=1, thread_name_prefix="process-runner")
        # A copy, because an upgrade of cloudknot under a running cloud would replace the original by one that this
        # process cannot talk to.
        self._program = scratch / PROGRAM.name
        shutil.copyfile(PROGRAM, self._program)

    def start(self, task: Task, report: Report) -> None:
        running = _Running(task, report, self._scratch / task.id, self._scratch / f"{task.id}.log")
        with self._lock:
            if self._closed:
                return
            self._tasks[task.id] = running
            known = _tag(task.image) in self._imports
            server = self._fork_servers.get(self._kind(task)) if known else None
            if server is not None and server.alive:
                # Assigned under the lock. From here on the fork server is busy, and is not closed as an idle one.
                running.fork_server = server
        if running.fork_server is not None:
            self._send(running, running.fork_server)
        else:
            self._background.submit(self._launch, running)

    def prepare(self, image: str, role: str | None, environment: Mapping[str, str]) -> None:
        task = Task("", image, (), environment, "", role=role)
        with self._lock:
            if not self._closed:
                self._background.submit(self._prepare, task)

    def release(self, image: str) -> None:
        with self._lock:
            if self._closed:
                return
            # After a launch that `prepare` has begun.
            releasing = self._background.submit(self._close_idle_fork_servers, _tag(image))
        # `close` drops it, and closes all of them.
        with contextlib.suppress(CancelledError):
            releasing.result()

    def _prepare(self, task: Task) -> None:
        """Launch the fork server of a task, which takes longer than the rest of its start."""
        try:
            self._fork_server(task)
        except Exception as error:
            # The first task meets the same problem, and its job names it.
            _log.debug("Cannot prepare tasks of the image %s: %s", task.image, error)

    def stop(self, task_id: str, *, kill: bool) -> None:
        number = signal.SIGKILL if kill else signal.SIGTERM
        with self._lock:
            running = self._tasks.get(task_id)
            if running is None:
                return
            # Without a fork server yet, the task is not started at all: see _launch.
            running.stopped_by = number
            server = running.fork_server
        if server is not None:
            server.send({"stop": task_id, "signal": number})

    def close(self) -> None:
        with self._lock:
            self._closed = True
            servers, self._fork_servers = list(self._fork_servers.values()), {}
            tasks, self._tasks = list(self._tasks.values()), {}
        self._background.shutdown(wait=True, cancel_futures=True)
        for server in servers:
            server.close()
        for running in tasks:
            self._clean_up(running)

    def _launch(self, running: _Running) -> None:
        """Start the task from the fork server of its image. Launch that first if none runs."""
        with self._lock:
            if running.task.id not in self._tasks:
                return
        try:
            server = self._fork_server(running.task)
        except ForkServerFailed as failure:
            self._finish(running, Exited(running.task.id, None, str(failure), NOT_STARTED))
            return
        except Exception as error:
            # The executor would drop it, and the job would stay in STARTING forever.
            _log.exception("Cannot launch a fork server for the task %s", running.task.id)
            self._finish(running, _not_started(running.task, error))
            return
        if running.stopped_by is not None:
            self._finish(running, Exited(running.task.id, 128 + running.stopped_by))
        else:
            with self._lock:
                running.fork_server = server
            self._send(running, server)

    def _fork_server(self, task: Task) -> ForkServerClient:
        """Return the fork server of a task, launched if none runs."""
        directory = self._image(task)
        kind = self._kind(task)
        with self._lock:
            server = self._fork_servers.get(kind)
        if server is not None and server.alive:
            return server
        # For the removal of images that were used least recently.
        with contextlib.suppress(OSError):
            os.utime(directory)
        self._close_idle_fork_servers()
        home = {"PATH": self._path(directory), "HOME": str(directory)}
        environment = {**home, **self._variables, **self._credentials(kind.role), **dict(kind.variables)}
        log = self._scratch / f"{kind.tag}-{next(self._numbers)}.fork-server.log"
        server = ForkServerClient(
            directory, log, environment, self._imports[kind.tag], self._on_message, self._program
        )
        with self._lock:
            if not self._closed:
                self._fork_servers[kind] = server
                return server
        server.close()
        raise ForkServerFailed("CannotStartContainerError: the cloud is being stopped")

    def _image(self, task: Task) -> Path:
        """Return the directory of a task's image, after a look at its imports."""
        tag = _tag(task.image)
        directory = self._images / tag
        if not _TAG.fullmatch(tag) or not directory.is_dir():
            raise ForkServerFailed(
                f"CannotPullContainerError: Error response from daemon: manifest for {task.image} not found: "
                f"manifest unknown: {directory} does not exist. "
                "Create the Knot again: that writes it."
            )
        if tag not in self._imports:
            self._imports[tag] = imports_of(directory)
        return directory

    def _kind(self, task: Task) -> _Kind:
        """Return the kind of a task whose image `_image` has looked at."""
        tag = _tag(task.image)
        own = task.environment.items() if self._imports[tag] else ()
        # An import may read them, for example OMP_NUM_THREADS. On AWS, too, they are set before Python starts.
        variables = ((name, value) for name, value in own if not name.startswith(_NO_IMPORT_READS))
        return _Kind(tag, task.role, frozenset(variables))

    def _close_idle_fork_servers(self, tag: str = "") -> None:
        """Close all idle fork servers of an image. Without one, make room for one more fork server."""
        with self._lock:
            busy = {running.fork_server for running in self._tasks.values()}
            idle = [key for key, server in self._fork_servers.items() if server not in busy]
            excess = max(0, len(self._fork_servers) - MAX_FORK_SERVERS + 1)
            chosen = [key for key in idle if key.tag == tag] if tag else idle[:excess]
            closing = [self._fork_servers.pop(key) for key in chosen]
        for server in closing:
            server.close()

    def _send(self, running: _Running, server: ForkServerClient) -> None:
        try:
            running.directory.mkdir(mode=0o700, exist_ok=True)
            environment = self._environment(running)
        except Exception as error:
            # The file with a role's credentials may find no space either. The caller of start must not meet the error.
            self._background.submit(self._finish, running, _not_started(running.task, error))
            return
        self._on_output(running.task, running.output)
        sent = server.send(
            {
                "start": running.task.id,
                "command": list(running.task.command),
                "environment": environment,
                "directory": str(running.directory),
                "output": str(running.output),
            }
        )
        if not sent:
            # The fork server ended between the choice and the message. The task starts from a new one.
            self._background.submit(self._launch, running)
        # A stop that came before the request to start found no process.
        elif running.stopped_by is not None:
            server.send({"stop": running.task.id, "signal": running.stopped_by})

    def _environment(self, running: _Running) -> dict[str, str]:
        home = {"PATH": self._path(self._images / _tag(running.task.image)), "HOME": str(running.directory)}
        return {**home, **self._variables, **self._credentials(running.task.role), **running.task.environment}

    def _path(self, directory: Path) -> str:
        return os.pathsep.join([str(directory / "environment" / "bin"), os.defpath])

    def _on_message(self, server: ForkServerClient, message: Message | None) -> None:
        """Process a message on the reader thread of a fork server. None marks the end of the fork server."""
        if message is None:
            self._on_fork_server_end(server)
            return
        try:
            if "started" in message:
                self._on_started(message["started"], message["pid"])
            else:
                self._on_ended(message)
        except Exception as error:
            _log.exception("Cannot process the message %s of a task", message)
            self._fail_task(message, error)

    def _fail_task(self, message: Message, error: Exception) -> None:
        """Kill the task of a message, and report that it failed. Otherwise its job would stay unfinished forever."""
        task_id = message.get("started") or message.get("exited") or message["failed"]
        self.stop(task_id, kill=True)
        with self._lock:
            running = self._tasks.get(task_id)
        if running is not None:
            self._finish(running, Exited(task_id, None, f"InternalError: {error}"))

    def _on_started(self, task_id: str, pid: int) -> None:
        with self._lock:
            running = self._tasks.get(task_id)
        if running is not None:
            running.pid = pid
            running.report(Started(task_id))

    def _on_ended(self, message: Message) -> None:
        task_id = message["exited"] if "exited" in message else message["failed"]
        with self._lock:
            running = self._tasks.get(task_id)
        if running is None:
            return
        if "exited" in message:
            code = message["exit_code"]
            event = Exited(task_id, code, self._disk.reason(running.begun) if 0 < code < 128 else None)
        else:
            event = Exited(task_id, None, f"CannotStartContainerError: {message['reason']}", NOT_STARTED)
        self._finish(running, event)

    def _on_fork_server_end(self, server: ForkServerClient) -> None:
        """End the tasks of a fork server that has ended. The next task of the image launches a new one."""
        with self._lock:
            lost = [running for running in self._tasks.values() if running.fork_server is server]
        for running in lost:
            if running.pid is None:
                reason = f"CannotStartContainerError: {server.failure_reason()}"
                self._finish(running, Exited(running.task.id, None, reason, NOT_STARTED))
            else:
                # The fork server may have died before it could kill its children. macOS refuses a signal to a group
                # whose processes have all ended.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(running.pid, signal.SIGKILL)
                self._finish(running, Exited(running.task.id, None, None, HOST_LOST))

    def _finish(self, running: _Running, event: Event) -> None:
        with self._lock:
            # Another thread may have reported the end first, for example when the fork server ended.
            if self._tasks.pop(running.task.id, None) is None:
                return
        try:
            running.report(event)
        finally:
            self._clean_up(running)

    def _clean_up(self, running: _Running) -> None:
        self._on_output(running.task, None)
        # Most tasks leave an empty directory, and its removal is quick. A full one is left to the background thread.
        try:
            running.directory.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if self._closed:
                shutil.rmtree(running.directory, ignore_errors=True)
            else:
                self._background.submit(shutil.rmtree, running.directory, ignore_errors=True)


def _not_started(task: Task, error: Exception) -> Exited:
    """Return the event for a task that an error of this runner kept from its start."""
    text = str(error) if isinstance(error, OSError) else repr(error)
    return Exited(task.id, None, f"CannotStartContainerError: {text}", NOT_STARTED)


def _tag(image: str) -> str:
    """Return the tag of ``<registry>/<repository>:<tag>``."""
    return image.rpartition("/")[2].partition(":")[2]
