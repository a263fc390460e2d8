"""History: find the jobs of a knot, including those of other sessions and of sessions that were killed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cloudknot.aws import batch
from cloudknot.deploy.account.buckets import clouds_of_all
from cloudknot.display.tables import table
from cloudknot.errors import CloudknotError, PermissionDeniedError, ResourceDoesNotExistException, StoredDataError
from cloudknot.options import streams
from cloudknot.run.collect.map_status import explain, only_waits
from cloudknot.run.jobs.job import BatchJob, recorded_job
from cloudknot.run.submit.ids import run_time
from cloudknot.run.submit.shared_objects import discard_unused
from cloudknot.run.submit.stored_documents import get_record
from cloudknot.run.submit.stored_runs import discard_abandoned, read_run, runs_of
from cloudknot.worker.wire.keys import RUNS, RunKeys

if TYPE_CHECKING:
    from cloudknot.aws import Cloud
    from cloudknot.worker.wire.manifest import Record

MAX_REASONS = 5
"""Waiting jobs for which the table shows a reason. Batch gives reasons only for jobs at the head of a queue."""

SUBMISSION_TIME = timedelta(days=1)
"""Age of a run without a job at which this session stops looking for one."""


@dataclass(frozen=True)
class JobStatus:
    """A job with its state in Batch, and a sentence that explains why it waits; empty without a reason."""

    job: BatchJob
    status: str
    explanation: str = ""


def jobs_table(cloud: Cloud, jobs: Sequence[BatchJob]) -> str:
    """Return a table of jobs with the columns Job ID, Name and Status.

    Below the table are Batch's reasons why the oldest waiting jobs cannot start.
    """
    found = job_statuses(cloud, jobs)
    rows = [(item.job.job_id, item.job.name, item.status) for item in found]
    return "\n".join([table(("Job ID", "Name", "Status"), rows), *filter(None, (item.explanation for item in found))])


def job_statuses(cloud: Cloud, jobs: Sequence[BatchJob]) -> list[JobStatus]:
    """Return the jobs with their states in Batch, and the reasons why the oldest waiting ones cannot start."""
    # One request describes a hundred jobs; `BatchJob.status` would cost a request each.
    described = {job["jobId"]: job for job in batch.describe_jobs(cloud.door, [j.job_id for j in jobs])}
    found, reasons_left = [], MAX_REASONS
    for job in jobs:
        description = described.get(job.job_id) if len(job._record["job_ids"]) == 1 else None
        if description and description["status"] == "FAILED":
            # Another session may have retried it. Then the status is that of the retry.
            description = None
        status, reason = batch.state_of([description]) if description else str(job.status), ""
        if reasons_left and only_waits(batch.count_states([description]) if description else {status: 1}):
            reasons_left -= 1
            reason = job._view.reason_of_waiting()
        found.append(JobStatus(job, status, explain(job.name, reason) if reason else ""))
    return found


def find_jobs(clouds: Iterable[Cloud], knot: str, cached_jobs: dict[str, BatchJob | None]) -> list[BatchJob]:
    """Return the jobs of a knot, oldest first.

    Parameters
    ----------
    clouds : iterable of Cloud
        One for each bucket that the knot has had, its present one first: see `cloudknot.deploy.account.buckets`.
    knot : str
    cached_jobs : dict
        Jobs by run id; None for a run without a job. These are not read again, and new ones are added.

    Raises
    ------
    PermissionDeniedError
        The credentials do not allow reading the present bucket. For an earlier bucket it is a warning.
    """
    jobs: dict[str, BatchJob] = {}
    for number, cloud in enumerate(clouds):
        try:
            jobs.update(_jobs_in(cloud, knot, cached_jobs))
        except PermissionDeniedError as error:
            if number == 0:
                raise
            streams.logger.warning(
                "The jobs of the knot %r in its earlier bucket %s are not listed: %s", knot, cloud.bucket, error
            )
    return [jobs[run_id] for run_id in sorted(jobs)]


def _jobs_in(cloud: Cloud, knot: str, cached_jobs: dict[str, BatchJob | None]) -> dict[str, BatchJob]:
    """Return the jobs in one bucket, by run id."""
    runs = runs_of(cloud, knot)
    for keys in runs:
        if keys.run_id not in cached_jobs:
            try:
                job = _read_job(cloud, keys)
            except StoredDataError as error:
                # One damaged run must not cost the list of the others.
                streams.logger.warning("The run %s of the knot %r is not listed. %s", keys.run_id, knot, error)
                cached_jobs[keys.run_id] = None
                continue
            # Another session may still be submitting a young run, so only an old one is cached as "no job".
            if job is not None or run_time(keys.run_id) < datetime.now(UTC) - SUBMISSION_TIME:
                cached_jobs[keys.run_id] = job
    return {keys.run_id: job for keys in runs if (job := cached_jobs.get(keys.run_id)) is not None}


def find_ended(cloud: Cloud, before: datetime) -> list[BatchJob]:
    """Return the jobs of all knots that have ended and were submitted before a time."""
    found = []
    for place in clouds_of_all(cloud):
        for knot in place.storage.folders(f"{RUNS}/"):
            jobs = find_jobs([place], knot, {})
            found += [job for job in jobs if run_time(job.keys.run_id) < before and job.done]
    return found


def discard_leftovers(cloud: Cloud, knot: str, cached_jobs: dict[str, BatchJob | None]) -> None:
    """Delete runs without a job that are a week old, and shared objects that no run uses. Killed sessions leave both.

    Parameters
    ----------
    cloud : Cloud
    knot : str
    cached_jobs : dict
        As `find_jobs` has filled it. Deleted runs are removed from it.
    """
    unsubmitted = [run_id for run_id, job in cached_jobs.items() if job is None]
    leftovers = [RunKeys.of(cloud.storage.bucket, knot, run_id) for run_id in unsubmitted]
    for run_id in discard_abandoned(cloud, leftovers):
        del cached_jobs[run_id]
    # Listing jobs must not fail because cleaning up does. The next listing tries again.
    with suppress(CloudknotError):
        discard_unused(cloud.storage, knot)


def _read_job(cloud: Cloud, keys: RunKeys) -> BatchJob | None:
    """Return the job of a run; None if it has none."""
    # A complete record is enough, and saves reading the manifest. Only an incomplete one needs a call to Batch.
    record: Record | None
    try:
        record = get_record(cloud.storage, keys.submission)
    except (ResourceDoesNotExistException, StoredDataError):
        record = None
    if record is None or len(record["job_ids"]) < record["jobs"] or not all(record["job_ids"]):
        stored = read_run(cloud, keys)
        record = stored[1] if stored else None
    return recorded_job(cloud, keys, record) if record else None
