"""Stored runs: find, read and delete the runs of a knot in S3.

A killed session can leave inputs without a manifest, or a manifest without a job. Neither is a run, and
`discard_abandoned` deletes them when they are old. A job without a record is a run: its job is found by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cloudknot.aws import batch
from cloudknot.deploy.account.buckets import clouds_of_all
from cloudknot.deploy.account.rights import check_deletion_of_objects
from cloudknot.errors import CloudknotError, PermissionDeniedError, ResourceDoesNotExistException, StoredDataError
from cloudknot.run.submit.ids import ABANDONED, is_run_id, run_time
from cloudknot.run.submit.shared_objects import release
from cloudknot.run.submit.stored_documents import get_manifest, parse_manifest
from cloudknot.run.submit.submit_job import Submission, read_record
from cloudknot.worker.wire.container import MANIFEST_VARIABLE
from cloudknot.worker.wire.keys import RUNS, RunKeys
from cloudknot.worker.wire.manifest import Manifest, Record

if TYPE_CHECKING:
    from types_boto3_batch.type_defs import ContainerDetailTypeDef

    from cloudknot.aws import Cloud


def runs_of(cloud: Cloud, knot: str) -> list[RunKeys]:
    """Return the keys of all runs of a knot with objects in the bucket, oldest first."""
    prefix = f"{RUNS}/{knot}/"
    # Run ids sort by time. The folder of shared objects, and foreign folders, lie beside the runs.
    run_ids = filter(is_run_id, cloud.storage.folders(prefix))
    return [RunKeys(cloud.storage.bucket, prefix + run_id) for run_id in sorted(run_ids)]


def all_runs(cloud: Cloud) -> Counter[str]:
    """Return the number of runs of each knot, in the buckets of all knots."""
    runs: Counter[str] = Counter()
    for place in clouds_of_all(cloud):
        for knot in place.storage.folders(f"{RUNS}/"):
            runs[knot] += len(runs_of(place, knot))
    return +runs


def read_run(cloud: Cloud, keys: RunKeys) -> tuple[Manifest, Record] | None:
    """Return the manifest and the record of a run; None if it is not submitted, or is being deleted.

    Raises
    ------
    StoredDataError
        The manifest is damaged, or a newer cloudknot stored it.
    """
    try:
        manifest = get_manifest(cloud.storage, keys.manifest)
    except ResourceDoesNotExistException:
        return None
    if manifest.clobbered:
        return None
    record = read_record(cloud, Submission(keys, manifest))
    return (manifest, record) if record else None


def discard_abandoned(cloud: Cloud, runs: Iterable[RunKeys], now: datetime | None = None) -> list[str]:
    """Delete those of the runs that are older than a week and were never submitted. Return their ids."""
    discarded: list[str] = []
    long_ago = (now or datetime.now(UTC)) - ABANDONED
    # After an error the next call deletes the rest.
    with suppress(CloudknotError):
        for keys in (keys for keys in runs if run_time(keys.run_id) < long_ago):
            # A damaged manifest may be that of a submitted run.
            with suppress(StoredDataError):
                if _is_abandoned(cloud, keys):
                    discard_run(cloud, keys)
                    discarded.append(keys.run_id)
    return discarded


def _is_abandoned(cloud: Cloud, keys: RunKeys) -> bool:
    """Return whether a run was never submitted, or is already half deleted."""
    with suppress(ResourceDoesNotExistException):
        if get_manifest(cloud.storage, keys.manifest).clobbered:
            return True
    stored = cloud.storage.keys(f"{keys.prefix}/")
    # A run with a record or with results was submitted, even if Batch has forgotten its jobs.
    return not any(key == keys.submission or key.startswith(keys.outputs) for key in stored) and not read_run(
        cloud, keys
    )


def read_manifest(cloud: Cloud, keys: RunKeys, job_id: str) -> bytes:
    """Return the manifest of a run as it is stored.

    Raises
    ------
    ResourceDoesNotExistException
        The run was deleted, at least in part. The message names ``job_id``.
    StoredDataError
        The manifest is damaged, or a newer cloudknot stored it.
    """
    try:
        stored = cloud.storage.get(keys.manifest)
    except ResourceDoesNotExistException as error:
        raise _clobbered(keys, job_id) from error
    if parse_manifest(cloud.storage, keys.manifest, stored).clobbered:
        raise _clobbered(keys, job_id)
    return stored


def _clobbered(keys: RunKeys, job_id: str) -> ResourceDoesNotExistException:
    return ResourceDoesNotExistException(
        f"The job {job_id} was clobbered, alone or with its knot. Its inputs and results in {keys.url} were deleted. "
        "Map again.",
        resource_id=job_id,
    )


def discard_run(cloud: Cloud, keys: RunKeys) -> None:
    """Delete all objects of a run. After an interruption, another call deletes the rest."""
    storage = cloud.storage
    # The manifest is marked first and deleted last, so a half-deleted run is never mistaken for a complete one.
    # A damaged one says nothing about shared objects. Their marks of a deleted run are found later.
    with suppress(ResourceDoesNotExistException, StoredDataError):
        manifest = get_manifest(storage, keys.manifest)
        storage.put(keys.manifest, replace(manifest, clobbered=True).to_document(keys.manifest))
        if manifest.kwargs:
            release(storage, manifest.kwargs, keys.run_id)
    for page in storage.pages(f"{keys.prefix}/"):
        if other_keys := [stored.key for stored in page if stored.key != keys.manifest]:
            storage.delete(*other_keys)
    storage.delete(keys.manifest)


def check_discarding(cloud: Cloud, keys: RunKeys) -> None:
    """Check that `discard_run` may change and delete the objects of a run. Changes nothing.

    Raises
    ------
    PermissionDeniedError
        The credentials do not allow it.
    ResourceDoesNotExistException
        The run is deleted already, at least its manifest.
    """
    # S3 checks the right to store an object before the condition that no object has its key.
    cloud.storage.put_new(keys.manifest, cloud.storage.get(keys.manifest))
    check_deletion_of_objects(cloud, keys.prefix)


def find_run(cloud: Cloud, job_id: str) -> RunKeys:
    """Return the keys of the run of a job.

    Raises
    ------
    ResourceDoesNotExistException
        cloudknot did not submit a job with this id, or the run was deleted.
    PermissionDeniedError
        The credentials do not allow searching the bucket of ``cloud``.
    """
    parent = job_id.partition(":")[0]
    # One request while Batch remembers the job, which is some days. After that, S3 is searched knot by knot.
    for description in batch.describe_jobs(cloud.door, [parent]):
        container = description.get("container", {})
        command = container.get("command") or [""]
        if command[-1].startswith("s3://"):
            found = RunKeys.parse(command[-1])
            cloud.door.owners.name(found.bucket, _owner_in(container))
            return found
    clouds, denied = clouds_of_all(cloud), []
    for bucket_cloud in clouds:
        try:
            if keys := _search(bucket_cloud, parent):
                return keys
        except PermissionDeniedError as error:
            # A bucket of other knots may be closed to this user. The error names it, because the job may be in there.
            if bucket_cloud is cloud:
                raise
            denied.append(f" The bucket {bucket_cloud.bucket} was not searched: {error}")
    raise ResourceDoesNotExistException(
        f"cloudknot has no job {job_id!r} in {cloud.place}. It searched the buckets of all knots: "
        f"{', '.join(bucket_cloud.bucket for bucket_cloud in clouds)}. List the jobs of a knot: "
        f"`{cloud.command('jobs NAME')}`.{''.join(denied)}",
        resource_id=job_id,
    )


def _owner_in(container: ContainerDetailTypeDef) -> str:
    """Return the owner of the run's bucket from the variables of a job; empty in one of an earlier version."""
    variables = {item.get("name"): item.get("value") for item in container.get("environment", ())}
    manifest = variables.get(MANIFEST_VARIABLE)
    return Manifest.from_json(manifest).owner if manifest else ""


def _search(cloud: Cloud, job_id: str) -> RunKeys | None:
    """Return the keys of the run in this bucket whose record names the job; None if no record does."""
    for knot in cloud.storage.folders(f"{RUNS}/"):
        for keys in runs_of(cloud, knot):
            # The run of another job may be damaged.
            with suppress(StoredDataError):
                run = read_run(cloud, keys)
                if run and job_id in run[1]["job_ids"]:
                    return keys
    return None
