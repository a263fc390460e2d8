"""What AWS Batch does with jobs, as a state machine without I/O: requests and events in, actions out.

The clock, the ids and the machine's size are given. Each method takes the time and returns what is to be done now;
`Engine.next_deadline` tells when `Engine.tick` has something to do. Nothing here is thread-safe: `job_api` holds
a lock around it.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from cloudknot.local.batch import records
from cloudknot.local.batch.attempts import retries, task_of
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
)
from cloudknot.local.batch.scheduler import Scheduler, TimeLimits

STOP_GRACE = 30.0
"""Seconds between SIGTERM and SIGKILL (ECS, ``ECS_CONTAINER_STOP_TIMEOUT``)."""
RETENTION = 24 * 3600.0
"""Seconds for which an ended job can still be described."""


@dataclass(frozen=True, order=True)
class _Deadline:
    at: float
    task_id: str
    kill: bool


class Engine:
    """All jobs of one cloud.

    Parameters
    ----------
    vcpus : float
        How many vCPUs jobs may hold at a time. A job that wants more runs alone.
    new_id : callable
        Makes job ids and log stream ids.
    """

    def __init__(self, vcpus: float, new_id: Callable[[], str]) -> None:
        self.jobs: dict[str, Job] = {}
        self._new_id = new_id
        self._order = itertools.count()
        self._scheduler = Scheduler(vcpus)
        self._limits = TimeLimits()
        self._running: dict[str, Job] = {}
        self._deadlines: list[_Deadline] = []
        self._ended: deque[Job] = deque()
        self._history: deque[Job] = deque()
        self._actions: list[Action] = []

    def top_level(self) -> Iterator[Job]:
        """Jobs and array parents, the oldest first."""
        return (job for job in self.jobs.values() if job.parent is None)

    @property
    def live(self) -> bool:
        """Whether any job has not ended."""
        return any(not job.status.ended for job in self.top_level())

    def submit(self, spec: JobSpec, now: float) -> tuple[Job, list[Action]]:
        """Accept a job. The jobs that it depends on must exist."""
        self._forget(now)
        job = self._add(Job(self._new_id(), spec, next(self._order), _ms(now)))
        for index in range(spec.array_size or 0):
            child = Job(f"{job.id}:{index}", spec, next(self._order), job.created, parent=job, index=index)
            job.children.append(self._add(child))
        job.summary[Status.SUBMITTED] = len(job.children)
        if spec.refused:
            self._end(job, Status.FAILED, spec.refused, now)
        else:
            self._connect(job, now)
            self._release(job)
        return job, self._settle(now)

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take in what a runner reports. What is unknown or too late is ignored."""
        job = self._running.get(event.task_id)
        if job is not None and isinstance(event, Started):
            self._on_started(job, now)
        elif job is not None and isinstance(event, Exited):
            self._on_exited(job, event, now)
        return self._settle(now)

    def cancel(self, job: Job, reason: str, now: float) -> list[Action]:
        """CancelJob: ends what has not reached STARTING, children of a parent included."""
        job.cancelled = True
        self._cancel_waiting(job, reason, now)
        return self._settle(now)

    def terminate(self, job: Job, reason: str, now: float) -> list[Action]:
        """TerminateJob: `cancel`, and stops what runs."""
        job.terminated = True
        for each in job.children or [job]:
            if each.status.active:
                each.terminated = True
                self._stop(each, reason, now)
        self._cancel_waiting(job, reason, now)
        return self._settle(now)

    def tick(self, now: float) -> list[Action]:
        """Do what was due by now: attempt timeouts, SIGKILL for what outlived its SIGTERM, ends of what is stuck."""
        while self._deadlines and self._deadlines[0].at <= now:
            deadline = heapq.heappop(self._deadlines)
            job = self._running.get(deadline.task_id)
            if job is None:
                continue
            if deadline.kill:
                self._actions.append(Stop(deadline.task_id, kill=True))
            else:
                self._stop(job, records.TIMED_OUT, now)
        return self._settle(now)

    def next_deadline(self) -> float | None:
        """When `tick` is due; None when nothing is pending."""
        while self._deadlines and self._deadlines[0].task_id not in self._running:
            heapq.heappop(self._deadlines)
        times = [self._deadlines[0].at if self._deadlines else None, self._limits.next()]
        return min((at for at in times if at is not None), default=None)

    def _add(self, job: Job) -> Job:
        self.jobs[job.id] = job
        return job

    def _forget(self, now: float) -> None:
        while self._history and (self._history[0].stopped or 0) < _ms(now - RETENTION):
            self.forget(self._history.popleft())

    def forget(self, job: Job) -> None:
        """Know a job, and its children, no more."""
        for each in (job, *job.children):
            self.jobs.pop(each.id, None)

    def _connect(self, job: Job, now: float) -> None:
        """Make the job, or its children one by one, wait for what it depends on."""
        for dependency in job.spec.depends_on:
            for needed, dependent in self._pairs(job, dependency):
                if needed.status == Status.FAILED:
                    self._end(dependent, Status.FAILED, records.DEPENDENCY_FAILED, now)
                elif needed.status != Status.SUCCEEDED:
                    needed.dependents.append(dependent)
                    dependent.waiting_for += 1

    def _pairs(self, job: Job, dependency: Dependency) -> Iterable[tuple[Job, Job]]:
        if dependency.type == "SEQUENTIAL":
            return itertools.pairwise(job.children)
        needed = self.jobs[dependency.job_id or ""]
        if dependency.type == "N_TO_N":
            return zip(needed.children, job.children, strict=True)
        return [(needed, job)]

    def _release(self, job: Job) -> None:
        """Move a job on as far as its dependencies let it; children also wait for their parent's."""
        if job.status not in (Status.SUBMITTED, Status.PENDING):
            return
        if job.children or job.waiting_for or (job.parent is not None and job.parent.waiting_for):
            self._set_status(job, Status.PENDING)
        else:
            self._make_runnable(job)
        for child in job.children:
            self._release(child)

    def _make_runnable(self, job: Job) -> None:
        self._set_status(job, Status.RUNNABLE)
        job.reason = self._scheduler.add(job)
        if job.reason:
            self._limits.add(job)

    def _settle(self, now: float) -> list[Action]:
        """Follow up on every job that ended, start what now fits, and hand over the actions."""
        self._follow_ups(now)
        for stuck, reason in self._limits.due(now):
            self._cancel_waiting(stuck, reason, now)
            self._follow_ups(now)
        for job in self._scheduler.take():
            self._start(job)
        actions, self._actions = self._actions, []
        return actions

    def _start(self, job: Job) -> None:
        task = task_of(job, self._new_id())
        job.attempts.append(Attempt(task.id, task.log_stream))
        self._set_status(job, Status.STARTING)
        self._running[task.id] = job
        self._actions.append(Start(task))

    def _on_started(self, job: Job, now: float) -> None:
        self._set_status(job, Status.RUNNING)
        attempt = job.attempts[-1]
        attempt.started = job.started = _ms(now)
        if job.spec.timeout is not None:
            heapq.heappush(self._deadlines, _Deadline(now + job.spec.timeout, attempt.task_id, kill=False))

    def _on_exited(self, job: Job, event: Exited, now: float) -> None:
        attempt = job.attempts[-1]
        attempt.stopped, attempt.exit_code = _ms(now), event.exit_code
        attempt.reason, attempt.status_reason = event.reason, job.ending or event.status_reason
        del self._running[attempt.task_id]
        self._scheduler.release(job)
        if job.ending is None and event.exit_code == 0:
            self._end(job, Status.SUCCEEDED, event.status_reason, now)
        elif job.ending is None and retries(job.spec.retry, len(job.attempts), attempt):
            self._make_runnable(job)
        else:
            self._end(job, Status.FAILED, attempt.status_reason, now)

    def _stop(self, job: Job, reason: str, now: float) -> None:
        """Have the running attempt stopped, for good. The first reason stays."""
        if job.ending is None:
            job.ending = reason
            task_id = job.attempts[-1].task_id
            self._actions.append(Stop(task_id, kill=False))
            heapq.heappush(self._deadlines, _Deadline(now + STOP_GRACE, task_id, kill=True))

    def _cancel_waiting(self, job: Job, reason: str, now: float) -> None:
        if job.children:
            job.ending = job.ending or reason
        for each in job.children or [job]:
            if not each.status.active and not each.status.ended:
                each.cancelled = True
                self._end(each, Status.FAILED, reason, now)

    def _follow_ups(self, now: float) -> None:
        while self._ended:
            self._follow_up(self._ended.popleft(), now)

    def _follow_up(self, job: Job, now: float) -> None:
        """Tell those that waited for a job that it ended."""
        if job.parent is None:
            self._history.append(job)
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
            self._end(parent, Status.FAILED, parent.ending or records.CHILD_FAILED, now)
        else:
            self._end(parent, Status.SUCCEEDED, None, now)

    def _dependency_ended(self, job: Job, status: Status, now: float) -> None:
        if status == Status.FAILED:
            self._end(job, Status.FAILED, records.DEPENDENCY_FAILED, now)
            return
        job.waiting_for -= 1
        if not job.waiting_for:
            self._release(job)

    def _end(self, job: Job, status: Status, reason: str | None, now: float) -> None:
        """Put a job, and what has not ended of a parent's children, into its last state."""
        if job.status.ended:
            return
        self._set_status(job, status)
        job.reason, job.stopped = reason, _ms(now)
        self._ended.append(job)
        for child in job.children:
            self._end(child, status, reason, now)

    def _set_status(self, job: Job, status: Status) -> None:
        if job.parent is not None:
            job.parent.summary[job.status] -= 1
            job.parent.summary[status] += 1
        job.status = status


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
