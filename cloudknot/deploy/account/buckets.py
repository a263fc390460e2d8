"""Find the buckets with the runs of a knot, or of all knots, in the revisions of job definitions.

Each revision names the bucket of its maps. So a session finds all runs, even if its own settings name another bucket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloudknot.aws import batch, clients
from cloudknot.deploy.cloudformation.stack import Stack
from cloudknot.deploy.inventory import is_of, stack_name
from cloudknot.deploy.job_definition import BucketName, buckets_named

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud

# Batch shows inactive revisions for 180 days. They name the buckets of clobbered knots, where results may remain.
# A list of our own could become outdated, and these can be read even with the policy `run`.
STATES = ("ACTIVE", "INACTIVE")


def clouds_of(cloud: Cloud, definition: str) -> list[Cloud]:
    """Return the cloud in each bucket that a job definition has had, ``cloud`` itself first."""
    paginator = clients.batch(cloud).get_paginator("describe_job_definitions")
    pages = paginator.paginate(jobDefinitionName=definition)
    return _in_each(cloud, buckets_named(revision for page in pages for revision in page["jobDefinitions"]))


def clouds_of_knot(cloud: Cloud, name: str) -> list[Cloud]:
    """Return the cloud in each bucket of a knot, even a clobbered one, ``cloud`` itself first."""
    state = Stack(cloud, stack_name(name)).state()
    if state and "JobDefinitionName" in state.parameters:
        return clouds_of(cloud, state.parameters["JobDefinitionName"])
    # Without the stack, the name of the job definition is unknown. So look through all revisions of the region.
    revisions = (revision for status in STATES for revision in batch.job_definitions(cloud, status))
    return _in_each(cloud, buckets_named(revision for revision in revisions if is_of(revision, stack_name(name))))


def clouds_of_all(cloud: Cloud) -> list[Cloud]:
    """Return the cloud in each bucket of all knots in the region, ``cloud`` itself first."""
    return _in_each(
        cloud, buckets_named(revision for status in STATES for revision in batch.job_definitions(cloud, status))
    )


def _in_each(cloud: Cloud, buckets: list[BucketName]) -> list[Cloud]:
    return [cloud, *(cloud.in_bucket(*bucket) for bucket in buckets if bucket.name != cloud.bucket)]
