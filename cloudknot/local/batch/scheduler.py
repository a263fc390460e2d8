"""The jobs that wait for vCPUs: which one starts next, and which head of a queue has been stuck for too long. Pure.

Jobs start first in, first out within a queue, queues by priority, bounded by vCPUs. Of jobs that never start, only the
first of a queue is its head; the time of the next one begins when that is gone (AWS Batch API reference,
JobStateTimeLimitAction).
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from cloudknot.local.batch.records import TOO_MANY_VCPUS, Job, Queue, Status, TimeLimit


class Scheduler:
    """The runnable jobs, and the vCPUs in use.

    Parameters
    ----------
    vcpus : float
        How many vCPUs the machine gives. A job that wants more, but no more than its compute environment's maximum,
        runs alone.
    """

    def __init__(self, vcpus: float) -> None:
        self.vcpus = vcpus
        self._used = 0.0
        self._active = 0
        self._used_by_environment: defaultdict[str, float] = defaultdict(float)
        self._queues: dict[str, Queue] = {}
        self._ready: dict[str, list[tuple[int, Job]]] = {}

    def add(self, job: Job) -> str | None:
        """Queue a runnable job, or return the statusReason for which it never starts."""
        queue = job.spec.queue
        if job.spec.vcpus > queue.max_vcpus:
            return TOO_MANY_VCPUS
        self._queues[queue.arn] = queue
        heapq.heappush(self._ready.setdefault(queue.arn, []), (job.order, job))
        return None

    def take(self) -> Iterator[Job]:
        """The jobs that start now, their vCPUs reserved one by one."""
        for arn in sorted(self._ready, key=lambda arn: -self._queues[arn].priority):
            ready = self._ready[arn]
            while ready:
                job = ready[0][1]
                if job.status is not Status.RUNNABLE:
                    heapq.heappop(ready)
                elif self._machine_is_full_for(job):
                    return
                elif self._environment_is_full_for(job):
                    break
                else:
                    heapq.heappop(ready)
                    self._reserve(job, 1)
                    yield job
            if not ready:
                del self._ready[arn]

    def release(self, job: Job) -> None:
        """Give back the vCPUs of a job whose attempt ended."""
        self._reserve(job, -1)

    def _machine_is_full_for(self, job: Job) -> bool:
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
"""The statusReason of a job that was cancelled so (AWS Batch user guide, "Jobs stuck in a RUNNABLE status")."""


@dataclass
class _Line:
    """The stuck jobs of one queue, and since when the first one is its head."""

    jobs: deque[Job] = field(default_factory=deque)
    head: Job | None = None
    since: float = 0.0


class TimeLimits:
    """The stuck jobs of all queues."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    def add(self, job: Job) -> None:
        """Watch a job in RUNNABLE that has a reason never to start, if its queue has a limit for that reason."""
        if _limit(job) is not None:
            self._lines.setdefault(job.spec.queue.arn, _Line()).jobs.append(job)

    def due(self, now: float) -> Iterator[tuple[Job, str]]:
        """The jobs to be cancelled now, each before the next one is asked for, and the statusReason of each."""
        for arn, line in list(self._lines.items()):
            while limit := self._limit_reached(line, now):
                yield line.jobs[0], CANCELED.format(reason=limit.reason)
            if not line.jobs:
                del self._lines[arn]

    def _limit_reached(self, line: _Line, now: float) -> TimeLimit | None:
        while line.jobs and line.jobs[0].status is not Status.RUNNABLE:
            line.jobs.popleft()
        if not line.jobs:
            return None
        if line.head is not line.jobs[0]:
            line.head, line.since = line.jobs[0], now
        limit = _limit(line.head)
        return limit if limit is not None and line.since + limit.seconds <= now else None

    def next(self) -> float | None:
        """When the next one is due, as far as is known."""
        times = [
            line.since + limit.seconds for line in self._lines.values() if line.head and (limit := _limit(line.head))
        ]
        return min(times, default=None)


def _limit(job: Job) -> TimeLimit | None:
    reason = job.reason or ""
    return next((limit for limit in job.spec.queue.time_limits if reason.startswith(limit.reason)), None)
