"""Futures and jobs as arguments of `Knot.map`: the results of another map as elements, and ``depends_on``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from cloudknot.errors import refuse
from cloudknot.run.collect.map_future import MapFuture
from cloudknot.run.jobs.job import BatchJob
from cloudknot.run.submit.dependencies import Source, refuse_too_many


def as_elements(iterdata: Iterable[object] | BatchJob) -> Iterable[object] | Source:
    """Return the elements for a map. The future or job of another map stands for its results."""
    if isinstance(iterdata, MapFuture):
        if iterdata.job is None:
            return ()
        iterdata = cast("BatchJob", iterdata.job)
    return iterdata._source() if isinstance(iterdata, BatchJob) else iterdata


def job_ids_of(jobs: object) -> list[str]:
    """Return the Batch job ids of the value of ``depends_on``.

    Parameters
    ----------
    jobs : MapFuture, BatchJob, str, or an iterable of them

    Raises
    ------
    CloudknotInputError
        A value has another type, a job has failed elements, or Batch cannot wait for so many jobs.
    """
    job_ids: list[str] = []
    # A future and a string are iterable too, but each stands for one job.
    is_sequence = isinstance(jobs, Iterable) and not isinstance(jobs, str | MapFuture)
    for item in jobs if isinstance(jobs, Iterable) and is_sequence else [jobs]:
        job = item.job if isinstance(item, MapFuture) else item
        if isinstance(job, str):
            job_ids.append(job)
        elif isinstance(job, BatchJob):
            job_ids += _waitable_job_ids(job)
        elif item is None or job is not None:
            refuse(
                problem=f"depends_on has {item!r}, and this is not a job.",
                fix="Pass a future of map, a job, a job id, or a list of them.",
            )
    refuse_too_many(len(job_ids))
    return job_ids


def _waitable_job_ids(job: BatchJob) -> list[str]:
    """Return the ids of a job that Batch still remembers.

    Raises
    ------
    CloudknotInputError
        Batch has forgotten the job, and some of its elements have no value.
    """
    view = job._view
    remembered = {*view.live_job_ids(), *(description["jobId"] for description in view.describe_jobs())}
    forgotten = [job_id for job_id in job.job_ids if job_id not in remembered]
    # Batch refuses a dependency on a job that it has forgotten. A successful one has ended, and can be left out.
    if forgotten and view.count_outcomes()[0] < view.run.manifest.count:
        refuse(
            problem=f"depends_on has the job {forgotten[0]}, which ended without a result for some elements.",
            cause="AWS Batch forgets a job some days after its end, and can no longer wait for this one.",
            fix="Run these elements again with retry_failed() and pass the future that it returns, or remove "
            "the job from depends_on.",
        )
    return [job_id for job_id in job.job_ids if job_id in remembered]
