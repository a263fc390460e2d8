"""Which job at the head of a queue has been stuck for too long: Batch's jobStateTimeLimitActions. Pure.

Of jobs that never start, only the first of a queue is its head; the time of the next one begins when that is gone (AWS
Batch API reference, JobStateTimeLimitAction).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from cloudknot.local.batch.records import Job, Status, TimeLimit

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
