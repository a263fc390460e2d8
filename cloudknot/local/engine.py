"""What AWS Batch does with jobs, as a state machine without I/O: requests and events in, actions out.

The clock, the ids and the machine's size are given. Each method takes the time and returns what is to be done now;
`Engine.next_deadline` tells when `Engine.tick` has something to do. Nothing here is thread-safe: `batch` holds a
lock around it.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cloudknot.local import records
from cloudknot.local.records import Action, Attempt, Event, Exited, Job, JobSpec, Start, Started, Status, Stop, Task
from cloudknot.local.retry import retries
from cloudknot.local.scheduler import Scheduler

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
        """Do what was due by now: attempt timeouts, and SIGKILL for what outlived its SIGTERM."""
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
        return self._deadlines[0].at if self._deadlines else None

    def _add(self, job: Job) -> Job:
        self.jobs[job.id] = job
        return job

    def _forget(self, now: float) -> None:
        while self._history and (self._history[0].stopped or 0) < _ms(now - RETENTION):
            job = self._history.popleft()
            for each in (job, *job.children):
                del self.jobs[each.id]

    def _connect(self, job: Job, now: float) -> None:
        """Make the job, or its children one by one, wait for what it depends on."""
        for dependency in job.spec.depends_on:
            if dependency.type == "SEQUENTIAL":
                pairs = list(itertools.pairwise(job.children))
            elif dependency.type == "N_TO_N":
                pairs = list(zip(self.jobs[dependency.job_id or ""].children, job.children, strict=True))
            else:
                pairs = [(self.jobs[dependency.job_id or ""], job)]
            for needed, dependent in pairs:
                self._wait(needed, dependent, now)
        if job.waiting_for and not job.status.ended:
            for child in job.children:
                self._wait(job, child, now)

    def _wait(self, needed: Job, dependent: Job, now: float) -> None:
        if needed.status == Status.FAILED:
            self._end(dependent, Status.FAILED, records.DEPENDENCY_FAILED, now)
        elif needed.status != Status.SUCCEEDED:
            needed.dependents.append(dependent)
            dependent.waiting_for += 1

    def _release(self, job: Job) -> None:
        """Move a job on as far as its dependencies let it."""
        if job.status.ended:
            return
        if job.children:
            self._set_status(job, Status.PENDING)
            for child in job.children:
                self._release(child)
        elif job.waiting_for:
            self._set_status(job, Status.PENDING)
        else:
            self._set_status(job, Status.RUNNABLE)
            job.reason = self._scheduler.add(job)

    def _settle(self, now: float) -> list[Action]:
        """Follow up on every job that ended, start what now fits, and hand over the actions."""
        while self._ended:
            self._follow_up(self._ended.popleft(), now)
        for job in self._scheduler.take():
            self._start(job, now)
        actions, self._actions = self._actions, []
        return actions

    def _follow_up(self, job: Job, now: float) -> None:
        parent = job.parent
        if parent is None:
            self._history.append(job)
        elif not parent.status.ended and parent.summary[Status.SUCCEEDED] + parent.summary[Status.FAILED] == len(
            parent.children
        ):
            failed = parent.summary[Status.FAILED] > 0
            reason = parent.ending or records.CHILD_FAILED
            self._end(parent, Status.FAILED if failed else Status.SUCCEEDED, reason if failed else None, now)
        for dependent in job.dependents:
            self._dependency_ended(dependent, job, now)
        job.dependents.clear()

    def _dependency_ended(self, job: Job, needed: Job, now: float) -> None:
        if job.status.ended:
            return
        if needed.status == Status.FAILED:
            self._end(job, Status.FAILED, records.DEPENDENCY_FAILED, now)
            return
        job.waiting_for -= 1
        if not job.waiting_for:
            gated = [child for child in job.children if child in job.dependents]
            job.dependents = [each for each in job.dependents if each.parent is not job]
            for child in gated:
                child.waiting_for -= 1
            self._release(job)

    def _end(self, job: Job, status: Status, reason: str | None, now: float) -> None:
        """Put a job, and the children of a parent with it, into its last state."""
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
