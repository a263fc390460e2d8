"""Count the attempts of one child, and ask Batch for another one if the user allowed it.

An attempt in which the function failed leaves an empty object in S3 and exits with `TRY_AGAIN`. Batch's rules answer
this code with another attempt. An attempt that could not reach S3 exits with the same code and leaves no object.

SIGKILL may end this process itself, which then leaves no object. With several attempts, Batch answers its exit code
137 with another attempt, too. So no attempt in which only the function was killed may end with 137.
"""

# Batch counts all attempts together, including those that a lost host or a failed pull of the image ended, and its
# rules cannot count. So every job definition allows the maximum of attempts, and the worker counts.

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping

from .stored_run import StoredRun
from .wire.buffers import Unreachable
from .wire.container import KILLED, TRY_AGAIN, attempt_number

MAX_ATTEMPTS = 10
"""Attempts that Batch gives a job at most (Batch API reference, RetryStrategy)."""


class Attempts:
    """The attempts of the Batch job of this process.

    Parameters
    ----------
    run : StoredRun
        Its manifest contains the number of attempts that the user allows.
    environment : mapping
        The environment variables, with those that Batch sets.
    """

    def __init__(self, run: StoredRun, environment: Mapping[str, str]) -> None:
        self.number = attempt_number(environment) or 1
        self._run = run
        job_id = environment.get("AWS_BATCH_JOB_ID", "")
        self._folder = f"{run.keys.prefix}/failures/{job_id.replace(':', '-')}/"
        self._allowed = allowed = run.manifest.attempts
        # The first attempt, and a run with retries=1, list nothing: this saves a request for each child.
        failed = self._count_failed() if allowed > 1 and self.number > 1 else 0
        self.last = failed + 1 >= allowed or self.number >= MAX_ATTEMPTS
        """Whether no attempt follows this one if the function fails."""

    def _count_failed(self) -> int:
        """Return the number of earlier attempts in which the function failed. Other attempts left no object."""
        return len(self._run.s3.keys(self._run.keys.bucket, self._folder, self._folder, f"{self._folder}~"))

    def run(self, work: Callable[[], int]) -> int:
        """Call ``work``, and return the exit code for this process.

        ``work`` returns an exit code too. If the user allows several attempts, ``work`` runs in a forked process, and
        this method returns in both processes.
        """
        # A single attempt needs no fork, and so Batch sees the true exit code and reason.
        if self._allowed == 1:
            return work()
        # The process may die (out of memory, a crash in compiled code) and then cannot leave a mark itself. So the
        # function runs in a fork, and this process counts the failure. Otherwise Batch could retry a crash only never,
        # or up to ten times. The fork must not share open connections, nor print buffered output again.
        self._run.s3.plain.close()
        sys.stdout.flush()
        sys.stderr.flush()
        read_end, write_end = os.pipe()
        forked_pid = os.fork()
        if forked_pid:
            return self._watch(forked_pid, read_end)
        try:
            return work()
        except Unreachable:
            # The exit code is not enough, because the user's function may exit with the same one.
            os.write(write_end, b"!")
            raise

    def _watch(self, forked_pid: int, pipe: int) -> int:
        """Wait for the forked process, and return the exit code for this one.

        Data in the pipe means that the forked process could not reach S3.
        """
        stopped = False

        def stop(number: int, frame: object) -> None:
            nonlocal stopped
            stopped = True
            os.kill(forked_pid, number)

        signal.signal(signal.SIGTERM, stop)
        _, status = os.waitpid(forked_pid, 0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        code = os.waitstatus_to_exitcode(status)
        if code == 0 or stopped:
            # 128 plus the number is a shell's exit code for a process that a signal ended.
            return code if code >= 0 else 128 - code
        if code < 0:
            print(f"Signal {-code} ({signal.strsignal(-code)}) ended the function's process.", file=sys.stderr)
        if _has_data(pipe):
            return TRY_AGAIN
        if self.last:
            return _last_code(code)
        self._run.write(f"{self._folder}{self.number}", b"")
        return TRY_AGAIN


def _last_code(code: int) -> int:
    """Return the exit code of the last attempt, for that of the function's process. Neither starts another attempt."""
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return KILLED
    # The function may exit with this code itself.
    return code if 0 <= code != TRY_AGAIN else 128 - code if code < 0 else 1


def _has_data(pipe: int) -> bool:
    """Return whether a pipe contains data."""
    # Non-blocking, because a process that the function started may still hold the pipe open.
    os.set_blocking(pipe, False)
    try:
        return bool(os.read(pipe, 1))
    except BlockingIOError:
        return False
