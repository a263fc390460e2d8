"""Which buckets hold the runs of a knot, and of all knots: the revisions of job definitions tell.

Each revision names the bucket that its maps use. Batch shows those that can be submitted, and for 180 days those of
knots that were clobbered; so the runs are found from any machine, whatever bucket its settings name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloudknot.aws import clients
from cloudknot.deploy.cloudformation.stack import Stack
from cloudknot.deploy.inventory import is_of, job_definitions, stack_name
from cloudknot.deploy.job_definition import buckets_named

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud

STATES = ("ACTIVE", "INACTIVE")


def clouds_of(cloud: Cloud, definition: str) -> list[Cloud]:
    """The cloud in each bucket that a job definition has had, the one in its own bucket first."""
    revisions = clients.batch(cloud).get_paginator("describe_job_definitions")
    pages = revisions.paginate(jobDefinitionName=definition)
    return _in_each(cloud, buckets_named(one for page in pages for one in page["jobDefinitions"]))


def clouds_of_knot(cloud: Cloud, name: str) -> list[Cloud]:
    """The same of a knot that may be gone, by its name."""
    state = Stack(cloud, stack_name(name)).state()
    if state and "JobDefinitionName" in state.parameters:
        return clouds_of(cloud, state.parameters["JobDefinitionName"])
    found = (one for status in STATES for one in job_definitions(cloud, status) if is_of(one, stack_name(name)))
    return _in_each(cloud, buckets_named(found))


def clouds_of_all(cloud: Cloud) -> list[Cloud]:
    """The cloud in each bucket of all knots of the region, the one in its own bucket first."""
    return _in_each(cloud, buckets_named(one for status in STATES for one in job_definitions(cloud, status)))


def _in_each(cloud: Cloud, buckets: list[str]) -> list[Cloud]:
    return [cloud, *(cloud.in_bucket(bucket) for bucket in buckets if bucket != cloud.bucket)]
