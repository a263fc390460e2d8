"""Classify how a job ended without a result: from Batch's description of the job to an error class and its text. Pure.

AWS gives its reasons in three places: the job's statusReason, and for the last attempt, the statusReason and the
container's reason. The tables `WORDINGS` and `STUCK` list the known reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from cloudknot.aws import batch
from cloudknot.aws.batch import UNSUBMITTED
from cloudknot.errors import (
    BatchJobFailedError,
    DependencyFailedError,
    HostLostError,
    ImagePullError,
    JobCancelledError,
    JobNotSubmittedError,
    JobStuckError,
    JobTimeoutError,
    OutOfMemoryError,
    ResultMissingError,
    SpotInterruptedError,
    TaskStartError,
    WorkerDiedError,
)
from cloudknot.worker.wire.container import KILLED, TRY_AGAIN

Kind = type[BatchJobFailedError]

RUN_AGAIN = "Run it again: future.retry_failed()."
DOCKER_HANGS = "ran on a machine whose Docker stopped answering, and stored no result."
NOT_STARTED = "did not run, because its container could not be started."


class Wording(NamedTuple):
    """A reason as AWS words it, and the error for it.

    ``problem`` completes a sentence that begins with the element. ``problem`` and ``fix`` end with a period. The fixes
    for too little memory or time are made from the job's own numbers.
    """

    reason: str
    kind: Kind
    problem: str
    fix: str = RUN_AGAIN


# By the beginnings of AWS's reasons. Sources: AWS Batch user guide, "Troubleshooting AWS Batch" and "Jobs stuck in
# RUNNABLE"; Amazon ECS developer guide, "Stopped tasks error messages" and "CannotPullContainer task errors".
WORDINGS: tuple[Wording, ...] = (
    Wording(
        "Job attempt duration exceeded timeout",
        JobTimeoutError,
        "ran longer than the timeout of its job{timeout}, so AWS Batch stopped it.",
    ),
    Wording("OutOfMemory", OutOfMemoryError, "used more memory than its job had{memory}, and was killed."),
    Wording(
        "Your Spot Task was interrupted",
        SpotInterruptedError,
        "was interrupted, because AWS took back its Spot capacity.",
    ),
    Wording(
        "Host EC2",
        HostLostError,
        "lost the machine that it ran on. On AWS, this is usually a Spot instance that was taken back. On the "
        "embedded cloud, its server ended.",
    ),
    Wording("DockerTimeoutError", HostLostError, DOCKER_HANGS),
    Wording("CannotInspectContainerError", HostLostError, DOCKER_HANGS),
    # Before "Task failed to start", because a job without its image has both reasons.
    Wording(
        "CannotPull",
        ImagePullError,
        "did not run, because its image could not be pulled (downloaded to the machine).",
        "Check that the image still exists and that the machines can reach its registry. Then run the element again: "
        "future.retry_failed().",
    ),
    Wording("Task failed to start", TaskStartError, NOT_STARTED),
    Wording("CannotCreateContainerError", TaskStartError, "did not run, because its container could not be created."),
    Wording("CannotStartContainerError", TaskStartError, NOT_STARTED),
    Wording("ResourceInitializationError", TaskStartError, "did not run, because its container could not be set up."),
    Wording("ContainerRuntimeError", TaskStartError, NOT_STARTED),
    Wording(
        "Dependent Job failed",
        DependencyFailedError,
        "did not run, because a job that it waited for failed.",
        "Call retry_failed() for that map first, then future.retry_failed().",
    ),
)
# By parts of the reasons for jobs whose machine could not store data. Their ``kind`` depends on the moment.
SHORTAGES: tuple[Wording, ...] = (
    Wording(
        "No space left on device",
        WorkerDiedError,
        "has no result, because a disk of the machine that runs the jobs is full.",
        "Free space on that disk, then run the element again: future.retry_failed().",
    ),
    Wording(
        "Too many open files",
        WorkerDiedError,
        "has no result, because the machine that runs the jobs has as many open files as it may have.",
        "Raise its limit (`ulimit -n 65536` before the start of the cloud), then run the element again: "
        "future.retry_failed().",
    ),
)
# By parts of AWS's reasons: the queue writes "Canceled by JobStateTimeLimit action due to reason: " before most.
STUCK: tuple[Wording, ...] = (
    Wording(
        "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT",
        JobStuckError,
        "did not run, because it asks for more vCPUs, memory or GPUs than any machine of its queue has.",
        "Ask for less with future.retry_failed(vcpus=..., memory=...), or create the Knot with larger instance_types.",
    ),
    Wording(
        "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE",
        JobStuckError,
        "did not run, because it asks for more vCPUs than max_vcpus allows its queue.",
        "Ask for fewer with future.retry_failed(vcpus=...), or create the Knot with a higher max_vcpus.",
    ),
    Wording(
        "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY",
        JobStuckError,
        "did not run, because AWS had no machine of the requested instance types. A Knot with more "
        "instance_types has a better chance.",
    ),
    Wording(
        "MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED",
        JobStuckError,
        "did not run, because AWS cannot start machines of these instance types with the knot's settings.",
        "Create the Knot with other instance_types or without image_id.",
    ),
    Wording(
        "MISCONFIGURATION:",
        JobStuckError,
        "did not run, because its queue or compute environment is not set up to run it.",
        "Clobber the knot with knot.clobber(), which keeps results, then create the Knot and map again.",
    ),
    Wording("CAPACITY:", JobStuckError, "did not run, because AWS had no machine for it."),
    Wording(
        "Container Overrides length",
        JobStuckError,
        "did not run, because its environment variables are too long.",
        "Call map again with shorter env_vars.",
    ),
)


@dataclass(frozen=True)
class Ending:
    """The end of a job that stored no result.

    Attributes
    ----------
    kind : type
        The class of the error.
    problem, fix : str
        Text for the error, as in `Wording`.
    attempt : int
        The number of attempts; 0 when the job never ran.
    exit_code : int or None
    reasons : tuple of str
        The reasons in AWS's words, each once; empty when AWS gave none.
    memory : int or None
        The MiB that the job had, if known.
    """

    kind: Kind
    problem: str
    fix: str
    attempt: int
    exit_code: int | None
    reasons: tuple[str, ...]
    memory: int | None


def never_runs_reason(job: batch.Job) -> str:
    """Return Batch's reason for ending a job that no machine could ever run; empty for any other job.

    See the AWS Batch user guide, "Jobs stuck in a RUNNABLE status".
    """
    reason = str(job.get("statusReason") or "")
    # A lack of capacity (CAPACITY:) passes, so it never means that the other children cannot run.
    return reason if reason.startswith("Canceled by JobStateTimeLimit") and "MISCONFIGURATION:" in reason else ""


def process_died(end: Ending) -> bool:
    """Return whether the process of the child died, so that one element may have ended all others of its chunk."""
    return issubclass(end.kind, OutOfMemoryError | WorkerDiedError)


def out_of_memory(end: Ending) -> bool:
    """Return whether the job failed for lack of memory."""
    return issubclass(end.kind, OutOfMemoryError)


def ending(job: batch.Job) -> Ending:
    """Return the ending of a job that stored no result.

    Parameters
    ----------
    job : mapping
        Batch's description of the job, or of the child of an array job. Empty when Batch no longer knows it.
    """
    attempts, container = job.get("attempts") or [], job.get("container", {})
    last = attempts[-1] if attempts else {}
    exit_code = container.get("exitCode", last.get("container", {}).get("exitCode"))
    # SIGKILL, with the code that tells it from the end of the worker itself.
    exit_code = 137 if exit_code == KILLED else exit_code
    candidates = [
        *(job.get("statusReason"), container.get("reason")),
        *(last.get("statusReason"), last.get("container", {}).get("reason")),
    ]
    # Batch repeats the reasons of the last attempt in the job itself.
    reasons = list(dict.fromkeys(reason for reason in candidates if reason))
    kind, problem, fix = _classify(job, exit_code, reasons)
    return Ending(kind, problem, fix, len(attempts), exit_code, tuple(reasons), memory_of(job))


def memory_of(job: batch.Job) -> int | None:
    """Return the MiB that a job had; None if its description does not contain them."""
    container = job.get("container", {})
    for requirement in container.get("resourceRequirements", ()):
        if requirement["type"] == "MEMORY":
            return int(requirement["value"])
    memory: int | None = container.get("memory")
    return memory


def _classify(job: batch.Job, exit_code: int | None, reasons: list[str]) -> tuple[Kind, str, str]:
    """Return the class, the problem and the fix of the error."""
    if not job:
        return ResultMissingError, "has no result, and AWS Batch no longer knows its job.", RUN_AGAIN
    if job.get("status") == UNSUBMITTED:
        problem = "did not run: the session that called map ended before it had submitted all jobs."
        return JobNotSubmittedError, problem, "Submit it: future.retry_failed()."
    if job.get("status") == "SUCCEEDED":
        return ResultMissingError, "succeeded according to AWS Batch, but stored no result.", RUN_AGAIN
    stuck = next((wording for wording in STUCK if any(wording.reason in reason for reason in reasons)), None)
    # Before the check for cancelled jobs: the queue ends a stuck job by cancelling it.
    if stuck is not None and exit_code is None:
        return stuck.kind, stuck.problem, stuck.fix
    # Before AWS's wordings: an attempt that is stopped also has an exit code, and often 137.
    if job.get("isTerminated") or job.get("isCancelled"):
        return JobCancelledError, "was stopped before it had a result.", RUN_AGAIN
    shortage = next((wording for wording in SHORTAGES if any(wording.reason in reason for reason in reasons)), None)
    if shortage is not None:
        return TaskStartError if exit_code is None else shortage.kind, shortage.problem, shortage.fix
    for wording in WORDINGS:
        if any(reason.startswith(wording.reason) for reason in reasons):
            return _from_wording(wording, job)
    return _from_exit_code(exit_code, memory_of(job))


def _from_wording(wording: Wording, job: batch.Job) -> tuple[Kind, str, str]:
    memory, timeout = memory_of(job), job.get("timeout", {}).get("attemptDurationSeconds")
    problem = wording.problem.format(
        memory="" if memory is None else f" ({memory:,} MiB)", timeout="" if timeout is None else f" ({timeout:,} s)"
    )
    fix = wording.fix
    if wording.kind is OutOfMemoryError:
        fix = _more_memory(memory)
    elif wording.kind is JobTimeoutError:
        fix = f"Run it again with more seconds: future.retry_failed(timeout={2 * timeout if timeout else '...'})."
    return wording.kind, problem, fix


def _from_exit_code(exit_code: int | None, memory: int | None) -> tuple[Kind, str, str]:
    if exit_code is None:
        return BatchJobFailedError, "did not run.", RUN_AGAIN
    if exit_code == TRY_AGAIN:
        return BatchJobFailedError, "could not reach S3 (AWS's storage) in its last attempt.", RUN_AGAIN
    died = f"has no result, because its process died with exit code {exit_code}"
    # SIGKILL. Only AWS's reason "OutOfMemoryError" proves a lack of memory, so this is no `OutOfMemoryError`.
    if exit_code == 137:
        return WorkerDiedError, f"{died} (SIGKILL, often for lack of memory).", _more_memory(memory)
    signal = f" (signal {exit_code - 128})" if exit_code > 128 else ""
    return WorkerDiedError, f"{died}{signal}.", "Find the cause in its output, or run it again: future.retry_failed()."


def _more_memory(memory: int | None) -> str:
    """Return the fix for a lack of memory: twice the memory where it is known."""
    if memory is None:
        return "Run it again with more memory, in MiB: future.retry_failed(memory=...)."
    more = 2 * memory
    # The call comes last, as in all of these errors.
    return (
        f"For later maps, pass Knot(memory={more}). Run it again with more memory: future.retry_failed(memory={more})."
    )


class Growth(Protocol):
    """Memory growth for a run. `cloudknot.run.jobs.retries.retry.Retry` implements it, because it submits rounds."""

    def may_grow(self, child: int, job: batch.Job) -> bool:
        """Return whether elements that a child left without a result run again with more memory at the end."""

    def grow(self, elements: Sequence[int]) -> None:
        """Run elements again with more memory."""

    def growth_fix(self, end: Ending) -> str:
        """Return the fix for a job that ran out of memory; empty when memory growth does not change the usual one."""
