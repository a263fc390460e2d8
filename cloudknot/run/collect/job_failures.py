"""Why a job ended without a result: from Batch's description of it to an error of our tree. Pure.

AWS words its reasons in three places: the job's statusReason, and of the last attempt, the statusReason and the
container's reason. The table below knows the wordings; exit code 137 alone says nothing but SIGKILL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

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
from cloudknot.worker.wire.container import TRY_AGAIN

Kind = type[BatchJobFailedError]

# What AWS says: what it begins with, the error it stands for, and what that means to a person. Texts: AWS Batch user
# guide, "Troubleshooting AWS Batch" and "Jobs stuck in RUNNABLE"; Amazon ECS developer guide, "Stopped tasks error
# messages" and "CannotPullContainer task errors".
WORDINGS: tuple[tuple[str, Kind, str], ...] = (
    ("Job attempt duration exceeded timeout", JobTimeoutError, "ran longer than the job's timeout"),
    (
        "OutOfMemory",
        OutOfMemoryError,
        "used more memory than its job had{memory}, and was killed; future.retry_failed(memory=...) runs it again "
        "with more",
    ),
    (
        "Your Spot Task was interrupted",
        SpotInterruptedError,
        "was interrupted, because AWS took its Spot capacity back; future.retry_failed() runs it again",
    ),
    (
        "Host EC2",
        HostLostError,
        "lost the machine under it (with Spot instances, usually because AWS took it back); future.retry_failed() "
        "runs it again",
    ),
    (
        "DockerTimeoutError",
        HostLostError,
        "ran on a machine whose Docker stopped answering, and stored no result; future.retry_failed() runs it again",
    ),
    (
        "CannotInspectContainerError",
        HostLostError,
        "ran on a machine whose Docker stopped answering, and stored no result; future.retry_failed() runs it again",
    ),
    ("CannotPull", ImagePullError, "did not run, because its image could not be pulled"),
    ("Task failed to start", TaskStartError, "did not run, because its container could not be started"),
    ("CannotCreateContainerError", TaskStartError, "did not run, because its container could not be created"),
    ("CannotStartContainerError", TaskStartError, "did not run, because its container could not be started"),
    ("ResourceInitializationError", TaskStartError, "did not run, because its container could not be set up"),
    ("ContainerRuntimeError", TaskStartError, "did not run, because its container could not be started"),
    ("Dependent Job failed", DependencyFailedError, "did not run, because a job that it waited for failed"),
)
STUCK: tuple[tuple[str, str], ...] = (
    (
        "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT",
        "did not run, because it asks for more vCPUs, memory or GPUs than any machine of the queue has; ask for less, "
        "or for larger instance_types",
    ),
    (
        "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE",
        "did not run, because it asks for more vCPUs than max_vcpus lets the queue have",
    ),
    (
        "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY",
        "did not run, because AWS had no machine of the instance types asked for; retry_failed() asks again, more "
        "instance_types make it likelier",
    ),
    (
        "MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED",
        "did not run, because AWS cannot start machines of these instance types in the way that the knot asks for; "
        "make the Knot with other instance_types or without image_id",
    ),
    ("MISCONFIGURATION:", "did not run, because its queue or compute environment is not set up to run it"),
    ("CAPACITY:", "did not run, because AWS had no machine for it; retry_failed() asks again"),
    ("Container Overrides length", "did not run, because its environment variables are too long"),
)


@dataclass(frozen=True)
class Ending:
    """How a job ended: the error it stands for, what that means, what AWS said, and the MiB it had, if it says so."""

    kind: Kind
    what: str
    attempt: int
    exit_code: int | None
    reason: str
    memory: int | None


def never_runs(job: batch.Job) -> str:
    """Why a job was ended by its queue that no machine could ever have taken; empty for any other.

    Words: AWS Batch user guide, "Jobs stuck in a RUNNABLE status".
    """
    reason = str(job.get("statusReason") or "")
    return reason if reason.startswith("Canceled by JobStateTimeLimit") and "MISCONFIGURATION:" in reason else ""


def took_neighbours(end: Ending) -> bool:
    """Whether one element may have ended the process of all elements of its child."""
    return issubclass(end.kind, OutOfMemoryError | WorkerDiedError)


def out_of_memory(end: Ending) -> bool:
    """Whether a job failed for want of memory."""
    return issubclass(end.kind, OutOfMemoryError)


def ending(job: batch.Job) -> Ending:
    """How a job ended that stored no result.

    Parameters
    ----------
    job : mapping
        Batch's description of it (of an array, of the child); empty when Batch does not know it any more.
    """
    attempts, container = job.get("attempts") or [], job.get("container", {})
    last = attempts[-1] if attempts else {}
    exit_code = container.get("exitCode", last.get("container", {}).get("exitCode"))
    said = [
        *(job.get("statusReason"), container.get("reason")),
        *(last.get("statusReason"), last.get("container", {}).get("reason")),
    ]
    reasons = list(dict.fromkeys(reason for reason in said if reason))
    kind, what = _kind(job, exit_code, reasons)
    return Ending(kind, what, len(attempts), exit_code, "; ".join(reasons), memory_of(job))


def memory_of(job: batch.Job) -> int | None:
    """The MiB that a job had, where its description says so."""
    container = job.get("container", {})
    for requirement in container.get("resourceRequirements", ()):
        if requirement["type"] == "MEMORY":
            return int(requirement["value"])
    memory: int | None = container.get("memory")
    return memory


def _kind(job: batch.Job, exit_code: int | None, reasons: list[str]) -> tuple[Kind, str]:
    if not job:
        return ResultMissingError, "has no result, and Batch no longer knows its job"
    if job.get("status") == UNSUBMITTED:
        return JobNotSubmittedError, (
            "did not run: the session that submitted the map ended before it had submitted all of its jobs; "
            "job.retry_failed() submits it"
        )
    if job.get("status") == "SUCCEEDED":
        return ResultMissingError, "ended well by Batch's account, but stored no result"
    stuck = next((what for text, what in STUCK if any(text in reason for reason in reasons)), None)
    if stuck is not None and exit_code is None:
        return JobStuckError, stuck
    if job.get("isTerminated") or job.get("isCancelled"):
        return JobCancelledError, "was stopped before it had a result"
    for text, kind, what in WORDINGS:
        if any(reason.startswith(text) for reason in reasons):
            return kind, what.format(memory=_amount(memory_of(job)))
    if exit_code is None:
        return BatchJobFailedError, "did not run"
    if exit_code == TRY_AGAIN:
        return (
            BatchJobFailedError,
            "could not reach S3 in its last attempt; retry_failed() runs it again",
        )
    return WorkerDiedError, f"has no result, because its worker died with exit code {exit_code}{_signal(exit_code)}"


def _amount(memory: int | None) -> str:
    return "" if memory is None else f" ({memory:,} MiB)"


def _signal(exit_code: int) -> str:
    if exit_code == 137:
        return " (SIGKILL: often out of memory; ask for more with retry_failed(memory=...))"
    if exit_code > 128:
        return f" (signal {exit_code - 128})"
    return ""


class Growth(Protocol):
    """Runs elements again that ran out of memory: `cloudknot.run.jobs.retry.Retry`, which is above this folder."""

    def may_grow(self, child: int, job: batch.Job) -> bool:
        """Return whether elements that a child left without a result run again with more memory at the end."""

    def grow(self, elements: Sequence[int]) -> None:
        """Run elements again with more memory."""

    def growth(self, end: Ending) -> str:
        """Return what becomes of a job that ran out of memory, for its error."""
