"""The resource types of the embedded CloudFormation, each made, changed and deleted with its service's public API."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping

from cloudknot.errors import ResourceDoesNotExistException
from cloudknot.local.cloudformation.records import Properties, Resource, ResourceError
from cloudknot.local.cloudformation.services import Made, Services


class ResourceType(ABC):
    """A type of resource, such as ``AWS::EC2::VPC``. A changed one is made anew."""

    name = ""
    """The property that names a resource of this type, if there is one."""
    renewed_by_name = False
    """Whether another one of the same name can be made beside it, as with revisions."""

    @abstractmethod
    def create(self, services: Services, properties: Properties) -> Made:
        """Make a resource, and call `Services.made` as soon as there is something to delete."""

    @abstractmethod
    def delete(self, services: Services, resource: Resource) -> None:
        """Delete a resource. One that is gone already is no error."""

    def survives_renewal(self, properties: Properties) -> bool:
        """Whether the old one stays when another has been made in its place."""
        return False


class UpdatableType(ResourceType):
    """A type with properties that can be changed without a new resource being made."""

    in_place: frozenset[str]
    """These properties."""

    @abstractmethod
    def update(self, services: Services, resource: Resource, properties: Properties) -> Made:
        """Bring the properties of `in_place` up to date."""


def without(properties: Properties, *names: str) -> Properties:
    """The properties that CloudFormation's resource has and the operation has not, left out."""
    return {name: value for name, value in properties.items() if name not in names}


def tagged(kind: str, properties: Properties) -> Properties:
    """The tags as EC2's operations take them."""
    tags = properties.get("Tags")
    return {"TagSpecifications": [{"ResourceType": kind, "Tags": tags}]} if tags else {}


class Simple(UpdatableType):
    """What one call makes and another deletes, and what is known by an id of its own.

    Parameters
    ----------
    noun : str
        As the operations have it: ``"Vpc"`` for CreateVpc and DeleteVpc.
    tag : str
        As tags have it: ``"vpc"``.
    switches : str
        Properties that ``Modify<noun>Attribute`` sets.
    """

    def __init__(self, noun: str, tag: str, *switches: str) -> None:
        self._noun, self._tag, self._switches = noun, tag, switches
        self.in_place = frozenset({*switches, "Tags"})

    def create(self, services: Services, properties: Properties) -> Made:
        wanted = without(properties, "Tags", *self._switches)
        answer = services.call("ec2", f"Create{self._noun}", {**wanted, **tagged(self._tag, properties)})
        physical_id = answer[self._noun][f"{self._noun}Id"]
        made = services.made(physical_id, {f"{self._noun}Id": physical_id})
        self._switch(services, made.physical_id, properties)
        return made

    def update(self, services: Services, resource: Resource, properties: Properties) -> Made:
        self._switch(services, resource.physical_id, properties)
        if properties.get("Tags"):
            services.call("ec2", "CreateTags", {"Resources": [resource.physical_id], "Tags": properties["Tags"]})
        return Made(resource.physical_id, resource.attributes)

    def _switch(self, services: Services, physical_id: str, properties: Properties) -> None:
        for switch in self._switches:
            if switch in properties:
                value = {f"{self._noun}Id": physical_id, switch: {"Value": properties[switch]}}
                services.call("ec2", f"Modify{self._noun}Attribute", value)

    def delete(self, services: Services, resource: Resource) -> None:
        services.delete("ec2", f"Delete{self._noun}", {f"{self._noun}Id": resource.physical_id})


class GatewayAttachment(ResourceType):
    def create(self, services: Services, properties: Properties) -> Made:
        services.call("ec2", "AttachInternetGateway", properties)
        return services.made(f"IGW|{properties['VpcId']}")

    def delete(self, services: Services, resource: Resource) -> None:
        services.delete("ec2", "DetachInternetGateway", resource.properties)


class Route(ResourceType):
    def create(self, services: Services, properties: Properties) -> Made:
        services.call("ec2", "CreateRoute", properties)
        return services.made(f"{properties['RouteTableId']}|{properties['DestinationCidrBlock']}")

    def delete(self, services: Services, resource: Resource) -> None:
        where = {name: resource.properties[name] for name in ("RouteTableId", "DestinationCidrBlock")}
        services.delete("ec2", "DeleteRoute", where)


class RouteTableAssociation(ResourceType):
    def create(self, services: Services, properties: Properties) -> Made:
        return services.made(services.call("ec2", "AssociateRouteTable", properties)["AssociationId"])

    def delete(self, services: Services, resource: Resource) -> None:
        services.delete("ec2", "DisassociateRouteTable", {"AssociationId": resource.physical_id})


class Endpoint(UpdatableType):
    in_place = frozenset({"Tags"})

    def create(self, services: Services, properties: Properties) -> Made:
        wanted = {**without(properties, "Tags"), **tagged("vpc-endpoint", properties)}
        return services.made(services.call("ec2", "CreateVpcEndpoint", wanted)["VpcEndpoint"]["VpcEndpointId"])

    def update(self, services: Services, resource: Resource, properties: Properties) -> Made:
        services.call("ec2", "CreateTags", {"Resources": [resource.physical_id], "Tags": properties["Tags"]})
        return Made(resource.physical_id, resource.attributes)

    def delete(self, services: Services, resource: Resource) -> None:
        services.delete("ec2", "DeleteVpcEndpoints", {"VpcEndpointIds": [resource.physical_id]})


class SecurityGroup(UpdatableType):
    name = "GroupName"
    in_place = frozenset({"Tags"})

    def create(self, services: Services, properties: Properties) -> Made:
        wanted = {
            "GroupName": properties.get("GroupName") or services.new_name(255),
            "Description": properties["GroupDescription"],
            **without(properties, "GroupName", "GroupDescription", "Tags"),
            **tagged("security-group", properties),
        }
        group = services.call("ec2", "CreateSecurityGroup", wanted)["GroupId"]
        return services.made(group, {"GroupId": group})

    def update(self, services: Services, resource: Resource, properties: Properties) -> Made:
        services.call("ec2", "CreateTags", {"Resources": [resource.physical_id], "Tags": properties["Tags"]})
        return Made(resource.physical_id, resource.attributes)

    def delete(self, services: Services, resource: Resource) -> None:
        using = [{"Name": "instance.group-id", "Values": [resource.physical_id]}]
        used = services.call("ec2", "DescribeInstances", {"Filters": using})["Reservations"]
        if any(item["State"]["Name"] != "terminated" for one in used for item in one["Instances"]):
            # EC2 refuses this by itself; moto does not.
            raise ResourceError(
                f"resource {resource.physical_id} has a dependent object "
                "(Service: Ec2, Status Code: 400, HandlerErrorCode: DependencyViolation)"
            )
        services.delete("ec2", "DeleteSecurityGroup", {"GroupId": resource.physical_id})


class LaunchTemplate(UpdatableType):
    name = "LaunchTemplateName"
    in_place = frozenset({"LaunchTemplateData", "TagSpecifications"})

    def create(self, services: Services, properties: Properties) -> Made:
        named = {"LaunchTemplateName": services.new_name(128), **properties}
        answer = services.call("ec2", "CreateLaunchTemplate", named)["LaunchTemplate"]
        return services.made(answer["LaunchTemplateId"], _versions(answer["LaunchTemplateId"], 1))

    def update(self, services: Services, resource: Resource, properties: Properties) -> Made:
        wanted = {"LaunchTemplateId": resource.physical_id, "LaunchTemplateData": properties["LaunchTemplateData"]}
        answer = services.call("ec2", "CreateLaunchTemplateVersion", wanted)["LaunchTemplateVersion"]
        return Made(resource.physical_id, _versions(resource.physical_id, answer["VersionNumber"]))

    def delete(self, services: Services, resource: Resource) -> None:
        services.delete("ec2", "DeleteLaunchTemplate", {"LaunchTemplateId": resource.physical_id})


def _versions(template_id: str, latest: int) -> dict[str, str]:
    return {"LaunchTemplateId": template_id, "LatestVersionNumber": str(latest), "DefaultVersionNumber": "1"}


class Role(UpdatableType):
    name = "RoleName"
    in_place = frozenset({"ManagedPolicyArns", "Policies", "Tags", "AssumeRolePolicyDocument"})

    def create(self, services: Services, properties: Properties) -> Made:
        role = properties.get("RoleName") or services.new_name()
        wanted = {**without(properties, "ManagedPolicyArns", "Policies"), "RoleName": role}
        answer = services.call("iam", "CreateRole", wanted)["Role"]
        made = services.made(role, {"Arn": answer["Arn"], "RoleId": answer["RoleId"]})
        self._grant(services, role, properties)
        return made

    def update(self, services: Services, resource: Resource, properties: Properties) -> Made:
        role = resource.physical_id
        self._revoke(services, role, resource.properties, kept=properties)
        self._grant(services, role, properties)
        document = properties["AssumeRolePolicyDocument"]
        services.call("iam", "UpdateAssumeRolePolicy", {"RoleName": role, "PolicyDocument": document})
        if properties.get("Tags"):
            services.call("iam", "TagRole", {"RoleName": role, "Tags": properties["Tags"]})
        return Made(role, resource.attributes)

    def delete(self, services: Services, resource: Resource) -> None:
        self._revoke(services, resource.physical_id, resource.properties, kept={})
        services.delete("iam", "DeleteRole", {"RoleName": resource.physical_id})

    def _grant(self, services: Services, role: str, properties: Properties) -> None:
        for arn in properties.get("ManagedPolicyArns", ()):
            services.call("iam", "AttachRolePolicy", {"RoleName": role, "PolicyArn": arn})
        for policy in properties.get("Policies", ()):
            services.call("iam", "PutRolePolicy", {"RoleName": role, **policy})

    def _revoke(self, services: Services, role: str, properties: Properties, kept: Properties) -> None:
        for arn in properties.get("ManagedPolicyArns", ()):
            if arn not in kept.get("ManagedPolicyArns", ()):
                services.delete("iam", "DetachRolePolicy", {"RoleName": role, "PolicyArn": arn})
        names = {policy["PolicyName"] for policy in kept.get("Policies", ())}
        for policy in properties.get("Policies", ()):
            if policy["PolicyName"] not in names:
                where = {"RoleName": role, "PolicyName": policy["PolicyName"]}
                services.delete("iam", "DeleteRolePolicy", where)


class InstanceProfile(ResourceType):
    name = "InstanceProfileName"

    def create(self, services: Services, properties: Properties) -> Made:
        name = properties.get("InstanceProfileName") or services.new_name(128)
        wanted = {**without(properties, "Roles"), "InstanceProfileName": name}
        answer = services.call("iam", "CreateInstanceProfile", wanted)["InstanceProfile"]
        made = services.made(name, {"Arn": answer["Arn"]})
        for role in properties["Roles"]:
            services.call("iam", "AddRoleToInstanceProfile", {"InstanceProfileName": name, "RoleName": role})
        return made

    def delete(self, services: Services, resource: Resource) -> None:
        name = {"InstanceProfileName": resource.physical_id}
        for role in self._roles(services, name):
            services.delete("iam", "RemoveRoleFromInstanceProfile", {**name, "RoleName": role})
        services.delete("iam", "DeleteInstanceProfile", name)

    def _roles(self, services: Services, name: Properties) -> list[str]:
        """The roles that it has: none where its creation failed before it got one."""
        try:
            profile = services.call("iam", "GetInstanceProfile", name)["InstanceProfile"]
        except ResourceError as error:
            if isinstance(error.__cause__, ResourceDoesNotExistException):
                return []
            raise
        return [role["RoleName"] for role in profile["Roles"]]


class LogGroup(UpdatableType):
    name = "LogGroupName"
    in_place = frozenset({"RetentionInDays", "Tags"})

    def create(self, services: Services, properties: Properties) -> Made:
        name = properties.get("LogGroupName") or services.new_name(512)
        tags = {item["Key"]: item["Value"] for item in properties.get("Tags", ())}
        wanted = without(properties, "RetentionInDays", "Tags", "LogGroupName")
        services.call("logs", "CreateLogGroup", {**wanted, "logGroupName": name, **({"tags": tags} if tags else {})})
        services.made(name)
        return self._retain(services, name, properties)

    def update(self, services: Services, resource: Resource, properties: Properties) -> Made:
        return self._retain(services, resource.physical_id, properties)

    def _retain(self, services: Services, name: str, properties: Properties) -> Made:
        if days := properties.get("RetentionInDays"):
            services.call("logs", "PutRetentionPolicy", {"logGroupName": name, "retentionInDays": days})
        return Made(name)

    def delete(self, services: Services, resource: Resource) -> None:
        services.delete("logs", "DeleteLogGroup", {"logGroupName": resource.physical_id})


class JobDefinition(ResourceType):
    name = "JobDefinitionName"
    renewed_by_name = True

    def create(self, services: Services, properties: Properties) -> Made:
        named = {"JobDefinitionName": services.new_name(128), **without(properties, "ResourceRetentionPolicy")}
        return services.made(services.call("batch", "RegisterJobDefinition", named)["jobDefinitionArn"])

    def delete(self, services: Services, resource: Resource) -> None:
        services.delete("batch", "DeregisterJobDefinition", {"jobDefinition": resource.physical_id})

    def survives_renewal(self, properties: Properties) -> bool:
        policy: Properties = properties.get("ResourceRetentionPolicy", {})
        return str(policy.get("SkipDeregisterOnUpdate", False)).lower() == "true"


class ComputeEnvironment(UpdatableType):
    name = "ComputeEnvironmentName"
    in_place = frozenset({"ComputeResources", "ServiceRole", "State", "UpdatePolicy", "ReplaceComputeEnvironment"})

    def create(self, services: Services, properties: Properties) -> Made:
        wanted = without(properties, "ReplaceComputeEnvironment", "UpdatePolicy")
        named = {"ComputeEnvironmentName": services.new_name(128), **wanted}
        arn = services.call("batch", "CreateComputeEnvironment", named)["computeEnvironmentArn"]
        return services.made(arn, {"ComputeEnvironmentArn": arn})

    def update(self, services: Services, resource: Resource, properties: Properties) -> Made:
        names = ("ComputeResources", "ServiceRole", "State", "UpdatePolicy")
        wanted = {name: properties[name] for name in names if name in properties}
        if "ComputeResources" in wanted:
            wanted["ComputeResources"] = without(wanted["ComputeResources"], "SpotIamFleetRole")
        name = {"ComputeEnvironment": resource.physical_id}
        services.call("batch", "UpdateComputeEnvironment", {**name, **wanted})
        return Made(resource.physical_id, resource.attributes)

    def delete(self, services: Services, resource: Resource) -> None:
        name = {"ComputeEnvironment": resource.physical_id}
        if services.call("batch", "DescribeComputeEnvironments", {"ComputeEnvironments": [resource.physical_id]})[
            "computeEnvironments"
        ]:
            services.call("batch", "UpdateComputeEnvironment", {**name, "State": "DISABLED"})
            services.delete("batch", "DeleteComputeEnvironment", name)


class JobQueue(UpdatableType):
    name = "JobQueueName"
    in_place = frozenset({"ComputeEnvironmentOrder", "Priority", "State", "JobStateTimeLimitActions"})

    def create(self, services: Services, properties: Properties) -> Made:
        named = {"JobQueueName": services.new_name(128), "State": "ENABLED", **properties}
        arn = services.call("batch", "CreateJobQueue", named)["jobQueueArn"]
        return services.made(arn, {"JobQueueArn": arn})

    def update(self, services: Services, resource: Resource, properties: Properties) -> Made:
        wanted = {name: properties[name] for name in self.in_place if name in properties}
        services.call("batch", "UpdateJobQueue", {"JobQueue": resource.physical_id, **wanted})
        return Made(resource.physical_id, resource.attributes)

    def delete(self, services: Services, resource: Resource) -> None:
        name = {"JobQueue": resource.physical_id}
        if services.call("batch", "DescribeJobQueues", {"JobQueues": [resource.physical_id]})["jobQueues"]:
            services.call("batch", "UpdateJobQueue", {**name, "State": "DISABLED"})
            services.delete("batch", "DeleteJobQueue", name)


class WaitHandle(ResourceType):
    """A resource without anything behind it."""

    def create(self, services: Services, properties: Properties) -> Made:
        return services.made(f"https://cloudformation/{uuid.uuid4()}")

    def delete(self, services: Services, resource: Resource) -> None:
        pass


RESOURCE_TYPES: Mapping[str, ResourceType] = {
    "AWS::EC2::VPC": Simple("Vpc", "vpc", "EnableDnsSupport", "EnableDnsHostnames"),
    "AWS::EC2::Subnet": Simple("Subnet", "subnet", "MapPublicIpOnLaunch"),
    "AWS::EC2::InternetGateway": Simple("InternetGateway", "internet-gateway"),
    "AWS::EC2::RouteTable": Simple("RouteTable", "route-table"),
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
    "AWS::CloudFormation::WaitConditionHandle": WaitHandle(),
}
"""Every type of resource that a stack of the embedded cloud can have."""
