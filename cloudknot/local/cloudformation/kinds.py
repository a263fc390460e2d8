"""The kinds of resources that stacks of the embedded cloud support: those of cloudknot's templates.

The reads come from the public resource schemas of CloudFormation's registry, "handlers". A test compares them to
cfn-lint's copy of the schemas. The type AWS::CodeBuild::Project publishes none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cloudknot.local.cloudformation import steps
from cloudknot.local.cloudformation.steps import Step, no_step


@dataclass(frozen=True)
class ResourceType:
    """A type of resource, such as ``AWS::EC2::VPC``. Changes that are not in place replace the resource.

    Formats, such as ``"{Vpc[VpcId]}"``, are filled in with the arguments and the answer of an operation.
    """

    service: str
    create: str
    delete: str
    key: tuple[str, ...]
    """The argument of `delete` and `update` that takes the physical id, or properties that identify the resource."""
    id: str
    """The format of the physical id."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """The formats of the attributes."""
    name: str = ""
    """The property with the name of a resource; empty if the kind has none."""
    longest_name: int = 128
    name_is_enough: bool = False
    """Whether the name deletes a resource before the answer to its creation, so that its calls are never repeated."""
    has_revisions: bool = False
    """Whether several resources can have the same name, as revisions."""
    tags: str = ""
    """The type for tags in EC2's operations."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Arguments of `create` with other names than their properties."""
    apart: tuple[str, ...] = ()
    """Properties that are no arguments of `create`."""
    update: str = ""
    updated: tuple[str, ...] = ()
    """Properties that `update` changes in place."""
    updated_attributes: Mapping[str, str] = field(default_factory=dict)
    """The formats of the attributes that `update` changes."""
    settled: tuple[str, ...] = ()
    """Properties that `settle` or EC2's tags change in place."""
    settle: Step = no_step
    """Makes the further calls of a creation and of an update."""
    empty: Step = no_step
    """Makes the calls before a deletion."""
    reads: str = ""
    """The operations by which CloudFormation's handler reads a resource after each change."""
    change_reads: str = ""
    """Further ones in a creation and in an update."""
    delete_reads: str = ""
    """Those in a deletion, if they are not `reads`."""

    @property
    def in_place(self) -> frozenset[str]:
        """The properties that can change without a replacement."""
        return frozenset({*self.updated, *self.settled})


def _ec2(noun: str, switches: tuple[str, ...] = (), **others: Any) -> ResourceType:
    """Return a kind with an id. ``Modify<noun>Attribute`` sets each of its ``switches`` in a call of its own."""
    key = f"{noun}Id"
    usual = {
        **{"create": f"Create{noun}", "delete": f"Delete{noun}", "key": (key,), "id": f"{{{noun}[{key}]}}"},
        **{"attributes": {key: f"{{{noun}[{key}]}}"}, "apart": switches, "settled": (*switches, "Tags")},
        **{"settle": steps.switch(noun, switches)},
    }
    return ResourceType("ec2", **{**usual, **others})


def _batch(noun: str, **others: Any) -> ResourceType:
    """Return a kind with an ARN. Batch deletes a disabled resource only."""
    arn = f"{{{noun[0].lower()}{noun[1:]}Arn}}"
    usual = {"name": f"{noun}Name", "attributes": {f"{noun}Arn": arn}, "empty": steps.disable(noun)}
    usual |= {"reads": f"Describe{noun}s", "name_is_enough": True}
    return ResourceType("batch", f"Create{noun}", f"Delete{noun}", (noun,), arn, **{**usual, **others})


def _named(service: str, noun: str, name: str, **others: Any) -> ResourceType:
    """Return a kind with its name for its id."""
    return ResourceType(service, f"Create{noun}", f"Delete{noun}", (name,), f"{{{name}}}", name=name, **others)


KINDS: Mapping[str, ResourceType] = {
    "AWS::EC2::VPC": _ec2(
        "Vpc",
        ("EnableDnsSupport", "EnableDnsHostnames"),
        tags="vpc",
        reads="DescribeNetworkAcls DescribeSecurityGroups DescribeVpcAttribute DescribeVpcEncryptionControls "
        "DescribeVpcs",
        delete_reads="DescribeVpcs",
    ),
    "AWS::EC2::Subnet": _ec2(
        "Subnet",
        ("MapPublicIpOnLaunch",),
        tags="subnet",
        reads="DescribeNetworkAcls DescribeSubnets",
        delete_reads="DescribeSubnets",
    ),
    "AWS::EC2::InternetGateway": _ec2("InternetGateway", tags="internet-gateway", reads="DescribeInternetGateways"),
    "AWS::EC2::RouteTable": _ec2("RouteTable", tags="route-table", reads="DescribeRouteTables"),
    "AWS::EC2::VPCGatewayAttachment": ResourceType(
        "ec2",
        "AttachInternetGateway",
        "DetachInternetGateway",
        key=("InternetGatewayId", "VpcId"),
        # CloudFormation makes up the physical id of a resource that has no id in its service.
        id="IGW|{VpcId}",
        reads="DescribeInternetGateways DescribeVpnGateways",
    ),
    "AWS::EC2::Route": ResourceType(
        "ec2",
        "CreateRoute",
        "DeleteRoute",
        key=("RouteTableId", "DestinationCidrBlock"),
        id="{RouteTableId}|{DestinationCidrBlock}",
        reads="DescribeRouteTables",
        change_reads="DescribeNetworkInterfaces",
    ),
    "AWS::EC2::SubnetRouteTableAssociation": ResourceType(
        "ec2",
        "AssociateRouteTable",
        "DisassociateRouteTable",
        key=("AssociationId",),
        id="{AssociationId}",
        reads="DescribeRouteTables",
        change_reads="DescribeSubnets",
        delete_reads="DescribeRouteTables DescribeSubnets",
    ),
    "AWS::EC2::VPCEndpoint": _ec2(
        "VpcEndpoint",
        delete="DeleteVpcEndpoints",
        key=("VpcEndpointIds",),
        attributes={},
        tags="vpc-endpoint",
        reads="DescribeSecurityGroups DescribeSubnets DescribeVpcEndpoints DescribeVpcs",
    ),
    "AWS::EC2::SecurityGroup": _ec2(
        "SecurityGroup",
        key=("GroupId",),
        id="{GroupId}",
        attributes={"GroupId": "{GroupId}"},
        name="GroupName",
        longest_name=255,
        tags="security-group",
        renamed={"GroupDescription": "Description"},
        apart=tuple(steps.RULES),
        settled=("Tags", *steps.RULES),
        settle=steps.set_rules,
        reads="DescribeSecurityGroups",
        delete_reads="DescribeInstances DescribeSecurityGroups",
    ),
    "AWS::EC2::LaunchTemplate": _ec2(
        "LaunchTemplate",
        attributes={
            "LaunchTemplateId": "{LaunchTemplate[LaunchTemplateId]}",
            "LatestVersionNumber": "1",
            "DefaultVersionNumber": "1",
        },
        name="LaunchTemplateName",
        update="CreateLaunchTemplateVersion",
        updated=("LaunchTemplateData",),
        updated_attributes={"LatestVersionNumber": "{LaunchTemplateVersion[VersionNumber]}"},
        settled=("TagSpecifications",),
        reads="DescribeLaunchTemplates",
    ),
    "AWS::IAM::Role": _named(
        *("iam", "Role", "RoleName"),
        attributes={"Arn": "{Role[Arn]}", "RoleId": "{Role[RoleId]}"},
        longest_name=64,
        apart=("ManagedPolicyArns", "Policies"),
        settled=steps.ROLE_PROPERTIES,
        settle=steps.settle_role,
        empty=steps.revoke_policies,
        reads="GetRole GetRolePolicy ListAttachedRolePolicies ListRolePolicies",
        delete_reads="GetRole ListAttachedRolePolicies ListRolePolicies",
    ),
    "AWS::IAM::InstanceProfile": _named(
        *("iam", "InstanceProfile", "InstanceProfileName"),
        attributes={"Arn": "{InstanceProfile[Arn]}"},
        apart=("Roles",),
        settle=steps.add_roles,
        empty=steps.remove_roles,
        reads="GetInstanceProfile",
    ),
    "AWS::Logs::LogGroup": _named(
        *("logs", "LogGroup", "LogGroupName"),
        longest_name=512,
        name_is_enough=True,
        apart=("RetentionInDays",),
        settled=("RetentionInDays", "Tags"),
        settle=steps.settle_log_group,
        reads="DescribeIndexPolicies DescribeLogGroups DescribeResourcePolicies GetDataProtectionPolicy "
        "ListTagsForResource",
        delete_reads="DescribeLogGroups",
    ),
    "AWS::Batch::JobDefinition": ResourceType(
        "batch",
        "RegisterJobDefinition",
        "DeregisterJobDefinition",
        key=("JobDefinition",),
        id="{jobDefinitionArn}",
        name="JobDefinitionName",
        has_revisions=True,
        apart=("ResourceRetentionPolicy",),
        reads="DescribeJobDefinitions",
    ),
    "AWS::Batch::ComputeEnvironment": _batch(
        "ComputeEnvironment",
        apart=("ReplaceComputeEnvironment", "UpdatePolicy"),
        settled=(*steps.ENVIRONMENT_PROPERTIES, "ReplaceComputeEnvironment"),
        settle=steps.update_environment,
        change_reads="ec2:DescribeLaunchTemplateVersions",
        delete_reads="DescribeComputeEnvironments ec2:DescribeLaunchTemplateVersions",
    ),
    "AWS::Batch::JobQueue": _batch(
        "JobQueue",
        update="UpdateJobQueue",
        updated=("ComputeEnvironmentOrder", "Priority", "State", "JobStateTimeLimitActions"),
        settled=("Tags",),
        settle=steps.tag_queue,
    ),
    "AWS::CodeBuild::Project": _named(
        *("codebuild", "Project", "Name"),
        attributes={"Arn": "{project[arn]}"},
        longest_name=255,
        name_is_enough=True,
        update="UpdateProject",
        updated=(
            *("Artifacts", "Description", "Environment", "LogsConfig", "QueuedTimeoutInMinutes", "ServiceRole"),
            *("Source", "Tags", "TimeoutInMinutes"),
        ),
    ),
    # A placeholder with nothing behind it.
    "AWS::CloudFormation::WaitConditionHandle": ResourceType("", "", "", key=(), id=""),
}
"""By type, as in templates."""
