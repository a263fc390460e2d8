"""Find the revisions of job definitions that stored runs may still use."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from cloudknot.deploy.account.buckets import clouds_of_knot
from cloudknot.deploy.inventory import list_knots
from cloudknot.run.jobs.history import find_jobs, job_statuses
from cloudknot.run.submit.ids import run_time

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud


def needed_revisions(cloud: Cloud, since: datetime) -> set[str]:
    """Return the ARNs of revisions that a later call may submit again.

    `retry_failed` uses the revision of its run, so those of all runs that have not succeeded are needed. `reduce` uses
    it, too, so those of all runs after ``since`` are needed. Runs of clobbered knots need none: they have no queue.

    Raises
    ------
    PermissionDeniedError
        The credentials do not allow reading a bucket of a knot, so its runs are unknown.
    """
    needed = set()
    for knot in list_knots(cloud):
        # Bucket by bucket, because a listing of several only warns of one that may not be read.
        for place in clouds_of_knot(cloud, knot.name):
            for found in job_statuses(place, find_jobs([place], knot.name, {})):
                if found.status != "SUCCEEDED" or run_time(found.job.keys.run_id) >= since:
                    needed.add(found.job.job_definition)
    return needed
