"""Glance: the states of jobs for a repr, by at most one request that waits at most a second.

A debugger shows the repr of each variable at each step, with locks held and other threads stopped. So a glance never
raises, waits for a bounded time, and remembers its answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from cloudknot.aws import batch

if TYPE_CHECKING:
    from cloudknot.aws import Cloud

WAIT = 1.0
"""Seconds that a repr waits for the answer."""
FRESH = 2.0
"""Seconds for which an answer counts."""
SILENCE = 60.0
"""Seconds for which a cloud that did not answer in time is not asked again."""


class Glance:
    """The last answer of Batch on some jobs.

    Attributes
    ----------
    jobs : dict
        The descriptions of jobs by their ids. Empty before the first answer.
    """

    def __init__(self) -> None:
        self.jobs: Mapping[str, batch.Job] = {}
        self._next = 0.0

    def look(self, cloud: Cloud, job_ids: Sequence[str]) -> Mapping[str, batch.Job]:
        """Return the descriptions of up to a hundred jobs, as new as a short wait allows."""
        # An embedded cloud without patience does not run, and the request would start it.
        if job_ids and time.monotonic() >= self._next and cloud.patience:
            self._next = time.monotonic() + SILENCE
            # A thread, because no timeout of a client covers the search for a host name and the retries.
            thread = threading.Thread(target=self._ask, args=(cloud, job_ids[: batch.DESCRIBE_LIMIT]), daemon=True)
            with suppress(RuntimeError):
                # Near the end of the interpreter no thread can start.
                thread.start()
                thread.join(WAIT)
        return self.jobs

    def _ask(self, cloud: Cloud, job_ids: Sequence[str]) -> None:
        with suppress(Exception):
            self.jobs = {job["jobId"]: job for job in batch.describe_jobs(cloud.door, job_ids)}
            self._next = time.monotonic() + FRESH
