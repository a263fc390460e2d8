"""Each kind of failure raises an error with class, element, job, attempt, exit code, reason and log address."""

import os
import re
import signal
import sys
import time
import traceback

import pytest

import cloudknot as ck
from tests.faulty_cloud.plan import Faults, Kill
from tests.helpers.waiting import LONG, until


def behave(action, folder, seconds=0.0):
    """Return, raise, exit or die."""
    print(f"about to {action}", flush=True)
    time.sleep(seconds)
    if action == "raise later" and os.environ["AWS_BATCH_JOB_ATTEMPT"] == "1":
        time.sleep(LONG)  # The test kills this attempt.
    if action == "raise":
        raise LookupError("nothing there")
    if action == "raise later" and os.environ["AWS_BATCH_JOB_ATTEMPT"] == "3":
        raise LookupError("nothing there")
    if action in ("exit", "raise later"):
        sys.exit(4)
    if action == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return action


EXITED = "Essential container in task exited"
FAULTS = {
    # fault: error class, attempt, exit code, reason
    "host": (ck.HostLostError, 10, None, "Host EC2"),
    "spot": (ck.SpotInterruptedError, 10, None, "Your Spot Task was interrupted"),
    "memory": (ck.OutOfMemoryError, 1, 137, "OutOfMemoryError: Container killed due to memory usage"),
    "pull": (ck.ImagePullError, 10, None, "CannotPullContainerError"),
    "start": (ck.TaskStartError, 1, None, "CannotStartContainerError"),
}


def is_log_url(url, job):
    """Return whether a URL is one of a job's log URLs. Their signatures differ from second to second."""
    return url.partition("X-Amz")[0] in [log_url.partition("X-Amz")[0] for log_url in job.log_urls]


def check_error(error, future, error_class, child, attempt, exit_code, reason):
    """Check all fields of the error for element 1, the only element of its child job."""
    assert type(error) is error_class
    place = (f"{future.job.job_ids[0]}:{child}", attempt, exit_code)
    assert (error.index, error.job_id, error.attempt, error.exit_code) == (1, *place)
    assert reason in error.reason if reason else error.reason == ""
    assert error.log_url.startswith("http://127.0.0.1:")
    assert str(error).startswith(f"Element 1 (job {error.job_id}) ")
    assert f" Its output: {future.job._cloud.command(f'logs {future.job.job_id} 1')}. " in str(error)
    # The function itself is at fault for an `ElementError`, so another run would fail again.
    fix = r"Return a value or raise .*\." if error_class is ck.ElementError else r"future\.retry_failed\([^)]*\)\."
    assert re.search(rf"{fix}$", str(error))
    assert is_log_url(error.log_url, future.job)


@pytest.mark.parametrize("how", FAULTS)
def test_error_after_fault_has_class_attempt_exit_code_and_reason(knot_of, switches, tmp_path, how):
    error_class, *fields = FAULTS[how]
    with switches.on(Faults(kills=(Kill(how, attempts=10, children=(1,)),))):
        future = knot_of(behave).map([("return", str(tmp_path)), ("return", str(tmp_path), 30)], starmap=True)
        check_error(future.exception(LONG), future, error_class, 1, *fields)


@pytest.mark.parametrize("how", ["host", "memory"])
def test_error_counts_attempts_of_last_round(knot_of, switches, tmp_path, how):
    """The retry runs the only element that is left as a plain job, and Batch counts its attempts from 1."""
    error_class, attempt, exit_code, reason = FAULTS[how]
    future = knot_of(behave).map([("return", str(tmp_path)), ("raise", str(tmp_path))], starmap=True)
    assert type(future.exception(LONG)) is LookupError
    with switches.on(Faults(kills=(Kill(how, attempts=10),))):
        again = future.retry_failed()
        error = again.exception(LONG)
    (job_id,) = future.job.job_ids
    assert type(error) is error_class
    assert (error.index, error.job_id, error.attempt, error.exit_code) == (1, job_id, attempt, exit_code)
    assert reason in error.reason
    assert is_log_url(error.log_url, future.job)


def test_terminated_job_raises_job_cancelled_error_with_reason(knot_of, tmp_path):
    future = knot_of(behave).map([("return", str(tmp_path)), ("return", str(tmp_path), 600)], starmap=True)
    assert future[0].exception(LONG) is None
    until(lambda: future.job._view.describe([1])[1]["status"] == "RUNNING")
    future.job.terminate("the lab closes")
    check_error(future.exception(LONG), future, ck.JobCancelledError, 1, 1, 143, "the lab closes")


def test_killed_process_raises_worker_died_error(knot_of, tmp_path):
    future = knot_of(behave).map([("return", str(tmp_path)), ("die", str(tmp_path))], starmap=True, retries=2)
    check_error(future.exception(LONG), future, ck.WorkerDiedError, 1, 2, 137, EXITED)


def test_function_that_calls_exit_raises_element_error(knot_of, tmp_path):
    future = knot_of(behave).map([("return", str(tmp_path)), ("exit", str(tmp_path))], starmap=True, retries=2)
    check_error(future.exception(LONG), future, ck.ElementError, 1, 2, 4, "")


def test_exception_of_function_has_note_with_element_and_attempt(knot_of, switches, tmp_path):
    """Attempt 3 raises: a host took attempt 1, and attempt 2 was the first of the two that the user asked for."""
    elements = [("return", str(tmp_path)), ("raise later", str(tmp_path))]
    future = knot_of(behave).map(elements, starmap=True, retries=2)
    # A kill after a fixed time could come before the attempt prints its line.
    until(lambda: list(future.job.logs(1)) == ["about to raise later"])
    switches.kill(f"{future.job.job_id}:1", "host")
    error = future.exception(LONG)
    assert type(error) is LookupError
    cause = error.__cause__
    assert (cause.index, cause.job_id, cause.attempt) == (1, f"{future.job.job_id}:1", 3)
    assert is_log_url(cause.log_url, future.job)
    note, count = error.__notes__
    assert count == "1 of 2 elements failed."
    source = f"Raised by element 1 (job {future.job.job_id}:1), in attempt 3 of its job."
    assert note == f"{source} Its output: {future.job._cloud.command(f'logs {future.job.job_id} 1')}"
    assert note in "".join(traceback.format_exception(error))
    until(lambda: list(future.job.logs(1)).count("about to raise later") == 3)


def test_failure_of_retry_has_attempt_of_retry_in_each_session(knot_of, tmp_path):
    future = knot_of(behave).map([("return", str(tmp_path)), ("raise", str(tmp_path))], starmap=True, retries=3)
    assert future.exception(LONG).__cause__.attempt == 3
    again = future.retry_failed(retries=1)
    cause = again.exception(LONG).__cause__
    assert (cause.index, cause.job_id, cause.attempt) == (1, future.job.job_ids[0], 1)
    later_session = ck.BatchJob(future.job.job_id, cloud=future.job._cloud)
    cause = later_session.future().exception(LONG).__cause__
    assert (cause.index, cause.job_id, cause.attempt) == (1, future.job.job_ids[0], 1)
