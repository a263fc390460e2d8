"""Futures, jobs and job ids as arguments of `Knot.map`: results of another map as elements, and ``depends_on``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from cloudknot.errors import CloudknotInputError
from cloudknot.run.collect.map_future import MapFuture
from cloudknot.run.jobs.job import BatchJob
from cloudknot.run.submit.dependencies import Source, refuse_too_many


def as_elements(iterdata: Iterable[object] | BatchJob) -> Iterable[object] | Source:
    """Return the elements of a map; for another map's future or job, its results, wherever they are by then."""
    if isinstance(iterdata, MapFuture):
        if iterdata.job is None:
            return ()
        iterdata = cast("BatchJob", iterdata.job)
    return iterdata._source() if isinstance(iterdata, BatchJob) else iterdata


def job_ids_of(jobs: object) -> list[str]:
    """Return the Batch job ids of one or several futures, jobs or ids.

    Raises
    ------
    CloudknotInputError
        One of them is none of these, or they are more than Batch takes.
    """
    found: list[str] = []
    several = isinstance(jobs, Iterable) and not isinstance(jobs, str | MapFuture)
    for item in jobs if isinstance(jobs, Iterable) and several else [jobs]:
        job = item.job if isinstance(item, MapFuture) else item
        if isinstance(job, str):
            found.append(job)
        elif isinstance(job, BatchJob):
            found += _known_job_ids(job)
        elif item is None or job is not None:
            raise CloudknotInputError(f"depends_on takes futures of `map`, jobs or job ids, not {item!r}.")
    refuse_too_many(len(found))
    return found


def _known_job_ids(job: BatchJob) -> list[str]:
    """Return the ids of a job that Batch can wait for: without those that it has forgotten, whose ends are long past.

    Raises
    ------
    CloudknotInputError
        Of what was forgotten, not all has a value, so a dependent must not run.
    """
    view = job._view
    known = {*view.live_job_ids(), *(each["jobId"] for each in view.describe_jobs())}
    forgotten = [job_id for job_id in job.job_ids if job_id not in known]
    if forgotten and not view.all_have_values():
        raise CloudknotInputError(
            f"depends_on: the job {forgotten[0]} did not end well, and AWS Batch has forgotten it since. Run again "
            "what failed of it (retry_failed()) and wait for that, or leave it out."
        )
    return [job_id for job_id in job.job_ids if job_id in known]
