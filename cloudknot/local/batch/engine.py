"""The job lifecycle of AWS Batch as a state machine: requests and events in, actions out.

It does no I/O. The caller passes the time, the source of ids and the size of the machine, and performs the returned
actions. The engine is not thread-safe: `job_api` holds a lock around every call.
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
)
from cloudknot.local.batch.scheduler import Scheduler, TimeLimits

STOP_GRACE = 30.0
"""Seconds between SIGTERM and SIGKILL (ECS, ``ECS_CONTAINER_STOP_TIMEOUT``)."""
RETENTION = 24 * 3600.0
"""Seconds until an ended job is forgotten. DescribeJobs and ListJobs show it until then."""


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
    """

    def __init__(self, vcpus: float, new_id: Callable[[], str]) -> None:
        self.jobs: dict[str, Job] = {}
        self._new_id = new_id
        self._order = itertools.count()
        self._scheduler = Scheduler(vcpus)
        self._limits = TimeLimits()
        self._running: dict[str, Job] = {}
        self._deadlines: list[_Deadline] = []
        # Ended jobs with parents and dependents that are not updated yet.
        self._just_ended: deque[Job] = deque()
        # Top-level jobs in the order of their ends, so that the oldest ones can be dropped from the left.
        self._history: deque[Job] = deque()
        self._actions: list[Action] = []

    def top_level(self) -> Iterator[Job]:
        """Yield single jobs and array parents, the oldest first."""
        return (job for job in self.jobs.values() if job.parent is None)

    @property
    def live(self) -> bool:
        """Whether any job has not ended."""
        return any(not job.status.ended for job in self.top_level())

    def submit(self, spec: JobSpec, now: float) -> tuple[Job, list[Action]]:
        """Add a job, and the children of an array. The jobs in its ``depends_on`` must exist."""
        self._forget_old_jobs(now)
        job = self._add(Job(self._new_id(), spec, next(self._order), _ms(now)))
        for index in range(spec.array_size or 0):
            child = Job(f"{job.id}:{index}", spec, next(self._order), job.created, parent=job, index=index)
            job.children.append(self._add(child))
        job.summary[Status.SUBMITTED] = len(job.children)
        if spec.immediate_failure:
            self._end(job, Status.FAILED, spec.immediate_failure, now)
        else:
            self._add_dependencies(job, now)
            self._release(job)
        return job, self._settle(now)

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
        # Running children continue: only TerminateJob stops them.
        self._cancel_waiting(job, reason, now)
        return self._settle(now)

    def terminate(self, job: Job, reason: str, now: float) -> list[Action]:
        """End waiting jobs as `cancel` does, and stop running ones (TerminateJob)."""
        job.terminated = True
        for target in job.children or [job]:
            if target.status.active:
                target.terminated = True
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

    def _add(self, job: Job) -> Job:
        self.jobs[job.id] = job
        return job

    def _forget_old_jobs(self, now: float) -> None:
        while self._history and (self._history[0].stopped or 0) < _ms(now - RETENTION):
            self.forget(self._history.popleft())

    def forget(self, job: Job) -> None:
        """Delete a job and its children from `jobs`."""
        for member in (job, *job.children):
            self.jobs.pop(member.id, None)

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
        needed = self.jobs[dependency.job_id or ""]
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
        self._set_status(job, Status.STARTING)
        self._running[task.id] = job
        self._actions.append(Start(task))

    def _on_started(self, job: Job, now: float) -> None:
        self._set_status(job, Status.RUNNING)
        attempt = job.attempts[-1]
        attempt.started = job.started = _ms(now)
        # The timeout applies to each attempt. The wait in the queue and the pull of the image do not count.
        if job.spec.timeout is not None:
            heapq.heappush(self._deadlines, _Deadline(now + job.spec.timeout, attempt.task_id, kill=False))

    def _on_exited(self, job: Job, event: Exited, now: float) -> None:
        attempt = job.attempts[-1]
        attempt.stopped, attempt.exit_code = _ms(now), event.exit_code
        attempt.reason, attempt.status_reason = event.reason, job.stop_reason or event.status_reason
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
            task_id = job.attempts[-1].task_id
            self._actions.append(Stop(task_id, kill=False))
            heapq.heappush(self._deadlines, _Deadline(now + STOP_GRACE, task_id, kill=True))

    def _cancel_waiting(self, job: Job, reason: str, now: float) -> None:
        # The array ends with its last running child, and then has this reason.
        if job.children:
            job.stop_reason = job.stop_reason or reason
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
        self._just_ended.append(job)
        for child in job.children:
            self._end(child, status, reason, now)

    def _set_status(self, job: Job, status: Status) -> None:
        if job.parent is not None:
            job.parent.summary[job.status] -= 1
            job.parent.summary[status] += 1
        job.status = status


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
