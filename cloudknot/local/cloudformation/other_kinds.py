"""The resources of IAM, Batch and CloudWatch Logs."""

from __future__ import annotations

import uuid
from typing import Any

from cloudknot.errors import ResourceDoesNotExistException
from cloudknot.local.cloudformation import network_kinds
from cloudknot.local.cloudformation.kinds import Kind, Made, Properties, Services, without
from cloudknot.local.cloudformation.records import Resource, ResourceError


class Role(Kind):
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


class InstanceProfile(Kind):
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


class LogGroup(Kind):
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


class JobDefinition(Kind):
    name = "JobDefinitionName"
    renewed_by_name = True

    def create(self, services: Services, properties: Properties) -> Made:
        named = {"JobDefinitionName": services.new_name(128), **without(properties, "ResourceRetentionPolicy")}
        return services.made(services.call("batch", "RegisterJobDefinition", named)["jobDefinitionArn"])

    def delete(self, services: Services, resource: Resource) -> None:
        services.delete("batch", "DeregisterJobDefinition", {"jobDefinition": resource.physical_id})

    def survives_renewal(self, properties: Properties) -> bool:
        skips: Any = properties.get("ResourceRetentionPolicy", {}).get("SkipDeregisterOnUpdate", False)
        return str(skips).lower() == "true"


class ComputeEnvironment(Kind):
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


class JobQueue(Kind):
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


class WaitHandle(Kind):
    """A resource without anything behind it."""

    def create(self, services: Services, properties: Properties) -> Made:
        return services.made(f"https://cloudformation/{uuid.uuid4()}")

    def delete(self, services: Services, resource: Resource) -> None:
        pass


KINDS: dict[str, Kind] = {
    **network_kinds.KINDS,
    "AWS::IAM::Role": Role(),
    "AWS::IAM::InstanceProfile": InstanceProfile(),
    "AWS::Logs::LogGroup": LogGroup(),
    "AWS::Batch::JobDefinition": JobDefinition(),
    "AWS::Batch::ComputeEnvironment": ComputeEnvironment(),
    "AWS::Batch::JobQueue": JobQueue(),
    "AWS::CloudFormation::WaitConditionHandle": WaitHandle(),
}
"""Every kind of resource that a stack of the embedded cloud can have."""
