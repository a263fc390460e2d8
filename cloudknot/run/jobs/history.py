"""A knot's jobs: those of this session, of others, and of sessions that ended before they had written a record."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cloudknot.aws import batch
from cloudknot.display.tables import table
from cloudknot.errors import CloudknotError, PermissionDeniedError, ResourceDoesNotExistException
from cloudknot.run.collect.map_status import explain, only_waits
from cloudknot.run.jobs.job import BatchJob, recorded_job
from cloudknot.run.submit.ids import run_time
from cloudknot.run.submit.shared_objects import discard_unused
from cloudknot.run.submit.stored_runs import discard_abandoned, read_run, runs_of
from cloudknot.worker.wire.keys import RunKeys

if TYPE_CHECKING:
    from cloudknot.aws import Cloud

ASKED = 5
"""Jobs that wait of which Batch is asked why: it gives the reason of those at the head of a queue."""
_log = logging.getLogger("cloudknot")

STILL_COMING = timedelta(days=1)
"""Age from which a run without a job is not looked at again in this session."""


def jobs_table(cloud: Cloud, jobs: Sequence[BatchJob]) -> str:
    """A table of jobs: Job ID, Name, Status. Batch is asked once for every hundred jobs.

    Below it stands why jobs cannot start, where Batch says so; it is asked about the oldest few of those that wait.
    """
    described = {job["jobId"]: job for job in batch.describe_jobs(cloud.door, [j.job_id for j in jobs])}
    rows, waiting = [], []
    for job in jobs:
        known = described.get(job.job_id) if len(job._record["job_ids"]) == 1 else None
        if known and known["status"] == "FAILED":
            # Another session may have asked for a retry.
            known = None
        rows.append((job.job_id, job.name, status := known["status"] if known else job.status))
        if only_waits(batch.count_states([known]) if known else {status: 1}):
            waiting.append(job)
    reasons = [(job.name, job._view.reason_of_waiting()) for job in waiting[:ASKED]]
    why = [explain(name, reason) for name, reason in reasons if reason]
    return "\n".join([table(("Job ID", "Name", "Status"), rows), *why])


def find_jobs(clouds: Iterable[Cloud], knot: str, known: dict[str, BatchJob | None]) -> list[BatchJob]:
    """The jobs of a knot, oldest first, from each of the buckets that it has had (`cloudknot.deploy.account.buckets`).

    A bucket that may not be read is told in a warning, unless it is the first, the knot's own. ``known`` holds jobs
    by run id, None for a run that has none: they are not read again, and what is found is added.
    """
    found: dict[str, BatchJob] = {}
    for number, cloud in enumerate(clouds):
        try:
            found.update(_jobs_in(cloud, knot, known))
        except PermissionDeniedError as error:
            if number == 0:
                raise
            _log.warning("Jobs of the knot %r in the bucket %s are not shown: %s", knot, cloud.bucket, error)
    return [found[run_id] for run_id in sorted(found)]


def _jobs_in(cloud: Cloud, knot: str, known: dict[str, BatchJob | None]) -> dict[str, BatchJob]:
    """The jobs in one bucket, by run id."""
    runs = runs_of(cloud, knot)
    for keys in runs:
        if keys.run_id not in known:
            job = _read_job(cloud, keys)
            if job is not None or run_time(keys.run_id) < datetime.now(UTC) - STILL_COMING:
                known[keys.run_id] = job
    return {keys.run_id: job for keys in runs if (job := known.get(keys.run_id)) is not None}


def discard_left_over(cloud: Cloud, knot: str, known: dict[str, BatchJob | None]) -> None:
    """Delete what killed sessions have left, once it is old enough.

    That are runs which `find_jobs` has found without a job, and what several runs share when none is there any more.
    """
    unsubmitted = [run_id for run_id, job in known.items() if job is None]
    for run_id in discard_abandoned(cloud, [RunKeys.of(cloud.storage.bucket, knot, each) for each in unsubmitted]):
        del known[run_id]
    with suppress(CloudknotError):
        discard_unused(cloud.storage, knot)


def _read_job(cloud: Cloud, keys: RunKeys) -> BatchJob | None:
    """The job of a run; its record alone is read where that tells all."""
    try:
        record = json.loads(cloud.storage.get(keys.submission))
    except ResourceDoesNotExistException:
        record = None
    if record is None or len(record["job_ids"]) < record.get("jobs", 1) or not all(record["job_ids"]):
        found = read_run(cloud, keys)
        record = found[1] if found else None
    return recorded_job(cloud, keys, record) if record else None
