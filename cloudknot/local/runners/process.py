"""Runs tasks as processes of this machine, forked from one fork server per image and job role.

An image is a directory, ``<images>/<tag>``, as `images` writes it. A task gets a fresh working directory, which is
also its HOME, and an environment of its own; nothing of the server's leaks into it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cloudknot.local.batch.records import HOST_LOST, NOT_STARTED, Event, Exited, Started, Task
from cloudknot.local.batch.runner import Report
from cloudknot.local.runners.fork_server_client import ForkServerClient, ForkServerFailed

if TYPE_CHECKING:
    from cloudknot.local.runners.fork_server import Message

MAX_PARENTS = 8
"""Fork servers kept; beyond that, the one that has been idle longest is closed."""

_log = logging.getLogger(__name__)

_TAG = re.compile(r"\w[\w.-]{0,127}")
_INHERITED = ("LANG", "LC_ALL", "TZ")


@dataclass
class _Running:
    """A task that has not been reported as exited."""

    task: Task
    report: Report
    directory: Path
    output: Path
    parent: ForkServerClient | None = None
    pid: int | None = None
    stopped_by: int | None = None


class ProcessRunner:
    """A `Runner` of processes.

    Parameters
    ----------
    images : Path
        Where images are, one directory a tag.
    scratch : Path
        Where tasks get their working directories; emptied as they end.
    variables : mapping
        What every task's environment has besides its own: endpoint and region.
    credentials : callable
        What the environment of a task with this role says of its credentials.
    on_output : callable
        Told ``(task, path)`` of the file that a task's output goes to when it starts, and ``(task, None)`` when the
        task has ended and the file is complete.
    """

    def __init__(
        self,
        images: Path,
        scratch: Path,
        variables: Mapping[str, str],
        credentials: Callable[[str | None], Mapping[str, str]],
        on_output: Callable[[Task, Path | None], None],
    ) -> None:
        self._images, self._scratch = images, scratch
        self._variables = dict(variables) | {name: os.environ[name] for name in _INHERITED if name in os.environ}
        self._credentials, self._on_output = credentials, on_output
        self._lock = threading.Lock()
        self._parents: dict[tuple[str, str | None], ForkServerClient] = {}
        self._tasks: dict[str, _Running] = {}
        self._closed = False
        # What must not be done by the caller of start: launching a parent, reporting a failure, deleting a tree.
        self._aside = ThreadPoolExecutor(max_workers=1, thread_name_prefix="process-runner")

    def start(self, task: Task, report: Report) -> None:
        running = _Running(task, report, self._scratch / task.id, self._scratch / f"{task.id}.log")
        with self._lock:
            if self._closed:
                return
            self._tasks[task.id] = running
            parent = self._parents.get((_tag(task.image), task.role))
            if parent is not None and parent.alive:
                # From here on the parent is not idle, and so not closed.
                running.parent = parent
        if running.parent is not None:
            self._send(running, running.parent)
        else:
            self._aside.submit(self._launch, running)

    def stop(self, task_id: str, *, kill: bool) -> None:
        number = signal.SIGKILL if kill else signal.SIGTERM
        with self._lock:
            running = self._tasks.get(task_id)
            if running is None:
                return
            running.stopped_by = number
            parent = running.parent
        if parent is not None:
            parent.send({"stop": task_id, "signal": number})

    def close(self) -> None:
        with self._lock:
            self._closed = True
            parents, self._parents = list(self._parents.values()), {}
            tasks, self._tasks = list(self._tasks.values()), {}
        self._aside.shutdown(wait=True, cancel_futures=True)
        for parent in parents:
            parent.close()
        for running in tasks:
            self._clear_up(running)

    def _launch(self, running: _Running) -> None:
        """Start the task in its image's parent, launched if there is none."""
        with self._lock:
            if running.task.id not in self._tasks:
                return
        try:
            parent = self._parent(running.task.image, running.task.role)
        except ForkServerFailed as failure:
            self._finish(running, Exited(running.task.id, None, str(failure), NOT_STARTED))
            return
        if running.stopped_by is not None:
            self._finish(running, Exited(running.task.id, 128 + running.stopped_by))
        else:
            with self._lock:
                running.parent = parent
            self._send(running, parent)

    def _parent(self, image: str, role: str | None) -> ForkServerClient:
        """The parent of an image's tasks with a role, whose credentials it has when it forks."""
        tag = _tag(image)
        with self._lock:
            parent = self._parents.get((tag, role))
        if parent is not None and parent.alive:
            return parent
        directory = self._images / tag
        if not _TAG.fullmatch(tag) or not directory.is_dir():
            raise ForkServerFailed(
                f"CannotPullContainerError: {image} is not in this cloud: {directory} does not exist"
            )
        self._close_an_idle_parent()
        variables = {**self._variables, **self._credentials(role)}
        environment = {"PATH": self._path(directory), "HOME": str(directory), **variables}
        parent = ForkServerClient(directory, self._scratch / f"{tag}.parent.log", environment, self._on_message)
        with self._lock:
            if not self._closed:
                self._parents[tag, role] = parent
                return parent
        parent.close()
        raise ForkServerFailed("CannotStartContainerError: the cloud is being stopped")

    def _close_an_idle_parent(self) -> None:
        with self._lock:
            busy = {running.parent for running in self._tasks.values()}
            idle = [key for key, parent in self._parents.items() if parent not in busy]
            closing = [self._parents.pop(key) for key in idle[: max(0, len(self._parents) - MAX_PARENTS + 1)]]
        for parent in closing:
            parent.close()

    def _send(self, running: _Running, parent: ForkServerClient) -> None:
        try:
            running.directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            failed = Exited(running.task.id, None, f"CannotStartContainerError: {error}", NOT_STARTED)
            self._aside.submit(self._finish, running, failed)
            return
        self._on_output(running.task, running.output)
        sent = parent.send(
            {
                "start": running.task.id,
                "command": list(running.task.command),
                "environment": self._environment(running),
                "directory": str(running.directory),
                "output": str(running.output),
            }
        )
        if not sent:
            self._aside.submit(self._launch, running)
        elif running.stopped_by is not None:
            parent.send({"stop": running.task.id, "signal": running.stopped_by})

    def _environment(self, running: _Running) -> dict[str, str]:
        home = {"PATH": self._path(self._images / _tag(running.task.image)), "HOME": str(running.directory)}
        return {**home, **self._variables, **self._credentials(running.task.role), **running.task.environment}

    def _path(self, directory: Path) -> str:
        return os.pathsep.join([str(directory / "environment" / "bin"), os.defpath])

    def _on_message(self, parent: ForkServerClient, message: Message | None) -> None:
        """Called by a parent's reader thread; None is the parent's end."""
        if message is None:
            self._parent_died(parent)
            return
        try:
            if "started" in message:
                self._on_started(message["started"], message["pid"])
            else:
                self._on_ended(message)
        except Exception as error:
            _log.exception("A task's %s could not be taken in", message)
            self._give_up(message, error)

    def _give_up(self, message: Message, error: Exception) -> None:
        """End the task that a message is about, which nobody would hear of again."""
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
        event = (
            Exited(message["exited"], message["exit_code"])
            if "exited" in message
            else Exited(message["failed"], None, f"CannotStartContainerError: {message['reason']}", NOT_STARTED)
        )
        with self._lock:
            running = self._tasks.get(event.task_id)
        if running is not None:
            self._finish(running, event)

    def _parent_died(self, parent: ForkServerClient) -> None:
        """End the tasks of a parent that is no more; the next task of the image launches a new one."""
        with self._lock:
            lost = [running for running in self._tasks.values() if running.parent is parent]
        for running in lost:
            if running.pid is None:
                reason = f"CannotStartContainerError: {parent.last_words()}"
                self._finish(running, Exited(running.task.id, None, reason, NOT_STARTED))
            else:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(running.pid, signal.SIGKILL)
                self._finish(running, Exited(running.task.id, None, None, HOST_LOST))

    def _finish(self, running: _Running, event: Event) -> None:
        with self._lock:
            if self._tasks.pop(running.task.id, None) is None:
                return
        try:
            running.report(event)
        finally:
            self._clear_up(running)

    def _clear_up(self, running: _Running) -> None:
        self._on_output(running.task, None)
        try:
            running.directory.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if self._closed:
                shutil.rmtree(running.directory, ignore_errors=True)
            else:
                self._aside.submit(shutil.rmtree, running.directory, ignore_errors=True)


def _tag(image: str) -> str:
    return image.rpartition("/")[2].partition(":")[2]
