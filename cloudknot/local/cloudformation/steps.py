"""The calls for a resource that have a rule of their own, beside the operations in the table of kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cloudknot.local.cloudformation.records import Properties, ResourceError
from cloudknot.local.cloudformation.services import Services, is_missing

Step = Callable[[Services, str, Properties, Properties], None]
"""Takes the physical id, and the properties before and after. There are none before a creation or after a deletion."""

RULES = {"SecurityGroupIngress": "Ingress", "SecurityGroupEgress": "Egress"}
ENVIRONMENT_PROPERTIES = ("ComputeResources", "ServiceRole", "State", "UpdatePolicy")
_ROLE_SETTINGS = ("Description", "MaxSessionDuration")
ROLE_PROPERTIES = (
    *("ManagedPolicyArns", "Policies", "Tags", "AssumeRolePolicyDocument", "PermissionsBoundary"),
    *_ROLE_SETTINGS,
)


def no_step(services: Services, physical_id: str, before: Properties, after: Properties) -> None:
    """Do nothing."""


def without(properties: Properties, *names: str) -> Properties:
    """Return ``properties`` without those with these names."""
    return {name: value for name, value in properties.items() if name not in names}


def only(properties: Properties, names: tuple[str, ...]) -> Properties:
    """Return those of ``properties`` with these names."""
    return {name: properties[name] for name in names if name in properties}


def switch(noun: str, names: tuple[str, ...]) -> Step:
    """Return a step that sets attributes by EC2's ``Modify<noun>Attribute``, one in each call."""

    def step(services: Services, physical_id: str, before: Properties, after: Properties) -> None:
        for name, value in only(after, names).items():
            services.call("ec2", f"Modify{noun}Attribute", {f"{noun}Id": physical_id, name: {"Value": value}})

    return step


def set_tags(
    services: Services, service: str, noun: str, name: Properties, before: Properties, after: Properties
) -> None:
    """Remove, add and change tags in an update, by the operations ``Untag<noun>`` and ``Tag<noun>``."""
    removed, changed = tag_changes(before, after)
    if removed:
        services.call(service, f"Untag{noun}", {**name, "TagKeys": removed})
    if changed:
        services.call(service, f"Tag{noun}", {**name, "Tags": after["Tags"]})


def tag_changes(before: Properties, after: Properties) -> tuple[list[str], bool]:
    """Return the keys of removed tags, and whether tags are new or have changed."""
    # Batch has a map of tags, other services a list.
    old, new = (
        tags if isinstance(tags, Mapping) else {tag["Key"]: tag["Value"] for tag in tags}
        for tags in (before.get("Tags", ()), after.get("Tags", ()))
    )
    return sorted(old.keys() - new.keys()), not new.items() <= old.items()


def set_rules(services: Services, physical_id: str, before: Properties, after: Properties) -> None:
    """Revoke and add rules of a security group."""
    if not before and after.get("SecurityGroupEgress"):
        # EC2 allows all connections to the outside in a new group. Rules of the template's own replace that one.
        before = {"SecurityGroupEgress": [{"IpProtocol": "-1", "CidrIp": "0.0.0.0/0"}]}
    for name, direction in RULES.items():
        old, new = before.get(name, ()), after.get(name, ())
        revoked = [_permission(rule) for rule in old if rule not in new]
        added = [_permission(rule) for rule in new if rule not in old]
        if revoked:
            # A missing rule is no error: the rollback of an update may find it revoked already.
            arguments = {"GroupId": physical_id, "IpPermissions": revoked}
            services.delete("ec2", f"RevokeSecurityGroup{direction}", arguments)
        if added:
            arguments = {"GroupId": physical_id, "IpPermissions": added}
            services.call("ec2", f"AuthorizeSecurityGroup{direction}", arguments)


def _permission(rule: Properties) -> Properties:
    """Return a rule of a security group in the form of EC2's operations."""
    ranges = {"CidrIp": "IpRanges", "CidrIpv6": "Ipv6Ranges"}
    places = {target: [only(rule, (name, "Description"))] for name, target in ranges.items() if name in rule}
    return {**without(rule, *ranges, "Description"), **places}


def settle_role(services: Services, physical_id: str, before: Properties, after: Properties) -> None:
    """Set the policies of a role, and everything else that an update has changed."""
    role = {"RoleName": physical_id}
    if before:
        # Before the policies, because a user may be allowed to add those only to a role with this boundary.
        _set_boundary(services, role, before, after)
        # Policies that stay are not removed in between, because running jobs use the role.
        revoke_policies(services, physical_id, before, after)
    for arn in after.get("ManagedPolicyArns", ()):
        services.call("iam", "AttachRolePolicy", {**role, "PolicyArn": arn})
    for policy in after.get("Policies", ()):
        services.call("iam", "PutRolePolicy", {**role, **policy})
    if not before:
        return
    document = after["AssumeRolePolicyDocument"]
    # Only a change needs this permission, which cloudknot's policies do not have.
    if document != before["AssumeRolePolicyDocument"]:
        services.call("iam", "UpdateAssumeRolePolicy", {**role, "PolicyDocument": document})
    settings = only(after, _ROLE_SETTINGS)
    if settings != only(before, _ROLE_SETTINGS):
        services.call("iam", "UpdateRole", {**role, **settings})
    set_tags(services, "iam", "Role", role, before, after)


def _set_boundary(services: Services, role: Properties, before: Properties, after: Properties) -> None:
    old, new = before.get("PermissionsBoundary"), after.get("PermissionsBoundary")
    if new and new != old:
        services.call("iam", "PutRolePermissionsBoundary", {**role, "PermissionsBoundary": new})
    elif old and not new:
        services.call("iam", "DeleteRolePermissionsBoundary", role)


def revoke_policies(services: Services, physical_id: str, before: Properties, after: Properties) -> None:
    """Remove the policies that a role has no longer. IAM deletes no role with policies."""
    for arn in before.get("ManagedPolicyArns", ()):
        if arn not in after.get("ManagedPolicyArns", ()):
            services.delete("iam", "DetachRolePolicy", {"RoleName": physical_id, "PolicyArn": arn})
    names = {policy["PolicyName"] for policy in after.get("Policies", ())}
    for policy in before.get("Policies", ()):
        if policy["PolicyName"] not in names:
            arguments = {"RoleName": physical_id, "PolicyName": policy["PolicyName"]}
            services.delete("iam", "DeleteRolePolicy", arguments)


def add_roles(services: Services, physical_id: str, before: Properties, after: Properties) -> None:
    """Add the roles of a new instance profile."""
    for role in after["Roles"]:
        arguments = {"InstanceProfileName": physical_id, "RoleName": role}
        services.call("iam", "AddRoleToInstanceProfile", arguments)


def remove_roles(services: Services, physical_id: str, before: Properties, after: Properties) -> None:
    """Remove the roles of an instance profile. IAM deletes none with a role."""
    name = {"InstanceProfileName": physical_id}
    try:
        profile = services.call("iam", "GetInstanceProfile", name)["InstanceProfile"]
    except ResourceError as error:
        if is_missing(error):
            return
        raise
    # Not those of the properties: the profile lacks some if its creation failed half-way.
    for role in profile["Roles"]:
        services.delete("iam", "RemoveRoleFromInstanceProfile", {**name, "RoleName": role["RoleName"]})


def settle_log_group(services: Services, physical_id: str, before: Properties, after: Properties) -> None:
    """Set the retention of a log group, and its tags in an update."""
    if before and after.get("Tags", ()) != before.get("Tags", ()):
        found = services.call("logs", "DescribeLogGroups", {"logGroupNamePrefix": physical_id})
        arns = [group["arn"] for group in found["logGroups"] if group["logGroupName"] == physical_id]
        set_tags(services, "logs", "Resource", {"ResourceArn": arns[0].removesuffix(":*")}, before, after)
    if days := after.get("RetentionInDays"):
        services.call("logs", "PutRetentionPolicy", {"logGroupName": physical_id, "retentionInDays": days})


def update_environment(services: Services, physical_id: str, before: Properties, after: Properties) -> None:
    """Update a compute environment, and look at the status of a new or changed one."""
    if before:
        arguments = dict(only(after, ENVIRONMENT_PROPERTIES))
        # Batch's update has no such argument.
        if "ComputeResources" in arguments:
            arguments["ComputeResources"] = without(arguments["ComputeResources"], "SpotIamFleetRole")
        services.call("batch", "UpdateComputeEnvironment", {"ComputeEnvironment": physical_id, **arguments})
    answer = services.call("batch", "DescribeComputeEnvironments", {"ComputeEnvironments": [physical_id]})
    [environment] = answer["computeEnvironments"]
    if environment["status"] == "INVALID":
        reason = environment["statusReason"]
        raise ResourceError(f"Operation failed, ComputeEnvironment went INVALID with error: {reason}")


def tag_queue(services: Services, physical_id: str, before: Properties, after: Properties) -> None:
    """Set the tags of a job queue in an update."""
    if before:
        set_tags(services, "batch", "Resource", {"ResourceArn": physical_id}, before, after)


def disable(noun: str) -> Step:
    """Return a step that disables a resource of Batch, which deletes a disabled one only."""

    def step(services: Services, physical_id: str, before: Properties, after: Properties) -> None:
        answer = services.call("batch", f"Describe{noun}s", {f"{noun}s": [physical_id]})
        # A missing one cannot be disabled.
        if answer[f"{noun[0].lower()}{noun[1:]}s"]:
            services.call("batch", f"Update{noun}", {noun: physical_id, "State": "DISABLED"})

    return step
