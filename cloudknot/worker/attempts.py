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

from .stored_run import StoredRun
from .wire.buffers import Unreachable
from .wire.container import TRY_AGAIN, attempt_number

MOST = 10
"""Attempts that Batch gives a job at most (Batch API reference, RetryStrategy)."""


class Attempts:
    """The attempts of the Batch job that this process is in.

    Parameters
    ----------
    run : StoredRun
        Its manifest says how often the user's function may be tried.
    environment : mapping
        With the variables that Batch sets.
    """

    def __init__(self, run: StoredRun, environment: Mapping[str, str]) -> None:
        self.number = attempt_number(environment) or 1
        self._run = run
        job_id = environment.get("AWS_BATCH_JOB_ID", "")
        self._folder = f"{run.keys.prefix}/failures/{job_id.replace(':', '-')}/"
        allowed = run.manifest.attempts
        failed = self._failed() if allowed > 1 and self.number > 1 else 0
        self.last = failed + 1 >= allowed or self.number >= MOST
        """Whether no attempt of the user's own follows this one."""

    def _failed(self) -> int:
        """How many attempts the function has failed. What ended otherwise has left nothing."""
        return len(self._run.s3.keys(self._run.keys.bucket, self._folder, self._folder, f"{self._folder}~"))

    def run(self, work: Callable[[], int]) -> int:
        """Run ``work``, which returns an exit code, and return the one that this process ends with.

        Where another attempt may follow, ``work`` runs in a child process, in which this method returns as well.
        """
        if self.last:
            return work()
        # The fork would have them, too.
        self._run.s3.plain.close()
        sys.stdout.flush()
        sys.stderr.flush()
        told, tell = os.pipe()
        child = os.fork()
        if child:
            return self._watch(child, told)
        try:
            return work()
        except Unreachable:
            # By an exit code alone, the function's own could be taken for it.
            os.write(tell, b"!")
            raise

    def _watch(self, child: int, told: int) -> int:
        """Wait for the child, which tells by a pipe that S3 was at fault."""
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
        if not _has_data(told):
            self._run.write(f"{self._folder}{self.number}", b"")
        return TRY_AGAIN


def _has_data(pipe: int) -> bool:
    """Whether something was written into a pipe, whoever else may still have it open."""
    os.set_blocking(pipe, False)
    try:
        return bool(os.read(pipe, 1))
    except BlockingIOError:
        return False
