"""A runner in front of another one, which ends attempts as the current faults demand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from cloudknot.errors import refuse
from cloudknot.local.batch.records import Event, Exited, Task
from cloudknot.local.batch.runner import Report, Runner
from cloudknot.worker.wire.container import MANIFEST_VARIABLE, child_index
from cloudknot.worker.wire.input_index import unpack_entries
from cloudknot.worker.wire.keys import RunKeys
from cloudknot.worker.wire.manifest import Manifest, todo_seed
from tests.faulty_cloud.injector import Injector
from tests.faulty_cloud.plan import NEVER_STARTED, AttemptEnd, Kill


@dataclass(eq=False)
class _Watched:
    """A task that still runs as far as Batch knows."""

    task: Task
    report: Report
    kill: Kill | None
    ending: AttemptEnd | None = None
    """The end to report once the runner has killed the task's processes."""


class FaultyRunner:
    """A `Runner` that forwards to another one and injects faults.

    Parameters
    ----------
    runner : Runner
        Runs the tasks.
    injector : Injector
        Chooses the faults and counts them.
    read : callable
        Returns the S3 object at a path, ``/bucket/key``.
    """

    def __init__(self, runner: Runner, injector: Injector, read: Callable[[str], bytes]) -> None:
        self._runner, self._injector, self._read = runner, injector, read
        self._lock = threading.Lock()
        self._tasks: dict[str, _Watched] = {}
        self._overlapping: set[str] = set()
        injector.on_stored = self._on_stored

    def start(self, task: Task, report: Report) -> None:
        """Start a task, or report at once that it could not be started."""
        attempt = int(task.environment.get("AWS_BATCH_JOB_ATTEMPT", "1"))
        kill = self._injector.kill_for(child_index(task.environment), attempt)
        if kill is not None and kill.how in NEVER_STARTED:
            self._injector.count(f"killed: {kill.how}")
            # From another thread, as the contract of `Runner` demands.
            _later(0, lambda: report(_exited(task, kill.ending)))
            return
        # Before the start, so that no event of the task can come first.
        with self._lock:
            self._tasks[task.id] = _Watched(task, report, kill)
        self._runner.start(_idle(task) if kill is not None and kill.at_once else task, self._on_event)

    def prepare(self, image: str, role: str | None, environment: Mapping[str, str]) -> None:
        """Prepare tasks."""
        self._runner.prepare(image, role, environment)

    def release(self, image: str) -> None:
        """End processes that wait for tasks."""
        self._runner.release(image)

    def stop(self, task_id: str, *, kill: bool) -> None:
        """Stop a task."""
        self._runner.stop(task_id, kill=kill)

    def close(self) -> None:
        """Kill all tasks, and report nothing more."""
        self._runner.close()

    def kill(self, job_id: str, how: str) -> None:
        """Kill the running attempt of a job.

        Raises
        ------
        CloudknotInputError
            The job has no running attempt, or ``how`` is unknown.
        """
        fault = Kill(how)
        with self._lock:
            running = [w for w in self._tasks.values() if w.task.environment.get("AWS_BATCH_JOB_ID") == job_id]
        if not running:
            refuse(problem=f"The job {job_id!r} has no running attempt.", fix="Kill it while its status is RUNNING.")
        self._end(running[-1], fault)

    @property
    def running(self) -> int:
        """The number of tasks with processes, also of those that have ended as far as Batch knows."""
        with self._lock:
            return len(self._tasks) + len(self._overlapping)

    def _on_event(self, event: Event) -> None:
        """Forward an event to Batch, and kill an attempt at its start if that is its fault."""
        with self._lock:
            watched = self._tasks.get(event.task_id)
            if isinstance(event, Exited):
                self._overlapping.discard(event.task_id)
        if watched is None:
            return
        # An overlapping attempt is no longer in the table, so its events end above.
        if isinstance(event, Exited):
            self._on_exited(watched, event)
            return
        watched.report(event)
        if watched.kill is not None and watched.kill.moment == "start":
            self._end_later(watched, watched.kill)

    def _on_exited(self, watched: _Watched, event: Exited) -> None:
        with self._lock:
            del self._tasks[event.task_id]
            ending, kill = watched.ending, watched.kill
        if ending is None and kill is not None and kill.moment == "end":
            self._injector.count(f"killed: {kill.how}")
            ending = kill.ending
        # Batch gets AWS's reason in place of the exit code of the killed process.
        watched.report(event if ending is None else _exited(watched.task, ending))

    def _end_later(self, watched: _Watched, kill: Kill) -> None:
        if kill.after:
            _later(kill.after, lambda: self._end(watched, kill))
        else:
            self._end(watched, kill)

    def _end(self, watched: _Watched, kill: Kill) -> None:
        """Kill a task's processes, or report them as gone although they go on."""
        task = watched.task
        with self._lock:
            # The task may have ended, or met this fault already, while a timer ran.
            if task.id not in self._tasks or watched.ending is not None:
                return
            watched.ending = kill.ending
            # Later events of the overlapping process must not reach Batch, which has started the next attempt.
            if kill.overlap:
                del self._tasks[task.id]
                self._overlapping.add(task.id)
        self._injector.count(f"overlapping: {kill.how}" if kill.overlap else f"killed: {kill.how}")
        if kill.overlap:
            watched.report(_exited(task, kill.ending))
        else:
            self._runner.stop(task.id, kill=True)

    def _on_stored(self, path: str) -> None:
        """Kill the attempt that stored an object, if its fault is to end after its first results."""
        with self._lock:
            # Only collected here: `_is_output` may read from S3, which must not happen under the lock.
            armed = [w for w in self._tasks.values() if w.kill is not None and w.kill.moment == "stored"]
        for watched in armed:
            if watched.kill is not None and self._is_output(path, watched.task):
                self._end_later(watched, watched.kill)

    def _is_output(self, path: str, task: Task) -> bool:
        """Return whether a path is that of a pack with outcomes of a task's elements."""
        if MANIFEST_VARIABLE not in task.environment or not task.command:
            return False
        keys = RunKeys.parse(task.command[-1])
        key = path.removeprefix(f"/{keys.bucket}/")
        location = keys.parse_output(key) if key.startswith(keys.outputs) else None
        if location is None:
            return False
        manifest = Manifest.from_json(task.environment[MANIFEST_VARIABLE])
        child = child_index(task.environment)
        if not manifest.round or location.round != manifest.round:
            return location.round == manifest.round and location.first in manifest.chunk(child)
        # A retry runs any subset of the elements. An object lists them, in the order of the child jobs.
        first = child * manifest.chunksize
        seed = todo_seed(keys.run_id, manifest.round) if manifest.is_sealed else None
        todo = unpack_entries(self._read(f"/{keys.bucket}/{keys.todo(manifest.round)}"), 0, seed)
        return location.first in todo[first : first + manifest.chunksize]


def _idle(task: Task) -> Task:
    """Return the task with a command that only waits."""
    # A quick function would otherwise finish before the kill.
    return replace(task, command=("sleep", "86400"))


def _exited(task: Task, ending: AttemptEnd) -> Exited:
    return Exited(task.id, ending.exit_code, ending.reason, ending.status_reason)


def _later(seconds: float, call: Callable[[], None]) -> None:
    """Make a call in another thread, after some seconds."""
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()
