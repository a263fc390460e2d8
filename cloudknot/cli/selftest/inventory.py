"""List all kinds of resources that cloudknot makes, and compare two lists. Changes nothing.

Other people's resources are counted and never named, since the report of a check travels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cloudknot.aws import batch, clients
from cloudknot.aws.tags import OWN_TAG
from cloudknot.deploy.inventory import all_stacks
from cloudknot.errors import PermissionDeniedError, ResourceDoesNotExistException
from cloudknot.worker.wire.keys import RUNS

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import FilterTypeDef

    from cloudknot.aws.cloud import Cloud
    from cloudknot.cli.selftest.plan import Plan

BUCKET = "bucket"
"""The kind of the bucket for inputs and results."""
Found = Mapping[str, str]
"""Texts with the names and tags of resources, by their ids."""


@dataclass(frozen=True)
class Inventory:
    """The resources of an account and region, by kind. None stands for a kind that the credentials may not list."""

    kinds: Mapping[str, Found | None]

    def of(self, token: str) -> list[str]:
        """Return the kinds and ids of the resources whose names or tags contain ``token``."""
        return [
            f"{kind}: {found_id}"
            for kind, found in self.kinds.items()
            for found_id, text in (found or {}).items()
            if token in text
        ]


@dataclass(frozen=True)
class Row:
    """One kind of resource in the comparison of two inventories. A number of -1 stands for unknown."""

    kind: str
    before: int
    after: int
    left: tuple[str, ...]
    """Ids of resources of the check that still exist."""
    others_gone: int
    """Resources that are gone and that the check did not make."""


def take_inventory(cloud: Cloud, plan: Plan) -> Inventory:
    """Return all resources of the kinds that cloudknot makes, those of the check with their ids."""
    return Inventory({kind: _found(read, cloud, plan) for kind, read in KINDS.items()})


def _found(read: Callable[[Cloud, Plan], Found], cloud: Cloud, plan: Plan) -> Found | None:
    try:
        return read(cloud, plan)
    except PermissionDeniedError:
        return None


def compare(before: Inventory, after: Inventory, token: str) -> list[Row]:
    """Return a row for each kind of resource."""
    return [_row(kind, before.kinds[kind], after.kinds[kind], token) for kind in before.kinds]


def _row(kind: str, before: Found | None, after: Found | None, token: str) -> Row:
    if before is None or after is None:
        return Row(kind, -1, -1, (), 0)
    left = tuple(found_id for found_id, text in after.items() if token in text)
    if kind == BUCKET:
        # The bucket has the name of the settings. One that is new is left over from the check.
        left = tuple(after.keys() - before.keys())
    return Row(kind, len(before), len(after), left, len(before.keys() - after.keys()))


def _named(names: Iterable[str]) -> Found:
    return {name: name for name in names}


def _stacks(cloud: Cloud, plan: Plan) -> Found:
    return {stack.stack_id: stack.name for stack in all_stacks(cloud)}


def _queues(cloud: Cloud, plan: Plan) -> Found:
    pages = clients.batch(cloud).get_paginator("describe_job_queues").paginate()
    return _named(queue["jobQueueName"] for page in pages for queue in page["jobQueues"])


def _environments(cloud: Cloud, plan: Plan) -> Found:
    pages = clients.batch(cloud).get_paginator("describe_compute_environments").paginate()
    return _named(item["computeEnvironmentName"] for page in pages for item in page["computeEnvironments"])


def _definitions(cloud: Cloud, plan: Plan) -> Found:
    return _named(definition["jobDefinitionArn"] for definition in batch.job_definitions(cloud))


def _repositories(cloud: Cloud, plan: Plan) -> Found:
    pages = clients.ecr(cloud).get_paginator("describe_repositories").paginate()
    return _named(item["repositoryName"] for page in pages for item in page["repositories"])


def _images(cloud: Cloud, plan: Plan) -> Found:
    return dict.fromkeys(cloud.repository(plan.repository).images(), plan.repository)


def _roles(cloud: Cloud, plan: Plan) -> Found:
    pages = clients.iam(cloud).get_paginator("list_roles").paginate(PathPrefix="/cloudknot/")
    return _named(role["RoleName"] for page in pages for role in page["Roles"])


def _profiles(cloud: Cloud, plan: Plan) -> Found:
    pages = clients.iam(cloud).get_paginator("list_instance_profiles").paginate(PathPrefix="/cloudknot/")
    return _named(profile["InstanceProfileName"] for page in pages for profile in page["InstanceProfiles"])


def _log_groups(cloud: Cloud, plan: Plan) -> Found:
    pages = clients.logs(cloud).get_paginator("describe_log_groups").paginate(logGroupNamePrefix="/cloudknot/")
    return _named(group["logGroupName"] for page in pages for group in page["logGroups"])


# Batch and the launch template give all of cloudknot's tags to machines and disks.
_OURS: list[FilterTypeDef] = [{"Name": "tag-key", "Values": [OWN_TAG]}]


def _security_groups(cloud: Cloud, plan: Plan) -> Found:
    pages = clients.ec2(cloud).get_paginator("describe_security_groups").paginate(Filters=_OURS)
    return {group["GroupId"]: str(group) for page in pages for group in page["SecurityGroups"]}


def _launch_templates(cloud: Cloud, plan: Plan) -> Found:
    pages = clients.ec2(cloud).get_paginator("describe_launch_templates").paginate(Filters=_OURS)
    return {item["LaunchTemplateId"]: str(item) for page in pages for item in page["LaunchTemplates"]}


def _instances(cloud: Cloud, plan: Plan) -> Found:
    pages = clients.ec2(cloud).get_paginator("describe_instances").paginate(Filters=_OURS)
    instances = [item for page in pages for group in page["Reservations"] for item in group["Instances"]]
    # EC2 lists a terminated machine for about an hour. It costs nothing.
    return {
        item["InstanceId"]: str(item.get("Tags"))
        for item in instances
        if item["State"]["Name"] not in ("shutting-down", "terminated")
    }


def _volumes(cloud: Cloud, plan: Plan) -> Found:
    pages = clients.ec2(cloud).get_paginator("describe_volumes").paginate(Filters=_OURS)
    volumes = [volume for page in pages for volume in page["Volumes"]]
    return {item["VolumeId"]: str(item.get("Tags")) for item in volumes if item["State"] != "deleting"}


def _buckets(cloud: Cloud, plan: Plan) -> Found:
    # Only the bucket of the settings, because cloudknot uses no other one.
    with suppress(ResourceDoesNotExistException):
        clients.s3(cloud).head_bucket(Bucket=cloud.bucket)
        return {cloud.bucket: ""}
    return {}


def _folders(cloud: Cloud, plan: Plan) -> Found:
    return _named(cloud.storage.folders(f"{RUNS}/"))


def _objects(cloud: Cloud, plan: Plan) -> Found:
    # Without the runs of others, which may be millions of objects.
    return _named(key for knot in plan.knots for key in cloud.storage.keys(f"{RUNS}/{knot}/"))


KINDS: Mapping[str, Callable[[Cloud, Plan], Found]] = {
    "stacks": _stacks,
    "job queues": _queues,
    "compute environments": _environments,
    "job definitions": _definitions,
    "image repositories": _repositories,
    "images of the check": _images,
    "roles": _roles,
    "instance profiles": _profiles,
    "log groups": _log_groups,
    "security groups": _security_groups,
    "launch templates": _launch_templates,
    "instances": _instances,
    "volumes": _volumes,
    BUCKET: _buckets,
    "knots with runs in the bucket": _folders,
    "objects of the check": _objects,
}
"""The kinds of resources that cloudknot makes, with their listings. Images and objects are those of the check."""
