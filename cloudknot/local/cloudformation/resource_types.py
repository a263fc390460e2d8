"""The resource types of the embedded CloudFormation. They use the public APIs of their services only."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping

from cloudknot.errors import ResourceDoesNotExistException
from cloudknot.local.cloudformation.records import Properties, Resource, ResourceError
from cloudknot.local.cloudformation.services import CreatedResource, Services


class ResourceType(ABC):
    """A type of resource, such as ``AWS::EC2::VPC``. An update replaces a resource of this type."""

    name = ""
    """The property with the name of a resource; empty if the type has none."""
    has_revisions = False
    """Whether several resources of this type can have the same name, as revisions."""

    @abstractmethod
    def create(self, services: Services, properties: Properties) -> CreatedResource:
        """Create a resource. Call `Services.mark_created` after the first call that leaves something to delete."""

    @abstractmethod
    def delete(self, services: Services, resource: Resource) -> None:
        """Delete a resource. A missing resource is no error."""

    def planned_id(self, services: Services, properties: Properties) -> str:
        """Return the id by which a resource can be deleted before the answer to its creation; empty if there is none.

        Without one, its service recognises the repeated calls of an interrupted creation.
        """
        return ""

    def outlives_replacement(self, properties: Properties) -> bool:
        """Return whether a resource stays after its replacement."""
        return False


class UpdatableType(ResourceType):
    """A type with properties that can change without a replacement."""

    in_place: frozenset[str]
    """The names of these properties."""

    @abstractmethod
    def update(self, services: Services, resource: Resource, properties: Properties) -> CreatedResource:
        """Set the properties named in `in_place` to their new values."""


def without(properties: Properties, *names: str) -> Properties:
    """Return ``properties`` without those that the service's operation does not take."""
    return {name: value for name, value in properties.items() if name not in names}


def tag_specifications(kind: str, properties: Properties) -> Properties:
    """Return the tags in the form of EC2's operations."""
    tags = properties.get("Tags")
    return {"TagSpecifications": [{"ResourceType": kind, "Tags": tags}]} if tags else {}


class SimpleResource(UpdatableType):
    """A type of EC2 with an id, one operation to create a resource and one to delete it.

    Parameters
    ----------
    noun : str
        The noun in the names of the operations: ``"Vpc"`` for CreateVpc and DeleteVpc.
    tag : str
        The type's name for tags: ``"vpc"``.
    switches : str
        Properties that ``Modify<noun>Attribute`` sets.
    """

    def __init__(self, noun: str, tag: str, *switches: str) -> None:
        self._noun, self._tag, self._switches = noun, tag, switches
        self.in_place = frozenset({*switches, "Tags"})

    def create(self, services: Services, properties: Properties) -> CreatedResource:
        arguments = without(properties, "Tags", *self._switches)
        answer = services.call(
            "ec2", f"Create{self._noun}", {**arguments, **tag_specifications(self._tag, properties)}
        )
        physical_id = answer[self._noun][f"{self._noun}Id"]
        created = services.mark_created(physical_id, {f"{self._noun}Id": physical_id})
        self._switch(services, created.physical_id, properties)
        return created

    def update(self, services: Services, resource: Resource, properties: Properties) -> CreatedResource:
        self._switch(services, resource.physical_id, properties)
        if properties.get("Tags"):
            services.call("ec2", "CreateTags", {"Resources": [resource.physical_id], "Tags": properties["Tags"]})
        return CreatedResource(resource.physical_id, resource.attributes)

    def _switch(self, services: Services, physical_id: str, properties: Properties) -> None:
        # EC2 changes one attribute in each call.
        for switch in self._switches:
            if switch in properties:
                value = {f"{self._noun}Id": physical_id, switch: {"Value": properties[switch]}}
                services.call("ec2", f"Modify{self._noun}Attribute", value)

    def delete(self, services: Services, resource: Resource) -> None:
        services.delete("ec2", f"Delete{self._noun}", {f"{self._noun}Id": resource.physical_id})


class GatewayAttachment(ResourceType):
    """The attachment of an internet gateway to a VPC."""

    # CloudFormation makes up the physical id of a resource that has no id in its service.
    def create(self, services: Services, properties: Properties) -> CreatedResource:
        services.call("ec2", "AttachInternetGateway", properties)
        return services.mark_created(f"IGW|{properties['VpcId']}")

    def delete(self, services: Services, resource: Resource) -> None:
        services.delete("ec2", "DetachInternetGateway", resource.properties)


class Route(ResourceType):
    """A route in a route table."""

    def create(self, services: Services, properties: Properties) -> CreatedResource:
        services.call("ec2", "CreateRoute", properties)
        return services.mark_created(f"{properties['RouteTableId']}|{properties['DestinationCidrBlock']}")

    def delete(self, services: Services, resource: Resource) -> None:
        key = {name: resource.properties[name] for name in ("RouteTableId", "DestinationCidrBlock")}
        services.delete("ec2", "DeleteRoute", key)


class RouteTableAssociation(ResourceType):
    """The association of a subnet with a route table."""

    def create(self, services: Services, properties: Properties) -> CreatedResource:
        return services.mark_created(services.call("ec2", "AssociateRouteTable", properties)["AssociationId"])

    def delete(self, services: Services, resource: Resource) -> None:
        services.delete("ec2", "DisassociateRouteTable", {"AssociationId": resource.physical_id})


class Endpoint(UpdatableType):
    """A VPC endpoint."""

    in_place = frozenset({"Tags"})

    def create(self, services: Services, properties: Properties) -> CreatedResource:
        arguments = {**without(properties, "Tags"), **tag_specifications("vpc-endpoint", properties)}
        answer = services.call("ec2", "CreateVpcEndpoint", arguments)
        return services.mark_created(answer["VpcEndpoint"]["VpcEndpointId"])

    def update(self, services: Services, resource: Resource, properties: Properties) -> CreatedResource:
        services.call("ec2", "CreateTags", {"Resources": [resource.physical_id], "Tags": properties["Tags"]})
        return CreatedResource(resource.physical_id, resource.attributes)

    def delete(self, services: Services, resource: Resource) -> None:
        services.delete("ec2", "DeleteVpcEndpoints", {"VpcEndpointIds": [resource.physical_id]})


class SecurityGroup(UpdatableType):
    """A security group with its rules."""

    name = "GroupName"
    directions = {"SecurityGroupIngress": "Ingress", "SecurityGroupEgress": "Egress"}
    in_place = frozenset({"Tags", *directions})

    def create(self, services: Services, properties: Properties) -> CreatedResource:
        arguments = {
            "GroupName": properties.get("GroupName") or services.new_name(255),
            "Description": properties["GroupDescription"],
            **without(properties, "GroupName", "GroupDescription", "Tags", *self.directions),
            **tag_specifications("security-group", properties),
        }
        group = services.call("ec2", "CreateSecurityGroup", arguments)["GroupId"]
        created = services.mark_created(group, {"GroupId": group})
        # EC2 allows all connections to the outside in a new group. Rules of the template's own replace that one.
        everything = [{"IpProtocol": "-1", "CidrIp": "0.0.0.0/0"}] if properties.get("SecurityGroupEgress") else []
        self._set_rules(services, group, {"SecurityGroupEgress": everything}, properties)
        return created

    def update(self, services: Services, resource: Resource, properties: Properties) -> CreatedResource:
        self._set_rules(services, resource.physical_id, resource.properties, properties)
        if properties.get("Tags"):
            services.call("ec2", "CreateTags", {"Resources": [resource.physical_id], "Tags": properties["Tags"]})
        return CreatedResource(resource.physical_id, resource.attributes)

    def _set_rules(self, services: Services, group: str, before: Properties, after: Properties) -> None:
        for name, direction in self.directions.items():
            old, new = (list(properties.get(name, ())) for properties in (before, after))
            for verb, rules in (
                ("Revoke", [rule for rule in old if rule not in new]),
                ("Authorize", [rule for rule in new if rule not in old]),
            ):
                if rules:
                    permissions = {"GroupId": group, "IpPermissions": [_permission(rule) for rule in rules]}
                    # A rule that is missing is no error: the rollback of an update may find it revoked already.
                    operation = services.delete if verb == "Revoke" else services.call
                    operation("ec2", f"{verb}SecurityGroup{direction}", permissions)

    def delete(self, services: Services, resource: Resource) -> None:
        services.delete("ec2", "DeleteSecurityGroup", {"GroupId": resource.physical_id})


def _permission(rule: Properties) -> Properties:
    """Return a rule of a security group in the form of EC2's operations."""
    ranges = {"CidrIp": ("IpRanges", "CidrIp"), "CidrIpv6": ("Ipv6Ranges", "CidrIpv6")}
    places = {
        target: [{key: rule[name], **({"Description": rule["Description"]} if "Description" in rule else {})}]
        for name, (target, key) in ranges.items()
        if name in rule
    }
    return {**without(rule, *ranges, "Description"), **places}


class LaunchTemplate(UpdatableType):
    """A launch template. An update adds a version to it."""

    name = "LaunchTemplateName"
    in_place = frozenset({"LaunchTemplateData", "TagSpecifications"})

    def create(self, services: Services, properties: Properties) -> CreatedResource:
        arguments = {"LaunchTemplateName": services.new_name(128), **properties}
        answer = services.call("ec2", "CreateLaunchTemplate", arguments)["LaunchTemplate"]
        return services.mark_created(answer["LaunchTemplateId"], _versions(answer["LaunchTemplateId"], 1))

    def update(self, services: Services, resource: Resource, properties: Properties) -> CreatedResource:
        arguments = {"LaunchTemplateId": resource.physical_id, "LaunchTemplateData": properties["LaunchTemplateData"]}
        answer = services.call("ec2", "CreateLaunchTemplateVersion", arguments)["LaunchTemplateVersion"]
        return CreatedResource(resource.physical_id, _versions(resource.physical_id, answer["VersionNumber"]))

    def delete(self, services: Services, resource: Resource) -> None:
        services.delete("ec2", "DeleteLaunchTemplate", {"LaunchTemplateId": resource.physical_id})


def _versions(template_id: str, latest: int) -> dict[str, str]:
    return {"LaunchTemplateId": template_id, "LatestVersionNumber": str(latest), "DefaultVersionNumber": "1"}


class Role(UpdatableType):
    """An IAM role with its attached and inline policies."""

    name = "RoleName"
    settings = ("Description", "MaxSessionDuration")
    in_place = frozenset(
        {"ManagedPolicyArns", "Policies", "Tags", "AssumeRolePolicyDocument", "PermissionsBoundary", *settings}
    )

    def create(self, services: Services, properties: Properties) -> CreatedResource:
        role = properties.get("RoleName") or services.new_name()
        arguments = {**without(properties, "ManagedPolicyArns", "Policies"), "RoleName": role}
        answer = services.call("iam", "CreateRole", arguments)["Role"]
        created = services.mark_created(role, {"Arn": answer["Arn"], "RoleId": answer["RoleId"]})
        self._grant(services, role, properties)
        return created

    def update(self, services: Services, resource: Resource, properties: Properties) -> CreatedResource:
        role = resource.physical_id
        # Before the policies, because a user may be allowed to add those only to a role with this boundary.
        self._set_boundary(services, role, resource.properties, properties)
        # Policies that stay are not removed in between, because running jobs use the role.
        self._revoke(services, role, resource.properties, still_declared=properties)
        self._grant(services, role, properties)
        document = properties["AssumeRolePolicyDocument"]
        # Only a change needs this permission, which cloudknot's policies do not have.
        if document != resource.properties["AssumeRolePolicyDocument"]:
            services.call("iam", "UpdateAssumeRolePolicy", {"RoleName": role, "PolicyDocument": document})
        settings = {name: properties[name] for name in self.settings if name in properties}
        if settings != {name: resource.properties[name] for name in self.settings if name in resource.properties}:
            services.call("iam", "UpdateRole", {"RoleName": role, **settings})
        if properties.get("Tags"):
            services.call("iam", "TagRole", {"RoleName": role, "Tags": properties["Tags"]})
        return CreatedResource(role, resource.attributes)

    def delete(self, services: Services, resource: Resource) -> None:
        # IAM deletes no role with policies.
        self._revoke(services, resource.physical_id, resource.properties, still_declared={})
        services.delete("iam", "DeleteRole", {"RoleName": resource.physical_id})

    def _set_boundary(self, services: Services, role: str, before: Properties, after: Properties) -> None:
        boundary = after.get("PermissionsBoundary")
        if boundary and boundary != before.get("PermissionsBoundary"):
            boundary = {"RoleName": role, "PermissionsBoundary": boundary}
            services.call("iam", "PutRolePermissionsBoundary", boundary)
        elif not boundary and before.get("PermissionsBoundary"):
            services.call("iam", "DeleteRolePermissionsBoundary", {"RoleName": role})

    def _grant(self, services: Services, role: str, properties: Properties) -> None:
        """Attach and store all policies of ``properties``."""
        for arn in properties.get("ManagedPolicyArns", ()):
            services.call("iam", "AttachRolePolicy", {"RoleName": role, "PolicyArn": arn})
        for policy in properties.get("Policies", ()):
            services.call("iam", "PutRolePolicy", {"RoleName": role, **policy})

    def _revoke(self, services: Services, role: str, properties: Properties, still_declared: Properties) -> None:
        """Remove the policies of ``properties`` that are not in ``still_declared``."""
        for arn in properties.get("ManagedPolicyArns", ()):
            if arn not in still_declared.get("ManagedPolicyArns", ()):
                services.delete("iam", "DetachRolePolicy", {"RoleName": role, "PolicyArn": arn})
        names = {policy["PolicyName"] for policy in still_declared.get("Policies", ())}
        for policy in properties.get("Policies", ()):
            if policy["PolicyName"] not in names:
                services.delete("iam", "DeleteRolePolicy", {"RoleName": role, "PolicyName": policy["PolicyName"]})


class InstanceProfile(ResourceType):
    """An instance profile with its roles."""

    name = "InstanceProfileName"

    def create(self, services: Services, properties: Properties) -> CreatedResource:
        name = properties.get("InstanceProfileName") or services.new_name(128)
        arguments = {**without(properties, "Roles"), "InstanceProfileName": name}
        answer = services.call("iam", "CreateInstanceProfile", arguments)["InstanceProfile"]
        created = services.mark_created(name, {"Arn": answer["Arn"]})
        for role in properties["Roles"]:
            services.call("iam", "AddRoleToInstanceProfile", {"InstanceProfileName": name, "RoleName": role})
        return created

    def delete(self, services: Services, resource: Resource) -> None:
        name = {"InstanceProfileName": resource.physical_id}
        # IAM deletes no instance profile with a role.
        for role in self._roles(services, name):
            services.delete("iam", "RemoveRoleFromInstanceProfile", {**name, "RoleName": role})
        services.delete("iam", "DeleteInstanceProfile", name)

    def _roles(self, services: Services, name: Properties) -> list[str]:
        """Return the roles of the profile. A profile may lack them, because its creation failed half-way."""
        try:
            profile = services.call("iam", "GetInstanceProfile", name)["InstanceProfile"]
        except ResourceError as error:
            if isinstance(error.__cause__, ResourceDoesNotExistException):
                return []
            raise
        return [role["RoleName"] for role in profile["Roles"]]


class LogGroup(UpdatableType):
    """A log group of CloudWatch Logs with its retention."""

    name = "LogGroupName"
    in_place = frozenset({"RetentionInDays", "Tags"})

    def planned_id(self, services: Services, properties: Properties) -> str:
        return properties.get("LogGroupName") or services.new_name(512)

    def create(self, services: Services, properties: Properties) -> CreatedResource:
        name = properties.get("LogGroupName") or services.new_name(512)
        tags = {item["Key"]: item["Value"] for item in properties.get("Tags", ())}
        arguments = {**without(properties, "RetentionInDays", "Tags", "LogGroupName"), "logGroupName": name}
        services.call("logs", "CreateLogGroup", {**arguments, **({"tags": tags} if tags else {})})
        # Before the retention: if that call fails, the log group is deleted again.
        services.mark_created(name)
        return self._set_retention(services, name, properties)

    def update(self, services: Services, resource: Resource, properties: Properties) -> CreatedResource:
        if properties.get("Tags", ()) != resource.properties.get("Tags", ()):
            tags = {item["Key"]: item["Value"] for item in properties.get("Tags", ())}
            found = services.call("logs", "DescribeLogGroups", {"logGroupNamePrefix": resource.physical_id})
            arns = [group["arn"] for group in found["logGroups"] if group["logGroupName"] == resource.physical_id]
            services.call("logs", "TagResource", {"resourceArn": arns[0].removesuffix(":*"), "tags": tags})
        return self._set_retention(services, resource.physical_id, properties)

    def _set_retention(self, services: Services, name: str, properties: Properties) -> CreatedResource:
        if days := properties.get("RetentionInDays"):
            services.call("logs", "PutRetentionPolicy", {"logGroupName": name, "retentionInDays": days})
        return CreatedResource(name)

    def delete(self, services: Services, resource: Resource) -> None:
        services.delete("logs", "DeleteLogGroup", {"logGroupName": resource.physical_id})


class JobDefinition(ResourceType):
    """A revision of a Batch job definition."""

    name = "JobDefinitionName"
    has_revisions = True

    def create(self, services: Services, properties: Properties) -> CreatedResource:
        arguments = {"JobDefinitionName": services.new_name(128), **without(properties, "ResourceRetentionPolicy")}
        return services.mark_created(services.call("batch", "RegisterJobDefinition", arguments)["jobDefinitionArn"])

    def delete(self, services: Services, resource: Resource) -> None:
        services.delete("batch", "DeregisterJobDefinition", {"jobDefinition": resource.physical_id})

    def outlives_replacement(self, properties: Properties) -> bool:
        policy: Properties = properties.get("ResourceRetentionPolicy", {})
        return str(policy.get("SkipDeregisterOnUpdate", False)).lower() == "true"


class ComputeEnvironment(UpdatableType):
    """A Batch compute environment."""

    name = "ComputeEnvironmentName"
    in_place = frozenset({"ComputeResources", "ServiceRole", "State", "UpdatePolicy", "ReplaceComputeEnvironment"})

    def planned_id(self, services: Services, properties: Properties) -> str:
        return properties.get("ComputeEnvironmentName") or services.new_name(128)

    def create(self, services: Services, properties: Properties) -> CreatedResource:
        arguments = without(properties, "ReplaceComputeEnvironment", "UpdatePolicy")
        named = {"ComputeEnvironmentName": services.new_name(128), **arguments}
        arn = services.call("batch", "CreateComputeEnvironment", named)["computeEnvironmentArn"]
        return services.mark_created(arn, {"ComputeEnvironmentArn": arn})

    def update(self, services: Services, resource: Resource, properties: Properties) -> CreatedResource:
        names = ("ComputeResources", "ServiceRole", "State", "UpdatePolicy")
        arguments = {name: properties[name] for name in names if name in properties}
        # Batch's update has no such argument.
        if "ComputeResources" in arguments:
            arguments["ComputeResources"] = without(arguments["ComputeResources"], "SpotIamFleetRole")
        name = {"ComputeEnvironment": resource.physical_id}
        services.call("batch", "UpdateComputeEnvironment", {**name, **arguments})
        return CreatedResource(resource.physical_id, resource.attributes)

    def delete(self, services: Services, resource: Resource) -> None:
        name = {"ComputeEnvironment": resource.physical_id}
        answer = services.call("batch", "DescribeComputeEnvironments", {"ComputeEnvironments": [resource.physical_id]})
        # Batch deletes a disabled compute environment only, and cannot disable a missing one.
        if answer["computeEnvironments"]:
            services.call("batch", "UpdateComputeEnvironment", {**name, "State": "DISABLED"})
            services.delete("batch", "DeleteComputeEnvironment", name)


class JobQueue(UpdatableType):
    """A Batch job queue."""

    name = "JobQueueName"
    arguments = ("ComputeEnvironmentOrder", "Priority", "State", "JobStateTimeLimitActions")
    in_place = frozenset({"Tags", *arguments})

    def planned_id(self, services: Services, properties: Properties) -> str:
        return properties.get("JobQueueName") or services.new_name(128)

    def create(self, services: Services, properties: Properties) -> CreatedResource:
        arguments = {"JobQueueName": services.new_name(128), "State": "ENABLED", **properties}
        arn = services.call("batch", "CreateJobQueue", arguments)["jobQueueArn"]
        return services.mark_created(arn, {"JobQueueArn": arn})

    def update(self, services: Services, resource: Resource, properties: Properties) -> CreatedResource:
        arguments = {name: properties[name] for name in self.arguments if name in properties}
        services.call("batch", "UpdateJobQueue", {"JobQueue": resource.physical_id, **arguments})
        if properties.get("Tags", {}) != resource.properties.get("Tags", {}):
            services.call("batch", "TagResource", {"resourceArn": resource.physical_id, "tags": properties["Tags"]})
        return CreatedResource(resource.physical_id, resource.attributes)

    def delete(self, services: Services, resource: Resource) -> None:
        name = {"JobQueue": resource.physical_id}
        # As with compute environments.
        if services.call("batch", "DescribeJobQueues", {"JobQueues": [resource.physical_id]})["jobQueues"]:
            services.call("batch", "UpdateJobQueue", {**name, "State": "DISABLED"})
            services.delete("batch", "DeleteJobQueue", name)


class BuildProject(UpdatableType):
    """A project of CodeBuild."""

    name = "Name"
    in_place = frozenset(
        {
            "Artifacts",
            "Description",
            "Environment",
            "LogsConfig",
            "QueuedTimeoutInMinutes",
            "ServiceRole",
            "Source",
            "Tags",
            "TimeoutInMinutes",
        }
    )

    def planned_id(self, services: Services, properties: Properties) -> str:
        return properties.get("Name") or services.new_name(255)

    def create(self, services: Services, properties: Properties) -> CreatedResource:
        arguments = {"Name": services.new_name(255), **properties}
        project = services.call("codebuild", "CreateProject", arguments)["project"]
        return services.mark_created(project["name"], {"Arn": project["arn"]})

    def update(self, services: Services, resource: Resource, properties: Properties) -> CreatedResource:
        arguments = {name: properties[name] for name in self.in_place if name in properties}
        services.call("codebuild", "UpdateProject", {"Name": resource.physical_id, **arguments})
        return CreatedResource(resource.physical_id, resource.attributes)

    def delete(self, services: Services, resource: Resource) -> None:
        services.delete("codebuild", "DeleteProject", {"Name": resource.physical_id})


class WaitHandle(ResourceType):
    """A placeholder with a physical id and nothing behind it."""

    def create(self, services: Services, properties: Properties) -> CreatedResource:
        return services.mark_created(f"https://cloudformation/{uuid.uuid4()}")

    def delete(self, services: Services, resource: Resource) -> None:
        pass


RESOURCE_TYPES: Mapping[str, ResourceType] = {
    "AWS::EC2::VPC": SimpleResource("Vpc", "vpc", "EnableDnsSupport", "EnableDnsHostnames"),
    "AWS::EC2::Subnet": SimpleResource("Subnet", "subnet", "MapPublicIpOnLaunch"),
    "AWS::EC2::InternetGateway": SimpleResource("InternetGateway", "internet-gateway"),
    "AWS::EC2::RouteTable": SimpleResource("RouteTable", "route-table"),
    "AWS::EC2::VPCGatewayAttachment": GatewayAttachment(),
    "AWS::EC2::Route": Route(),
    "AWS::EC2::SubnetRouteTableAssociation": RouteTableAssociation(),
    "AWS::EC2::VPCEndpoint": Endpoint(),
    "AWS::EC2::SecurityGroup": SecurityGroup(),
    "AWS::EC2::LaunchTemplate": LaunchTemplate(),
    "AWS::IAM::Role": Role(),
    "AWS::IAM::InstanceProfile": InstanceProfile(),
    "AWS::Logs::LogGroup": LogGroup(),
    "AWS::Batch::JobDefinition": JobDefinition(),
    "AWS::Batch::ComputeEnvironment": ComputeEnvironment(),
    "AWS::Batch::JobQueue": JobQueue(),
    "AWS::CodeBuild::Project": BuildProject(),
    "AWS::CloudFormation::WaitConditionHandle": WaitHandle(),
}
"""The resource types that stacks of the embedded cloud support: those of cloudknot's templates."""
