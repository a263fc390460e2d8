"""The calls by which CloudFormation's resource handlers read the state of a resource.

They change nothing, but fail without their permissions, and so does the stack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from cloudknot.local.cloudformation.kinds import KINDS
from cloudknot.local.cloudformation.records import Properties, Resource


def reads(operation: str, resource: Resource, place: str) -> Iterator[tuple[str, str, Properties]]:
    """Yield each read that a handler makes around an operation: service, operation and arguments.

    Parameters
    ----------
    operation : {"create", "update", "delete"}
    resource : Resource
    place : str
        Region and account, as in ARNs: ``"us-east-1:123456789012"``.
    """
    for action in reading_actions(operation, resource.kind):
        service, _, name = action.partition(":")
        for arguments in _ARGUMENTS.get(action, _all)(resource, place):
            yield service, name, arguments


def reading_actions(operation: str, kind_name: str) -> list[str]:
    """Return the reads of a handler around an operation, for example ``"ec2:DescribeVpcs"``."""
    kind = KINDS[kind_name]
    # CloudFormation reads a resource after each change to it, for its attributes.
    names = (kind.delete_reads or kind.reads) if operation == "delete" else f"{kind.change_reads} {kind.reads}"
    return [name if ":" in name else f"{kind.service}:{name}" for name in names.split()]


_Arguments = Callable[[Resource, str], list[Properties]]
"""Returns the arguments of each call of one operation."""


def _all(resource: Resource, place: str) -> list[Properties]:
    """Return the arguments of a call that names no resource."""
    return [{}]


def _by_id(name: str, **others: object) -> _Arguments:
    return lambda resource, place: [{name: resource.physical_id, **others}]


def _by_ids(name: str) -> _Arguments:
    return lambda resource, place: [{name: [resource.physical_id]}]


def _inline_policies(resource: Resource, place: str) -> list[Properties]:
    policies = resource.properties.get("Policies", ())
    return [{"RoleName": resource.physical_id, "PolicyName": policy["PolicyName"]} for policy in policies]


def _launch_template(resource: Resource, place: str) -> list[Properties]:
    template = resource.properties.get("ComputeResources", {}).get("LaunchTemplate", {})
    return [{"LaunchTemplateId": template["LaunchTemplateId"]}] if template else []


def _log_group(resource: Resource, place: str) -> list[Properties]:
    return [{"resourceArn": f"arn:aws:logs:{place}:log-group:{resource.physical_id}"}]


_ARGUMENTS: Mapping[str, _Arguments] = {
    "batch:DescribeComputeEnvironments": _by_ids("computeEnvironments"),
    "batch:DescribeJobDefinitions": _by_ids("jobDefinitions"),
    "batch:DescribeJobQueues": _by_ids("jobQueues"),
    "ec2:DescribeLaunchTemplateVersions": _launch_template,
    "ec2:DescribeVpcAttribute": _by_id("VpcId", Attribute="enableDnsSupport"),
    "iam:GetInstanceProfile": _by_id("InstanceProfileName"),
    "iam:GetRole": _by_id("RoleName"),
    "iam:GetRolePolicy": _inline_policies,
    "iam:ListAttachedRolePolicies": _by_id("RoleName"),
    "iam:ListRolePolicies": _by_id("RoleName"),
    "logs:DescribeIndexPolicies": _by_ids("logGroupIdentifiers"),
    "logs:DescribeLogGroups": _by_id("logGroupNamePrefix"),
    "logs:GetDataProtectionPolicy": _by_id("logGroupIdentifier"),
    "logs:ListTagsForResource": _log_group,
}
"""The arguments of operations that need some. Other operations list all resources of their kind."""
