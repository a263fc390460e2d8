"""What a map waits for: other jobs, and a run whose results are its inputs.

The inputs of such a map are in S3 already, as the results of its source, so nothing of them passes through the client.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cloudknot.aws import batch
from cloudknot.errors import CloudknotInputError

if TYPE_CHECKING:
    from types_boto3_batch.type_defs import JobDependencyTypeDef

    from cloudknot.aws.door import Door
    from cloudknot.run.submit.rounds import Run
    from cloudknot.worker.wire.manifest import Manifest

MAX_DEPENDENCIES = 20
"""Dependencies of a job (Batch user guide, "Service quotas")."""


@dataclass(frozen=True, eq=False)
class Source:
    """A run whose results are the inputs of another.

    Attributes
    ----------
    run : Run
    live_job_ids : callable
        Asks Batch for the ids of its newest jobs that have not ended.
    gather : bool
        Whether all of them, as one list, are the only input; else each is one.
    function : bytes
        What is called in place of the image's function, as the worker reads it; empty when that is called.
    """

    run: Run
    live_job_ids: Callable[[], list[str]]
    gather: bool = False
    function: bytes = b""

    @property
    def count(self) -> int:
        """Number of inputs."""
        return 1 if self.gather else self.run.manifest.count

    def manifest_fields(self) -> dict[str, object]:
        """What the manifest says of it."""
        return {
            "source": self.run.keys.url,
            "source_count": self.run.manifest.count,
            "source_chunksize": self.run.manifest.chunksize,
            "source_job": self.run.job_id,
            "gather": self.gather,
            "own_function": bool(self.function),
        }


@dataclass(frozen=True)
class Waits:
    """What the jobs of a map wait for: entries of dependsOn for all of them, and one more for each."""

    common: tuple[JobDependencyTypeDef, ...] = ()
    own: tuple[str, ...] = ()

    def of(self, child: int) -> list[JobDependencyTypeDef]:
        """The dependsOn of a child's job."""
        own: list[JobDependencyTypeDef] = [{"jobId": self.own[child]}] if self.own and self.own[child] else []
        return [*self.common, *own]


def waits_of(depends_on: Sequence[str], source: Source | None, manifest: Manifest) -> Waits:
    """What the jobs of a run wait for.

    A source that has ended is not waited for: what there will ever be of its results is there.

    Raises
    ------
    CloudknotInputError
        They are more jobs than Batch takes.
    """
    common: list[JobDependencyTypeDef] = [{"jobId": job_id} for job_id in depends_on]
    live = source.live_job_ids() if source else []
    own: tuple[str, ...] = ()
    if source and live and manifest.job_type == _job_type(source) == "independent":
        # Also of those that were never submitted, so that each has its own place.
        own = tuple(job_id if job_id in live else "" for job_id in source.run.rounds.newest.job_ids)
    elif source and _chunks_match(source, live, manifest):
        common.append({"jobId": live[0], "type": "N_TO_N"})
    else:
        common.extend({"jobId": job_id} for job_id in live)
    waits = Waits(tuple(common), own)
    refuse_too_many(len(common) + bool(own))
    return waits


def _job_type(source: Source) -> str:
    """How the source's jobs were submitted; a retry is not one job for each element."""
    return "retry" if source.run.retried else source.run.manifest.job_type


def _chunks_match(source: Source, live: Sequence[str], manifest: Manifest) -> bool:
    """Whether each child can wait for the one child of the source that has its inputs."""
    theirs = source.run.manifest
    return (
        len(live) == 1
        and list(live) == source.run.newest_job_ids
        and not source.gather
        and manifest.job_type == _job_type(source) == "array"
        and manifest.chunksize == theirs.chunksize
        and manifest.children == theirs.children > 1
    )


def failed_dependencies(door: Door, depends_on: Sequence[Sequence[JobDependencyTypeDef]], child: int) -> str:
    """Of the jobs that a child waited for, those that failed, in words; empty when Batch knows none.

    ``depends_on`` holds what each SubmitJob of the run was given.
    """
    entries = depends_on[child if len(depends_on) > 1 else 0] if depends_on else ()
    ids = [f"{item['jobId']}:{child}" if item.get("type") == "N_TO_N" else item["jobId"] for item in entries]
    failed = (job for job in batch.describe_jobs(door, ids) if job["status"] == "FAILED")
    return " and ".join(f"{job['jobName']}, job {job['jobId']}" for job in failed)


def refuse_too_many(number: int) -> None:
    """Refuse more dependencies than a job can have."""
    if number > MAX_DEPENDENCIES:
        raise CloudknotInputError(
            f"This would have to wait for {number} Batch jobs, and a job can wait for {MAX_DEPENDENCIES} at most. "
            "Wait for them here first (future.result()), or make them one map with job_type='array'."
        )


def refuse_elsewhere(source: Source, bucket: str) -> None:
    """Refuse a source whose results a job cannot read."""
    if source.run.keys.bucket != bucket:
        raise CloudknotInputError(
            f"The results of job {source.run.job_id} are in the bucket {source.run.keys.bucket}, and this knot's jobs "
            f"use {bucket}. Pass the results themselves: map(future.result())."
        )
