"""Exceptions and crashes use up the user's retries, and lost hosts do not, although Batch counts both as attempts."""

import os
import signal
import time

import pytest

from cloudknot.worker.wire.container import KILLED, TRY_AGAIN
from tests.faulty_cloud.plan import Faults, Kill
from tests.helpers.waiting import LONG, until


def attempt_number():
    return int(os.environ["AWS_BATCH_JOB_ATTEMPT"])


def always_raises(x):
    raise RuntimeError(f"attempt {attempt_number()}")


def raises_at_first(x):
    """Raise in attempt 1 + x: the first attempt that runs to its end. The x attempts before it wait for their loss."""
    if attempt_number() <= x:
        time.sleep(LONG)
    if attempt_number() == 1 + x:
        raise RuntimeError(f"attempt {attempt_number()}")
    return attempt_number()


def dies(x):
    os.kill(os.getpid(), signal.SIGKILL)


def dies_at_first(x):
    if attempt_number() == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    return attempt_number()


def exit_codes(future, count):
    """Wait for ``count`` attempts, and return the exit codes of all."""
    until(lambda: len(future.job.attempts) >= count)
    return [attempt["container"].get("exitCode") for attempt in future.job.attempts]


def count_failure_marks(future):
    """Count the marks that workers store for failed attempts of the function."""
    return len(list(future.job._cloud.storage.keys(f"{future.job.keys.prefix}/failures/")))


def test_exception_ends_job_without_retries(knot_of):
    future = knot_of(always_raises).map([1])
    with pytest.raises(RuntimeError, match="attempt 1"):
        future.result(LONG)
    assert exit_codes(future, 1) == [1]
    assert count_failure_marks(future) == 0


@pytest.mark.parametrize("retries", [2, 4])
def test_exception_uses_up_all_retries(knot_of, retries):
    future = knot_of(always_raises).map([1], retries=retries)
    with pytest.raises(RuntimeError, match=f"attempt {retries}"):
        future.result(LONG)
    assert exit_codes(future, retries) == [TRY_AGAIN] * (retries - 1) + [1]
    assert count_failure_marks(future) == retries - 1


@pytest.mark.parametrize("how", ["host", "spot", "pull"])
def test_attempts_lost_by_aws_use_up_no_retries(knot_of, switches, how):
    """AWS takes three attempts. The first of the user's two raises, and the second returns."""
    with switches.on(Faults(kills=(Kill(how, attempts=3, after=0.1),))):
        future = knot_of(raises_at_first).map([3], retries=2)
        assert future.result(LONG) == [5]
        assert len(until(lambda: len(future.job.attempts) == 5 and future.job.attempts)) == 5
    assert count_failure_marks(future) == 1


def test_exception_after_lost_host_ends_job_without_retries(knot_of, switches):
    with switches.on(Faults(kills=(Kill("host", attempts=1, after=0.1),))):
        future = knot_of(raises_at_first).map([1])
        with pytest.raises(RuntimeError, match="attempt 2"):
            future.result(LONG)


def test_killed_process_uses_up_retries(knot_of):
    future = knot_of(dies).map([1], retries=3)
    error = future.exception(LONG)
    assert error.exit_code == 137
    assert exit_codes(future, 3) == [TRY_AGAIN, TRY_AGAIN, KILLED]


def test_crashed_process_is_repeated_with_retries(knot_of):
    future = knot_of(dies_at_first).map([1, 2], retries=2)
    assert future.result(LONG) == [2, 2]
    until(lambda: any("Signal 11 (" in line for line in future.job.logs(0)))


def test_terminated_job_starts_no_further_attempt(knot_of):
    future = knot_of(time.sleep).map([600], retries=3)
    until(lambda: future.job.status == "RUNNING")
    future.job.terminate("enough")
    assert future.exception(LONG) is not None
    until(lambda: future.job.status == "FAILED")
    assert len(future.job.attempts) == 1
    assert count_failure_marks(future) == 0
