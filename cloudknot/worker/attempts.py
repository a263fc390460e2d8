"""Attempts of one child: how many of the user's own are used up, and whether Batch is asked for another.

Batch counts all attempts together, the ones that a lost host or a failed pull ended too. So the job definition gives
every job the most that Batch takes, and the worker keeps count: an attempt that the function failed leaves an object
in S3 and ends with `TRY_AGAIN`, the one exit code that Batch's rules follow with another attempt. One that could not
reach S3 ends with the same and leaves nothing.

As long as another may follow, the function runs in a process of its own, so that its death (out of memory, a crash in
compiled code) is seen and counted. In the last attempt it does not, and Batch sees how it ends.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping

from . import plain, s3
from .buffers import Unreadable
from .persistence import trouble_of
from .protocol import TRY_AGAIN, RunKeys, attempt_number

MOST = 10
"""Attempts that Batch gives a job at most (Batch API reference, RetryStrategy)."""


class Attempts:
    """The attempts of the Batch job that this process is in.

    Parameters
    ----------
    keys : RunKeys
    allowed : int
        How often the user's function may be tried.
    environment : mapping
        With the variables that Batch sets.
    """

    def __init__(self, keys: RunKeys, allowed: int, environment: Mapping[str, str]) -> None:
        self.number = attempt_number(environment) or 1
        self._keys = keys
        job_id = environment.get("AWS_BATCH_JOB_ID", "")
        self._folder = f"{keys.prefix}/failures/{job_id.replace(':', '-')}/"
        failed = self._failed() if allowed > 1 and self.number > 1 else 0
        self.last = failed + 1 >= allowed or self.number >= MOST
        """Whether no attempt of the user's own follows this one."""

    def _failed(self) -> int:
        """How many attempts the function has failed. What ended otherwise has left nothing."""
        return len(s3.keys(self._keys.bucket, self._folder, self._folder, f"{self._folder}~"))

    def run(self, work: Callable[[], int]) -> int:
        """Run ``work``, which returns an exit code, and return the one that this process ends with.

        Where another attempt may follow, ``work`` runs in a child process, in which this method returns as well.
        """
        if self.last:
            return work()
        plain.close()
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        return self._watch(child) if child else work()

    def _watch(self, child: int) -> int:
        stopped = False

        def stop(number: int, frame: object) -> None:
            nonlocal stopped
            stopped = True
            os.kill(child, number)

        signal.signal(signal.SIGTERM, stop)
        _, status = os.waitpid(child, 0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        code = os.waitstatus_to_exitcode(status)
        if code == 0 or stopped:
            return code if code >= 0 else 128 - code
        if code < 0:
            print(f"The function's process was ended by signal {-code}.", file=sys.stderr)
        if code != TRY_AGAIN:
            s3.write(self._keys.bucket, f"{self._folder}{self.number}", b"")
        return TRY_AGAIN


def again_if_unreachable(work: Callable[[], int]) -> int:
    """What ``work`` returns, or `TRY_AGAIN` where S3 has not answered for as long as a request is repeated."""
    try:
        return work()
    except (Exception, Unreadable) as error:
        if trouble_of(error.__cause__ or error if isinstance(error, Unreadable) else error) is None:
            raise
        print(f"S3 could not be reached, so Batch is asked for another attempt: {error!r}", file=sys.stderr)
        return TRY_AGAIN
