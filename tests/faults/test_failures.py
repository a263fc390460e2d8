"""Each way to fail, with all that its error tells: class, element, job, attempt, exit code, reason, log."""

import os
import signal
import sys
import time
import traceback

import pytest

import cloudknot as ck
from cloudknot.local import Faults, Kill
from tests.helpers.waiting import LONG, until


def behave(what, folder, seconds=0.0):
    """End in one of the ways in which a function can."""
    print(f"about to {what}", flush=True)
    time.sleep(seconds)
    if what == "raise":
        raise LookupError("nothing there")
    if what == "raise later" and os.environ["AWS_BATCH_JOB_ATTEMPT"] == "3":
        raise LookupError("nothing there")
    if what in ("leave", "raise later"):
        sys.exit(4)
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return what


EXITED = "Essential container in task exited"
FAULTS = {
    # the fault, its error, in which attempt, exit code, reason
    "host": (ck.HostLostError, 10, None, "Host EC2"),
    "spot": (ck.SpotInterruptedError, 10, None, "Your Spot Task was interrupted"),
    "memory": (ck.OutOfMemoryError, 1, 137, "OutOfMemoryError: Container killed due to memory usage"),
    "pull": (ck.ImagePullError, 10, None, "CannotPullContainerError"),
    "start": (ck.TaskStartError, 1, None, "CannotStartContainerError"),
}


def is_its_log(url, job):
    """Whether an address is one of a job's log streams; they are signed, by the second."""
    return url.partition("X-Amz")[0] in [each.partition("X-Amz")[0] for each in job.log_urls]


def check(error, future, kind, child, attempt, exit_code, reason):
    """All fields of the error of the last element, which is in a child of its own."""
    assert type(error) is kind
    place = (f"{future.job.job_ids[0]}:{child}", attempt, exit_code)
    assert (error.index, error.job_id, error.attempt, error.exit_code) == (1, *place)
    assert reason in error.reason if reason else error.reason == ""
    assert error.log_url.startswith("http://127.0.0.1:")
    assert str(error).startswith(f"Element 1 (job {error.job_id}) ")
    assert str(error).endswith("Its output: future.job.logs(1)")
    assert is_its_log(error.log_url, future.job)


@pytest.mark.parametrize("how", FAULTS)
def test_what_aws_or_memory_ended(knot_of, switches, tmp_path, how):
    kind, *told = FAULTS[how]
    with switches.on(Faults(kills=(Kill(how, attempts=10, children=(1,)),))):
        future = knot_of(behave).map([("return", str(tmp_path)), ("return", str(tmp_path), 30)], starmap=True)
        check(future.exception(LONG), future, kind, 1, *told)


@pytest.mark.parametrize("how", ["host", "memory"])
def test_the_attempt_is_that_of_the_last_round(knot_of, switches, tmp_path, how):
    """In the retry, one element is left, which is a plain job; Batch counts its attempts anew."""
    kind, attempt, exit_code, reason = FAULTS[how]
    future = knot_of(behave).map([("return", str(tmp_path)), ("raise", str(tmp_path))], starmap=True)
    assert type(future.exception(LONG)) is LookupError
    with switches.on(Faults(kills=(Kill(how, attempts=10),))):
        again = future.retry_failed()
        error = again.exception(LONG)
    (job_id,) = future.job.job_ids
    assert type(error) is kind
    assert (error.index, error.job_id, error.attempt, error.exit_code) == (1, job_id, attempt, exit_code)
    assert reason in error.reason
    assert is_its_log(error.log_url, future.job)


def test_a_cancellation(knot_of, tmp_path):
    future = knot_of(behave).map([("return", str(tmp_path)), ("return", str(tmp_path), 600)], starmap=True)
    assert future[0].exception(LONG) is None
    until(lambda: future.job._view.describe([1])[1]["status"] == "RUNNING")
    future.job.terminate("the lab closes")
    check(future.exception(LONG), future, ck.JobCancelledError, 1, 1, 143, "the lab closes")


def test_a_process_that_dies(knot_of, tmp_path):
    future = knot_of(behave).map([("return", str(tmp_path)), ("die", str(tmp_path))], starmap=True, retries=2)
    check(future.exception(LONG), future, ck.WorkerDiedError, 1, 2, 137, EXITED)


def test_a_function_that_ends_the_process(knot_of, tmp_path):
    future = knot_of(behave).map([("return", str(tmp_path)), ("leave", str(tmp_path))], starmap=True, retries=2)
    check(future.exception(LONG), future, ck.ElementError, 1, 2, 4, "")


def test_an_exception_of_the_users_own_tells_by_its_note(knot_of, switches, tmp_path):
    """The third attempt: the first was AWS's, the second one the user's own."""
    elements = [("return", str(tmp_path)), ("raise later", str(tmp_path), 0.5)]
    with switches.on(Faults(kills=(Kill("host", children=(1,), after=0.1),))):
        future = knot_of(behave).map(elements, starmap=True, retries=2)
        error = future.exception(LONG)
    assert type(error) is LookupError
    cause = error.__cause__
    assert (cause.index, cause.job_id, cause.attempt) == (1, f"{future.job.job_id}:1", 3)
    assert is_its_log(cause.log_url, future.job)
    (note,) = error.__notes__
    told = f"Raised by element 1 (job {future.job.job_id}:1), in attempt 3 of its job."
    assert note == f"{told} Its output: future.job.logs(1)"
    assert note in "".join(traceback.format_exception(error))
    until(lambda: list(future.job.logs(1)).count("about to raise later") == 3)


def test_the_attempt_of_a_failure_that_is_stored_again_in_a_retry(knot_of, tmp_path):
    future = knot_of(behave).map([("return", str(tmp_path)), ("raise", str(tmp_path))], starmap=True, retries=3)
    assert future.exception(LONG).__cause__.attempt == 3
    again = future.retry_failed(retries=1)
    cause = again.exception(LONG).__cause__
    assert (cause.index, cause.job_id, cause.attempt) == (1, future.job.job_ids[0], 1)
    # Another session is told the same.
    later = ck.BatchJob(future.job.job_id, cloud=future.job._cloud)
    cause = later.future().exception(LONG).__cause__
    assert (cause.index, cause.job_id, cause.attempt) == (1, future.job.job_ids[0], 1)
