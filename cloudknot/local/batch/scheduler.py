"""Which runnable job starts next: first in, first out within a queue, queues by priority, bounded by vCPUs. Pure."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator

from cloudknot.local.batch.records import TOO_MANY_VCPUS, Job, Queue, Status


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
