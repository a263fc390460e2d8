"""The runs of a knot as S3 and Batch know them: which were submitted, and where a job's run is.

A session that ended half-way leaves one of these: inputs without a manifest, whose upload had not ended; a manifest
without a job, which was not submitted; or a job without a record, which is found by its name and recorded here. The
first two were never runs; `discard_abandoned` deletes them when they are old.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cloudknot.aws import batch
from cloudknot.deploy.account.buckets import clouds_of_all
from cloudknot.errors import CloudknotError, PermissionDeniedError, ResourceDoesNotExistException
from cloudknot.run.submit.ids import ABANDONED, run_time
from cloudknot.run.submit.shared_objects import release
from cloudknot.run.submit.submit_job import Submission, read_record
from cloudknot.worker.wire.keys import RUNS, SHARED, RunKeys
from cloudknot.worker.wire.manifest import Manifest, Record

if TYPE_CHECKING:
    from cloudknot.aws import Cloud


def runs_of(cloud: Cloud, knot: str) -> list[RunKeys]:
    """The runs of a knot that S3 holds something of, oldest first."""
    prefix = f"{RUNS}/{knot}/"
    found = set(cloud.storage.folders(prefix)) - {SHARED}
    return [RunKeys(cloud.storage.bucket, prefix + run_id) for run_id in sorted(found)]


def read_run(cloud: Cloud, keys: RunKeys) -> tuple[Manifest, Record] | None:
    """The manifest and the record of a run; None of one that was not submitted, or not yet, or is being deleted."""
    try:
        manifest = Manifest.from_json(cloud.storage.get(keys.manifest))
    except ResourceDoesNotExistException:
        return None
    if manifest.clobbered:
        return None
    record = read_record(cloud, Submission(keys, manifest))
    return (manifest, record) if record else None


def discard_abandoned(cloud: Cloud, runs: Iterable[RunKeys], now: datetime | None = None) -> list[str]:
    """Delete what was stored for those of some runs that were never submitted and never will be; return their ids.

    What has results is left alone, whoever submitted it. What goes wrong is left to the next time.
    """
    gone: list[str] = []
    long_ago = (now or datetime.now(UTC)) - ABANDONED
    with suppress(CloudknotError):
        for keys in (keys for keys in runs if run_time(keys.run_id) < long_ago):
            if _is_abandoned(cloud, keys):
                discard_run(cloud, keys)
                gone.append(keys.run_id)
    return gone


def _is_abandoned(cloud: Cloud, keys: RunKeys) -> bool:
    with suppress(ResourceDoesNotExistException):
        if Manifest.from_json(cloud.storage.get(keys.manifest)).clobbered:
            return True
    known = cloud.storage.keys(f"{keys.prefix}/")
    return not any(key == keys.submission or key.startswith(keys.outputs) for key in known) and not read_run(
        cloud, keys
    )


def read_manifest(cloud: Cloud, keys: RunKeys, job_id: str) -> bytes:
    """The manifest of a job's run, as it is stored.

    Raises
    ------
    ResourceDoesNotExistException
        The run was deleted, or not all of it so far.
    """
    try:
        stored = cloud.storage.get(keys.manifest)
    except ResourceDoesNotExistException as error:
        raise _clobbered(keys, job_id) from error
    if Manifest.from_json(stored).clobbered:
        raise _clobbered(keys, job_id)
    return stored


def _clobbered(keys: RunKeys, job_id: str) -> ResourceDoesNotExistException:
    return ResourceDoesNotExistException(
        f"The job {job_id} was clobbered, or its knot with its results: its inputs and results ({keys.url}) are gone. "
        "Map again."
    )


def discard_run(cloud: Cloud, keys: RunKeys) -> None:
    """Delete all that is stored of a run. Can be repeated.

    The manifest says so first and goes last: nobody takes for whole what is not any more, or was left half deleted.
    """
    storage = cloud.storage
    with suppress(ResourceDoesNotExistException):
        manifest = Manifest.from_json(storage.get(keys.manifest))
        storage.put(keys.manifest, replace(manifest, clobbered=True).to_json().encode())
        if manifest.kwargs:
            release(storage, manifest.kwargs, keys.run_id)
    for page in storage.pages(f"{keys.prefix}/"):
        if others := [each.key for each in page if each.key != keys.manifest]:
            storage.delete(*others)
    storage.delete(keys.manifest)


def find_run(cloud: Cloud, job_id: str) -> RunKeys:
    """Where the run of a job is: Batch knows for some days, S3 for as long as the results are kept.

    Raises
    ------
    ResourceDoesNotExistException
        cloudknot did not submit a job of that id.
    """
    parent = job_id.partition(":")[0]
    for described in batch.describe_jobs(cloud.door, [parent]):
        command = described.get("container", {}).get("command") or [""]
        if command[-1].startswith("s3://"):
            return RunKeys.parse(command[-1])
    clouds, closed = clouds_of_all(cloud), []
    for each in clouds:
        try:
            if found := _search(each, parent):
                return found
        except PermissionDeniedError as error:
            if each is cloud:
                raise
            closed.append(f" The bucket {each.bucket} was not searched: {error}")
    raise ResourceDoesNotExistException(
        f"There is no job {job_id!r} of cloudknot in {', '.join(each.bucket for each in clouds)}. `Knot(name).jobs` "
        f"lists a knot's jobs.{''.join(closed)}"
    )


def _search(cloud: Cloud, job_id: str) -> RunKeys | None:
    """The run of a job that Batch has forgotten, if it is in the cloud's bucket."""
    for knot in cloud.storage.folders(f"{RUNS}/"):
        for keys in runs_of(cloud, knot):
            found = read_run(cloud, keys)
            if found and job_id in found[1]["job_ids"]:
                return keys
    return None
