"""Dependencies of a map: other Batch jobs, and the source run if its results are the elements.

The results of a source run are already in S3, so they never pass through the client.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cloudknot.aws import batch
from cloudknot.errors import refuse

if TYPE_CHECKING:
    from types_boto3_batch.type_defs import JobDependencyTypeDef

    from cloudknot.aws.door import Door
    from cloudknot.run.submit.rounds import Run
    from cloudknot.worker.wire.manifest import Manifest

MAX_DEPENDENCIES = 20
"""Dependencies of one job, at most (Batch user guide, "Service quotas")."""


@dataclass(frozen=True, eq=False)
class Source:
    """A run whose results are the elements of another run.

    Attributes
    ----------
    run : Run
    live_job_ids : callable
        Returns the ids of the jobs in the newest round that have not ended. It calls Batch.
    gather : bool
        Whether the list of all results is the only element. Otherwise each result is one.
    function : bytes
        A function that replaces the one in the image, as the worker reads it. Empty for the image's own.
    """

    run: Run
    live_job_ids: Callable[[], list[str]]
    gather: bool = False
    function: bytes = b""

    @property
    def count(self) -> int:
        """Number of elements for the other run."""
        return 1 if self.gather else self.run.manifest.count

    def manifest_fields(self) -> dict[str, object]:
        """Return the fields of the other run's manifest that describe its source run."""
        return {
            "source": self.run.keys.url,
            "source_count": self.run.manifest.count,
            "source_chunksize": self.run.manifest.chunksize,
            "source_job": self.run.job_id,
            "source_version": self.run.manifest.version,
            "gather": self.gather,
            "own_function": bool(self.function),
        }


@dataclass(frozen=True)
class Dependencies:
    """The dependencies of the jobs of a map: common ones, and with independent jobs one more job id for each child."""

    common: tuple[JobDependencyTypeDef, ...] = ()
    per_child: tuple[str, ...] = ()

    def of(self, child: int) -> list[JobDependencyTypeDef]:
        """Return ``dependsOn`` for the SubmitJob request of a child."""
        job_id = self.per_child[child] if self.per_child else ""
        own: list[JobDependencyTypeDef] = [{"jobId": job_id}] if job_id else []
        return [*self.common, *own]


def dependencies_of(depends_on: Sequence[str], source: Source | None, manifest: Manifest) -> Dependencies:
    """Return the dependencies for the jobs of a run.

    Parameters
    ----------
    depends_on : sequence of str
        Ids of Batch jobs.
    source : Source or None
    manifest : Manifest
        Of the run that waits.

    Raises
    ------
    CloudknotInputError
        The jobs are more than Batch allows.
    """
    common: list[JobDependencyTypeDef] = [{"jobId": job_id} for job_id in depends_on]
    # An ended source run is left out. Batch would fail the map for one failed element of it, or refuse an id that it
    # has forgotten. All results that will ever exist are in S3 already.
    live = source.live_job_ids() if source else []
    per_child: tuple[str, ...] = ()
    if source and live and manifest.job_type == _job_type(source) == "independent":
        # Jobs that were never submitted keep their place, so that each position is its child's.
        per_child = tuple(job_id if job_id in live else "" for job_id in source.run.rounds.newest.job_ids)
    elif source and _chunks_match(source, live, manifest):
        # Each child starts when its own input is stored, and a failure stays with one child.
        common.append({"jobId": live[0], "type": "N_TO_N"})
    else:
        common.extend({"jobId": job_id} for job_id in live)
    refuse_too_many(len(common) + bool(per_child))
    return Dependencies(tuple(common), per_child)


def _job_type(source: Source) -> str:
    """Return how the newest round of the source run was submitted."""
    # A retry is an array of the failed elements, so its children do not match those of another map.
    return "retry" if source.run.retried else source.run.manifest.job_type


def _chunks_match(source: Source, live: Sequence[str], manifest: Manifest) -> bool:
    """Return whether child n of the run needs only the results of child n of the source run."""
    source_manifest = source.run.manifest
    return (
        len(live) == 1
        and list(live) == source.run.newest_job_ids
        and not source.gather
        and manifest.job_type == _job_type(source) == "array"
        and manifest.chunksize == source_manifest.chunksize
        and manifest.children == source_manifest.children > 1
    )


def failed_dependencies(door: Door, depends_on: Sequence[Sequence[JobDependencyTypeDef]], child: int) -> str:
    """Return the names and ids of the failed jobs that a child waited for, as words for an error.

    Parameters
    ----------
    door : Door
    depends_on : sequence
        ``dependsOn`` of each SubmitJob request of the round: one, or one for each independent job.
    child : int
        The number of the child in its round.

    Returns
    -------
    str
        Empty if none has failed, or Batch has forgotten them.
    """
    entries = depends_on[child if len(depends_on) > 1 else 0] if depends_on else ()
    ids = [f"{item['jobId']}:{child}" if item.get("type") == "N_TO_N" else item["jobId"] for item in entries]
    failed = (job for job in batch.describe_jobs(door, ids) if job["status"] == "FAILED")
    return " and ".join(f"{job['jobName']}, job {job['jobId']}" for job in failed)


def refuse_too_many(number: int) -> None:
    """Raise `CloudknotInputError` for more dependencies than a job can have."""
    if number > MAX_DEPENDENCIES:
        refuse(
            problem=f"The new job would wait for {number} Batch jobs.",
            cause=f"A Batch job can wait for {MAX_DEPENDENCIES} others at most.",
            fix="Wait for some of them here first with future.result(), or submit them as one map with "
            "job_type='array'.",
        )


def refuse_other_bucket(source: Source, bucket: str) -> None:
    """Raise `CloudknotInputError` if the results of the source run are not in the bucket that the jobs can read."""
    if source.run.keys.bucket != bucket:
        refuse(
            problem=f"The results of the job {source.run.job_id} are in the bucket {source.run.keys.bucket}, which "
            "the jobs of this knot cannot read.",
            cause=f"They use the bucket {bucket}.",
            fix="Pass the results themselves: knot.map(future.result()).",
        )
