"""The job lifecycle of AWS Batch as a state machine: requests and events in, actions out.

It does no I/O. The caller passes the time, the source of ids and the size of the machine. It stores the `changed`
jobs, and then performs the returned actions. The engine is not thread-safe: `job_api` holds a lock around every call.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from cloudknot.local.batch import records
from cloudknot.local.batch.attempts import is_retried, next_task
from cloudknot.local.batch.records import (
    Action,
    Attempt,
    Dependency,
    Event,
    Exited,
    Job,
    JobSpec,
    Start,
    Started,
    Status,
    Stop,
    add_children,
)
from cloudknot.local.batch.scheduler import Scheduler, TimeLimits

STOP_GRACE = 30.0
"""Seconds between SIGTERM and SIGKILL (ECS, ``ECS_CONTAINER_STOP_TIMEOUT``)."""
ENDED_JOBS = 20_000
"""Ended jobs, children included, that stay in memory. Older ones are in the store only."""


@dataclass(frozen=True, order=True)
class _Deadline:
    at: float
    task_id: str
    kill: bool


class Engine:
    """The jobs of one cloud.

    Parameters
    ----------
    vcpus : float
        The vCPUs that running jobs may hold together. A job that needs more runs alone.
    new_id : callable
        Returns a new id, for a job or for a log stream.
    first : int, default 0
        The position of the next job in the order of creation.

    Attributes
    ----------
    jobs : dict
        All jobs that have not ended, and recently ended ones, by their ids. Children included.
    changed : dict
        The jobs to store before the returned actions are performed. The caller empties it.
    """

    def __init__(self, vcpus: float, new_id: Callable[[], str], first: int = 0) -> None:
        self.jobs: dict[str, Job] = {}
        self.changed: dict[str, Job] = {}
        self._new_id = new_id
        self._next = first
        self._scheduler = Scheduler(vcpus)
        self._limits = TimeLimits()
        self._running: dict[str, Job] = {}
        self._deadlines: list[_Deadline] = []
        # Ended jobs with parents and dependents that are not updated yet.
        self._just_ended: deque[Job] = deque()
        # Ended top-level jobs, the oldest first, and their number with children.
        self._history: deque[Job] = deque()
        self._kept = 0
        self._actions: list[Action] = []

    def live_jobs(self) -> Iterator[Job]:
        """Yield the single jobs and array parents that have not ended, the oldest first."""
        return (job for job in self.jobs.values() if job.parent is None and not job.status.ended)

    @property
    def live(self) -> bool:
        """Whether any job has not ended."""
        return any(True for _ in self.live_jobs())

    def submit(self, spec: JobSpec, now: float) -> tuple[Job, list[Action]]:
        """Add a job, and the children of an array. The jobs in its ``depends_on`` must be in `jobs`."""
        job = Job(self._new_id(), spec, self._next, _ms(now))
        add_children(job)
        # The children have the following positions.
        self._next += 1 + len(job.children)
        self._add(job)
        self._touch(job)
        if spec.immediate_failure:
            self._end(job, Status.FAILED, spec.immediate_failure, now)
        else:
            self._add_dependencies(job, now)
            self._release(job)
        return job, self._settle(now)

    def restore(self, jobs: Iterable[Job], host_lost: str, now: float) -> list[Action]:
        """Add the stored jobs of an earlier process that have not ended. Their running attempts are lost with its end.

        Jobs in the ``depends_on`` of these jobs that are not in `jobs` count as succeeded: a failed one would have
        ended its dependents.
        """
        restored = list(jobs)
        for job in restored:
            self._add(job)
        leaves = [leaf for job in restored for leaf in job.children or [job]]
        lost = [leaf for leaf in leaves if leaf.status.active]
        waiting = [leaf for leaf in leaves if leaf.status is Status.RUNNABLE]
        for job in restored:
            self._add_dependencies(job, now)
            self._release(job)
        for leaf in waiting:
            self._make_runnable(leaf)
        for leaf in lost:
            task_id = leaf.attempts[-1].task_id
            self._running[task_id] = leaf
            self._scheduler.reserve(leaf)
            self._on_exited(leaf, Exited(task_id, None, status_reason=host_lost), now)
        return self._settle(now)

    def adopt(self, job: Job) -> None:
        """Add an ended job of the store to `jobs`."""
        self._add(job)
        self._remember(job)

    def handle(self, event: Event, now: float) -> list[Action]:
        """Process an event from a runner.

        An event for an unknown task is ignored: a runner may report the end of a task that has ended already.
        """
        job = self._running.get(event.task_id)
        if job is not None and isinstance(event, Started):
            self._on_started(job, now)
        elif job is not None and isinstance(event, Exited):
            self._on_exited(job, event, now)
        return self._settle(now)

    def cancel(self, job: Job, reason: str, now: float) -> list[Action]:
        """End a job that has not reached STARTING, or all such children of an array (CancelJob)."""
        job.cancelled = True
        self._touch(job)
        # Running children continue: only TerminateJob stops them.
        self._cancel_waiting(job, reason, now)
        return self._settle(now)

    def terminate(self, job: Job, reason: str, now: float) -> list[Action]:
        """End waiting jobs as `cancel` does, and stop running ones (TerminateJob)."""
        job.terminated = True
        self._touch(job)
        for target in job.children or [job]:
            if target.status.active:
                target.terminated = True
                self._touch(target)
                self._stop(target, reason, now)
        self._cancel_waiting(job, reason, now)
        return self._settle(now)

    def tick(self, now: float) -> list[Action]:
        """Act on all deadlines up to ``now``: timeouts of attempts, SIGKILL after SIGTERM, limits for stuck jobs."""
        while self._deadlines and self._deadlines[0].at <= now:
            deadline = heapq.heappop(self._deadlines)
            job = self._running.get(deadline.task_id)
            if job is None:
                continue
            if deadline.kill:
                self._actions.append(Stop(deadline.task_id, kill=True))
            else:
                self._stop(job, records.TIMED_OUT, now)
        # `_settle` also ends stuck jobs that have reached their time limits.
        return self._settle(now)

    def next_deadline(self) -> float | None:
        """Return the time of the next `tick` that has work to do, or None."""
        # Deadlines stay in the heap when their task ends, because a heap has no cheap removal.
        while self._deadlines and self._deadlines[0].task_id not in self._running:
            heapq.heappop(self._deadlines)
        times = [self._deadlines[0].at if self._deadlines else None, self._limits.next()]
        return min((at for at in times if at is not None), default=None)

    def make_room(self) -> None:
        """Drop the stored jobs from memory that ended first, if there are many."""
        while not self.changed and self._kept > ENDED_JOBS and len(self._history) > 1:
            self.forget(self._history[0])

    def forget(self, job: Job) -> None:
        """Drop a job and its children from `jobs`."""
        for member in (job, *job.children):
            self.jobs.pop(member.id, None)
            self.changed.pop(member.id, None)
        if job in self._history:
            self._history.remove(job)
            self._kept -= 1 + len(job.children)

    def _add(self, job: Job) -> None:
        for member in (job, *job.children):
            self.jobs[member.id] = member

    def _remember(self, job: Job) -> None:
        self._history.append(job)
        self._kept += 1 + len(job.children)

    def _touch(self, job: Job) -> None:
        self.changed[job.id] = job

    def _add_dependencies(self, job: Job, now: float) -> None:
        """Register the job, or its children one by one, with the jobs in its ``depends_on``."""
        for dependency in job.spec.depends_on:
            for needed, dependent in self._dependency_pairs(job, dependency):
                if needed.status == Status.FAILED:
                    self._end(dependent, Status.FAILED, records.DEPENDENCY_FAILED, now)
                elif needed.status != Status.SUCCEEDED:
                    needed.dependents.append(dependent)
                    dependent.open_dependencies += 1

    def _dependency_pairs(self, job: Job, dependency: Dependency) -> Iterable[tuple[Job, Job]]:
        """Return pairs of a needed job and the job that waits for it."""
        if dependency.type == "SEQUENTIAL":
            return itertools.pairwise(job.children)
        needed = self.jobs.get(dependency.job_id or "")
        if needed is None:
            return []
        if dependency.type == "N_TO_N":
            return zip(needed.children, job.children, strict=True)
        return [(needed, job)]

    def _release(self, job: Job) -> None:
        """Move a job to PENDING or RUNNABLE, depending on its open dependencies and those of its parent."""
        if job.status not in (Status.SUBMITTED, Status.PENDING):
            return
        # An array parent stays PENDING until its children have ended.
        if job.children or job.open_dependencies or (job.parent is not None and job.parent.open_dependencies):
            self._set_status(job, Status.PENDING)
        else:
            self._make_runnable(job)
        for child in job.children:
            self._release(child)

    def _make_runnable(self, job: Job) -> None:
        self._set_status(job, Status.RUNNABLE)
        job.reason = self._scheduler.add(job)
        # As on AWS, a job that can never start stays RUNNABLE forever, unless its queue has a limit for the reason.
        if job.reason:
            self._limits.add(job)

    def _settle(self, now: float) -> list[Action]:
        """Propagate the ends of jobs, start the jobs that fit now, and return the collected actions."""
        self._propagate_ends(now)
        for stuck, reason in self._limits.due(now):
            self._cancel_waiting(stuck, reason, now)
            # Before the next stuck job: this end may fail that job, too, as a dependent.
            self._propagate_ends(now)
        # Last, so that vCPUs freed by the ends above go to waiting jobs at once.
        for job in self._scheduler.take():
            self._start(job)
        actions, self._actions = self._actions, []
        return actions

    def _start(self, job: Job) -> None:
        task = next_task(job, self._new_id())
        job.attempts.append(Attempt(task.id, task.log_stream))
        self._touch(job)
        self._set_status(job, Status.STARTING)
        self._running[task.id] = job
        self._actions.append(Start(task))

    def _on_started(self, job: Job, now: float) -> None:
        self._set_status(job, Status.RUNNING)
        attempt = job.attempts[-1]
        attempt.started = job.started = _ms(now)
        self._touch(job)
        # The timeout applies to each attempt. The wait in the queue and the pull of the image do not count.
        if job.spec.timeout is not None:
            heapq.heappush(self._deadlines, _Deadline(now + job.spec.timeout, attempt.task_id, kill=False))

    def _on_exited(self, job: Job, event: Exited, now: float) -> None:
        attempt = job.attempts[-1]
        attempt.stopped, attempt.exit_code = _ms(now), event.exit_code
        attempt.reason, attempt.status_reason = event.reason, job.stop_reason or event.status_reason
        self._touch(job)
        del self._running[attempt.task_id]
        self._scheduler.release(job)
        # A stopped attempt fails its job for good, even with exit code 0, and is not followed by another attempt.
        if job.stop_reason is None and event.exit_code == 0:
            self._end(job, Status.SUCCEEDED, event.status_reason, now)
        elif job.stop_reason is None and is_retried(job.spec.retry, len(job.attempts), attempt):
            self._make_runnable(job)
        else:
            self._end(job, Status.FAILED, attempt.status_reason, now)

    def _stop(self, job: Job, reason: str, now: float) -> None:
        """Request SIGTERM for the running attempt, and end its job with it. The first reason counts."""
        if job.stop_reason is None:
            job.stop_reason = reason
            self._touch(job)
            task_id = job.attempts[-1].task_id
            self._actions.append(Stop(task_id, kill=False))
            heapq.heappush(self._deadlines, _Deadline(now + STOP_GRACE, task_id, kill=True))

    def _cancel_waiting(self, job: Job, reason: str, now: float) -> None:
        # The array ends with its last running child, and then has this reason.
        if job.children:
            job.stop_reason = job.stop_reason or reason
            self._touch(job)
        for target in job.children or [job]:
            if not target.status.active and not target.status.ended:
                target.cancelled = True
                self._end(target, Status.FAILED, reason, now)

    def _propagate_ends(self, now: float) -> None:
        # A queue in place of recursion: an array of 10,000 children in a sequence would exceed Python's stack.
        while self._just_ended:
            self._propagate_end(self._just_ended.popleft(), now)

    def _propagate_end(self, job: Job, now: float) -> None:
        """Update the parent and the dependents of an ended job."""
        if job.parent is None:
            self._remember(job)
        else:
            self._child_ended(job.parent, now)
        for dependent in job.dependents:
            self._dependency_ended(dependent, job.status, now)
        job.dependents.clear()

    def _child_ended(self, parent: Job, now: float) -> None:
        failed = parent.summary[Status.FAILED]
        if failed + parent.summary[Status.SUCCEEDED] < len(parent.children):
            return
        if failed:
            self._end(parent, Status.FAILED, parent.stop_reason or records.CHILD_FAILED, now)
        else:
            self._end(parent, Status.SUCCEEDED, None, now)

    def _dependency_ended(self, job: Job, status: Status, now: float) -> None:
        if status == Status.FAILED:
            self._end(job, Status.FAILED, records.DEPENDENCY_FAILED, now)
            return
        job.open_dependencies -= 1
        if not job.open_dependencies:
            self._release(job)

    def _end(self, job: Job, status: Status, reason: str | None, now: float) -> None:
        """Put a job, and the unfinished children of an array, into its last state."""
        if job.status.ended:
            return
        self._set_status(job, status)
        job.reason, job.stopped = reason, _ms(now)
        self._touch(job)
        self._just_ended.append(job)
        for child in job.children:
            self._end(child, status, reason, now)

    def _set_status(self, job: Job, status: Status) -> None:
        if job.parent is not None:
            job.parent.summary[job.status] -= 1
            job.parent.summary[status] += 1
        else:
            # A child's states before its first attempt follow from the other jobs, and need no storage. An array has
            # up to 10,000 children.
            self._touch(job)
        job.status = status


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
