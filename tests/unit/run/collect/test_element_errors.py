"""The error for an element without a result, from descriptions of jobs in the words of AWS Batch."""

import pytest

from cloudknot import errors
from cloudknot.aws.batch import UNSUBMITTED
from cloudknot.run.collect.element_errors import Place, load_exception, lost_error
from cloudknot.run.collect.job_failures import ending, memory_of, never_runs_reason, out_of_memory
from cloudknot.worker.program.load import _check_cloudpickle, _check_python
from cloudknot.worker.wire.failure import NOT_LOADED, Failure

EXITED = "Essential container in task exited"
NOT_STARTED = "Task failed to start"
HOST_LOST = "Host EC2 (instance i-0abc1234def567890) terminated."
OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"
NO_PULL = "CannotPullContainerError: Error response from daemon: manifest for pi:1 not found"


def attempt(exit_code=None, reason=None, status_reason=EXITED):
    container = {"exitCode": exit_code, "reason": reason}
    return {
        "statusReason": status_reason,
        "container": {name: value for name, value in container.items() if value is not None},
    }


def failed(*attempts, **job):
    """Return DescribeJobs' description of a failed job. Its container is the one of the last attempt."""
    last = attempts[-1] if attempts else {}
    description = {
        "status": "FAILED",
        "statusReason": last.get("statusReason"),
        "container": dict(last.get("container", {})),
        "attempts": list(attempts),
        "isCancelled": False,
        "isTerminated": False,
        **job,
    }
    return {name: value for name, value in description.items() if value is not None}


CASES = {
    "host lost": (failed(attempt(status_reason=HOST_LOST)), errors.HostLostError, "lost the machine that it ran on"),
    "Spot capacity taken back (Fargate)": (
        failed(attempt(status_reason="Your Spot Task was interrupted.")),
        errors.SpotInterruptedError,
        "Spot capacity",
    ),
    "out of memory": (
        failed(attempt(137, OUT_OF_MEMORY)),
        errors.OutOfMemoryError,
        r"used more memory than its job had, .*future\.retry_failed\(memory=",
    ),
    "full disk": (
        failed(attempt(1, "No space left on device: /tmp")),
        errors.WorkerDiedError,
        r"has no result, because a disk of the machine .* is full\. .*Free space on that disk",
    ),
    "full disk at the start": (
        failed(attempt(None, "CannotStartContainerError: [Errno 28] No space left on device: '/x'", NOT_STARTED)),
        errors.TaskStartError,
        r"has no result, because a disk of the machine .* is full\. .*Free space on that disk",
    ),
    "too many open files": (
        failed(attempt(1, "Too many open files in the embedded cloud")),
        errors.WorkerDiedError,
        r"has no result, because the machine .* open files .*ulimit -n",
    ),
    "killed, reason unknown": (failed(attempt(137)), errors.WorkerDiedError, "exit code 137 .SIGKILL"),
    "segmentation fault": (failed(attempt(139)), errors.WorkerDiedError, "signal 11"),
    "the process ended itself": (failed(attempt(9)), errors.WorkerDiedError, "exit code 9"),
    "timeout": (
        failed(attempt(137, status_reason="Job attempt duration exceeded timeout")),
        errors.JobTimeoutError,
        r"ran longer than the timeout of its job.*retry_failed\(timeout=",
    ),
    "image not found": (
        failed(attempt(None, NO_PULL, NOT_STARTED)),
        errors.ImagePullError,
        "image could not be pulled",
    ),
    "image manifest not found (ECS's newer wording)": (
        failed(attempt(None, "CannotPullImageManifestError: Error response from daemon", NOT_STARTED)),
        errors.ImagePullError,
        "image could not be pulled",
    ),
    "container not started": (
        failed(attempt(None, "CannotStartContainerError: exec: no such file", NOT_STARTED)),
        errors.TaskStartError,
        "could not be started",
    ),
    "container not initialized": (
        failed(attempt(None, "ResourceInitializationError: failed to validate logger args", NOT_STARTED)),
        errors.TaskStartError,
        "could not be",
    ),
    "Docker timed out": (
        failed(attempt(None, "DockerTimeoutError: Could not transition to stopped; timed out", EXITED)),
        errors.HostLostError,
        "Docker stopped answering",
    ),
    "Docker cannot inspect the container": (
        failed(attempt(None, "CannotInspectContainerError: Could not transition to stopped", EXITED)),
        errors.HostLostError,
        "Docker stopped answering",
    ),
    "terminated": (
        failed(attempt(143), statusReason="enough", isTerminated=True),
        errors.JobCancelledError,
        "was stopped before.*enough",
    ),
    "cancelled": (failed(statusReason="never mind", isCancelled=True), errors.JobCancelledError, "never mind"),
    "failed dependency": (
        failed(statusReason="Dependent Job failed"),
        errors.DependencyFailedError,
        "waited for failed",
    ),
    "too large for any machine": (
        failed(
            statusReason="MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - The job resource requirement "
            "(vCPU/memory/GPU) is higher than that can be met by the CE(s) attached to the job queue.",
            isCancelled=True,
        ),
        errors.JobStuckError,
        "asks for more vCPUs, memory or GPUs",
    ),
    "too large for the compute environment": (
        failed(statusReason="MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - CE(s)", isCancelled=True),
        errors.JobStuckError,
        "max_vcpus",
    ),
    "no capacity": (
        failed(
            statusReason="Canceled by JobStateTimeLimit action due to reason: CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY",
            isCancelled=True,
        ),
        errors.JobStuckError,
        "had no machine",
    ),
    "overrides too long": (
        failed(statusReason="Container Overrides length must be at most 8192"),
        errors.JobStuckError,
        "variables are too long",
    ),
    "no reason given": (failed(), errors.BatchJobFailedError, r"did not run\. AWS Batch gave no reason\."),
    "success without a result": (
        {"status": "SUCCEEDED", "container": {"exitCode": 0}, "attempts": [attempt(0)]},
        errors.ResultMissingError,
        "stored no result",
    ),
    "never submitted": (
        {"status": UNSUBMITTED},
        errors.JobNotSubmittedError,
        r"Submit it: future\.retry_failed\(\)\.",
    ),
    "job that Batch has deleted": ({}, errors.ResultMissingError, "no longer knows"),
}


@pytest.mark.parametrize(("job", "kind", "text"), CASES.values(), ids=CASES)
def test_reason_given_by_batch_selects_error_class_and_text(job, kind, text):
    end = ending(job)
    error = lost_error(Place(3, "job:3", "log://3", show_log="cloudknot logs job 3"), end)
    assert type(error) is kind
    with pytest.raises(kind, match=rf"^Element 3 \(job job:3\) .*{text}"):
        raise error
    assert str(error).endswith(f". Its output: cloudknot logs job 3. {end.fix}")
    assert end.fix.endswith(".")
    attempts = job.get("attempts", [])
    reasons = {job.get("statusReason"), *(ended["container"].get("reason") for ended in attempts)} - {None}
    assert all(reason in error.reason for reason in reasons)
    exit_code = attempts[-1]["container"].get("exitCode") if attempts else None
    assert (error.index, error.job_id, error.attempt, error.exit_code, error.log_url) == (
        *(3, "job:3", len(attempts), exit_code),
        "log://3",
    )
    assert ".." not in str(error).replace("...", "")


@pytest.mark.parametrize(
    ("check", "versions", "fix"),
    [
        (_check_python, ["3.9"], "Use a base image with Python 3.9, such as base_image='python:3.9-slim'."),
        (
            _check_cloudpickle,
            ["3.1.0", "2.2.1"],
            "Write cloudpickle==3.1.0 in requirements=, or remove cloudpickle from the requirements.",
        ),
    ],
)
def test_error_for_other_version_in_image_ends_with_fix_of_worker(check, versions, fix):
    with pytest.raises(RuntimeError) as caught:
        check(*versions)
    text = str(
        load_exception(
            Failure(NOT_LOADED, "RuntimeError", str(caught.value), ""), Place(3, "j", show_log="cloudknot logs job 3")
        )
    )
    assert "RuntimeError: The function was pickled by " in text
    assert text.endswith(f". Its output: cloudknot logs job 3. {fix}")


def test_error_for_program_that_cannot_be_loaded_refers_to_traceback():
    text = str(load_exception(Failure(NOT_LOADED, "ValueError", "bad marshal data", ""), Place(3, "j")))
    assert text.endswith(" Find the cause in its traceback and output.")


def test_cases_cover_every_error_class_of_failed_job():
    leaves = {kind for kind in _subclasses(errors.BatchJobFailedError) if kind is not errors.ElementError}
    assert leaves == {case[1] for case in CASES.values()} - {errors.BatchJobFailedError}


def _subclasses(kind):
    return {leaf for child in kind.__subclasses__() for leaf in (child, *_subclasses(child))}


def test_error_gives_reason_of_last_attempt():
    lost_first = failed(attempt(status_reason=HOST_LOST), attempt(1))
    assert (ending(lost_first).kind, ending(lost_first).attempt) == (errors.WorkerDiedError, 2)
    lost_last = failed(attempt(137, OUT_OF_MEMORY), attempt(status_reason=HOST_LOST))
    assert ending(lost_last).kind is errors.HostLostError
    assert "Attempts: 2." in str(lost_error(Place(0, "j"), ending(lost_last)))


def test_exit_code_137_means_out_of_memory_only_with_reason_from_aws():
    assert out_of_memory(ending(failed(attempt(137, OUT_OF_MEMORY))))
    assert not out_of_memory(ending(failed(attempt(137))))
    assert not out_of_memory(ending(failed(attempt(137, OUT_OF_MEMORY), isTerminated=True)))


def test_out_of_memory_error_names_memory_and_doubled_value():
    job = failed(attempt(137, OUT_OF_MEMORY))
    job["container"]["resourceRequirements"] = [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "7500"}]
    assert memory_of(job) == 7500
    text = str(lost_error(Place(0, "j"), ending(job)))
    assert "(7,500 MiB)" in text
    assert "future.retry_failed(memory=15000)." in text
    assert memory_of({"container": {"memory": 512}}) == 512
    assert memory_of({}) is None


def test_timeout_error_names_timeout_and_doubled_value():
    job = failed(
        attempt(137, status_reason="Job attempt duration exceeded timeout"), timeout={"attemptDurationSeconds": 1800}
    )
    text = str(lost_error(Place(0, "j"), ending(job)))
    assert "timeout of its job (1,800 s)" in text
    assert "future.retry_failed(timeout=3600)." in text


@pytest.mark.parametrize(
    ("reason", "never"),
    [
        ("Canceled by JobStateTimeLimit action due to reason: MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT", True),
        ("Canceled by JobStateTimeLimit action due to reason: CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY", False),
        ("MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - The job", False),
        (None, False),
    ],
)
def test_only_cancel_for_misconfiguration_means_job_never_runs(reason, never):
    assert bool(never_runs_reason({"status": "FAILED", "statusReason": reason})) == never


def test_message_omits_reason_common_to_all_ended_containers():
    error = lost_error(Place(3, "j"), ending(failed(attempt(9))))
    assert EXITED not in str(error)
    assert error.reason == EXITED
    both = lost_error(Place(3, "j"), ending(failed(attempt(137, OUT_OF_MEMORY))))
    assert f'AWS Batch reports: "{OUT_OF_MEMORY}".' in str(both)
