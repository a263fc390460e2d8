"""The start order of runnable jobs, and the time limits for jobs that cannot start. No I/O.

Within a queue, jobs start first in, first out. Queues with a higher priority go first.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from cloudknot.local.batch.records import TOO_MANY_VCPUS, Job, Queue, Status, TimeLimit


class Scheduler:
    """The runnable jobs and the vCPUs in use.

    Parameters
    ----------
    vcpus : float
        The vCPUs of the machine. A job that needs more runs alone, if its compute environment's maximum permits it.
    """

    def __init__(self, vcpus: float) -> None:
        self.vcpus = vcpus
        self._used = 0.0
        self._active = 0
        self._used_by_environment: defaultdict[str, float] = defaultdict(float)
        self._queues: dict[str, Queue] = {}
        self._ready: dict[str, list[tuple[int, Job]]] = {}

    def add(self, job: Job) -> str | None:
        """Add a runnable job to its queue. For a job that can never start, return the statusReason instead."""
        queue = job.spec.queue
        if job.spec.vcpus > queue.max_vcpus:
            return TOO_MANY_VCPUS
        self._queues[queue.arn] = queue
        heapq.heappush(self._ready.setdefault(queue.arn, []), (job.order, job))
        return None

    def take(self) -> Iterator[Job]:
        """Yield the jobs that can start now. Each one's vCPUs are reserved before it is yielded."""
        for arn in sorted(self._ready, key=lambda arn: -self._queues[arn].priority):
            ready = self._ready[arn]
            while ready:
                job = ready[0][1]
                # Cancelled jobs are dropped here, because a heap has no cheap removal.
                if job.status is not Status.RUNNABLE:
                    heapq.heappop(ready)
                # First in, first out: a smaller job does not overtake the head, even if it would fit.
                elif self._machine_is_full_for(job):
                    return
                # Only this queue has to wait: another one may have a compute environment with free vCPUs.
                elif self._environment_is_full_for(job):
                    break
                else:
                    heapq.heappop(ready)
                    self._reserve(job, 1)
                    yield job
            if not ready:
                del self._ready[arn]

    def reserve(self, job: Job) -> None:
        """Reserve the vCPUs of a job that holds them already."""
        self._reserve(job, 1)

    def release(self, job: Job) -> None:
        """Free the vCPUs of a job after its attempt has ended."""
        self._reserve(job, -1)

    def _machine_is_full_for(self, job: Job) -> bool:
        # An idle machine takes any job. Otherwise a job with more vCPUs than the machine would never start.
        return self._active > 0 and self._used + job.spec.vcpus > self.vcpus

    def _environment_is_full_for(self, job: Job) -> bool:
        queue = job.spec.queue
        return self._used_by_environment[queue.environment] + job.spec.vcpus > queue.max_vcpus

    def _reserve(self, job: Job, sign: int) -> None:
        amount = sign * job.spec.vcpus
        self._used += amount
        self._active += sign
        self._used_by_environment[job.spec.queue.environment] += amount


CANCELED = "Canceled by JobStateTimeLimit action due to reason: {reason}"
"""The statusReason of a job that a time limit cancelled (AWS Batch user guide, "Jobs stuck in a RUNNABLE status")."""


@dataclass
class _StuckJobs:
    """The stuck jobs of one queue. ``since`` is the time when the first of them became the head."""

    jobs: deque[Job] = field(default_factory=deque)
    head: Job | None = None
    since: float = 0.0


class TimeLimits:
    """The stuck jobs of all queues."""

    def __init__(self) -> None:
        self._queues: dict[str, _StuckJobs] = {}

    def add(self, job: Job) -> None:
        """Watch a RUNNABLE job that can never start, if its queue has a limit for that reason."""
        if _limit(job) is not None:
            self._queues.setdefault(job.spec.queue.arn, _StuckJobs()).jobs.append(job)

    def due(self, now: float) -> Iterator[tuple[Job, str]]:
        """Yield each job to cancel now, with its statusReason. The caller cancels it before the next iteration."""
        for arn, stuck in list(self._queues.items()):
            while limit := self._limit_reached(stuck, now):
                yield stuck.jobs[0], CANCELED.format(reason=limit.reason)
            if not stuck.jobs:
                del self._queues[arn]

    def _limit_reached(self, stuck: _StuckJobs, now: float) -> TimeLimit | None:
        while stuck.jobs and stuck.jobs[0].status is not Status.RUNNABLE:
            stuck.jobs.popleft()
        if not stuck.jobs:
            return None
        # Only the head of a queue counts down. The next job's time begins when the head has left
        # (AWS Batch API reference, "JobStateTimeLimitAction").
        if stuck.head is not stuck.jobs[0]:
            stuck.head, stuck.since = stuck.jobs[0], now
        limit = _limit(stuck.head)
        return limit if limit is not None and stuck.since + limit.seconds <= now else None

    def next(self) -> float | None:
        """Return the time of the next cancellation, or None if no queue has a stuck head."""
        times = [
            stuck.since + limit.seconds
            for stuck in self._queues.values()
            if stuck.head and (limit := _limit(stuck.head))
        ]
        return min(times, default=None)


def _limit(job: Job) -> TimeLimit | None:
    # A statusReason is the reason code of a limit with an explanation after it.
    reason = job.reason or ""
    return next((limit for limit in job.spec.queue.time_limits if reason.startswith(limit.reason)), None)
