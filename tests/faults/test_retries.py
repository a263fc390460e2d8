"""What uses up the user's own attempts, and what does not: Batch counts all together, the worker tells them apart."""

import os
import signal
import time

import pytest

from cloudknot.local import Faults, Kill
from cloudknot.worker.wire.container import TRY_AGAIN
from tests.helpers.waiting import LONG, until


def number():
    return int(os.environ["AWS_BATCH_JOB_ATTEMPT"])


def always_raises(x):
    raise RuntimeError(f"attempt {number()}")


def raises_at_first(x, seconds):
    """Raises in its first attempt that is let run to its end, by what S3 cannot know of the others."""
    time.sleep(seconds)
    if number() == 1 + x:
        raise RuntimeError(f"attempt {number()}")
    return number()


def dies(x):
    os.kill(os.getpid(), signal.SIGKILL)


def dies_at_first(x):
    if number() == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    return number()


def exit_codes(future, count):
    """The exit codes of all attempts, once there are that many."""
    until(lambda: len(future.job.attempts) >= count)
    return [attempt["container"].get("exitCode") for attempt in future.job.attempts]


def marks(future):
    return len(list(future.job._cloud.storage.keys(f"{future.job.keys.prefix}/failures/")))


def test_an_exception_is_not_tried_again_unless_asked(knot_of):
    future = knot_of(always_raises).map([1])
    with pytest.raises(RuntimeError, match="attempt 1"):
        future.result(LONG)
    assert exit_codes(future, 1) == [1]
    assert marks(future) == 0


@pytest.mark.parametrize("retries", [2, 4])
def test_an_exception_is_tried_as_often_as_asked(knot_of, retries):
    future = knot_of(always_raises).map([1], retries=retries)
    with pytest.raises(RuntimeError, match=f"attempt {retries}"):
        future.result(LONG)
    assert exit_codes(future, retries) == [TRY_AGAIN] * (retries - 1) + [1]
    assert marks(future) == retries - 1


@pytest.mark.parametrize("how", ["host", "spot", "pull"])
def test_what_aws_takes_away_is_none_of_the_users_attempts(knot_of, switches, how):
    """Two attempts of the user's own, of which the first raises; three more are lost before it."""
    with switches.on(Faults(kills=(Kill(how, attempts=3, after=0.1),))):
        future = knot_of(raises_at_first).map([(3, 1)], starmap=True, retries=2)
        assert future.result(LONG) == [5]
        assert len(until(lambda: len(future.job.attempts) == 5 and future.job.attempts)) == 5
    assert marks(future) == 1


def test_without_retries_an_exception_after_a_lost_host_is_the_end(knot_of, switches):
    with switches.on(Faults(kills=(Kill("host", attempts=1, after=0.1),))):
        future = knot_of(raises_at_first).map([(1, 1)], starmap=True)
        with pytest.raises(RuntimeError, match="attempt 2"):
            future.result(LONG)


def test_a_process_that_dies_uses_up_an_attempt(knot_of):
    future = knot_of(dies).map([1], retries=3)
    error = future.exception(LONG)
    assert error.exit_code == 137
    assert exit_codes(future, 3) == [TRY_AGAIN, TRY_AGAIN, 137]


def test_a_crash_is_tried_again_when_asked(knot_of):
    future = knot_of(dies_at_first).map([1, 2], retries=2)
    assert future.result(LONG) == [2, 2]
    assert any("signal 11" in line for line in until(lambda: list(future.job.logs(0))))


def test_terminate_in_an_attempt_that_may_be_followed_ends_the_job(knot_of):
    future = knot_of(time.sleep).map([600], retries=3)
    until(lambda: future.job.status == "RUNNING")
    future.job.terminate("enough")
    assert future.exception(LONG) is not None
    until(lambda: future.job.status == "FAILED")
    assert len(future.job.attempts) == 1
    assert marks(future) == 0
