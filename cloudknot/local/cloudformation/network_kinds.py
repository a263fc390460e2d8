"""The resources of EC2: the network of jobs, and the launch template of their instances."""

from __future__ import annotations

from typing import Any

from cloudknot.local.cloudformation.kinds import Kind, Made, Properties, Services, without
from cloudknot.local.cloudformation.records import Resource, ResourceError


def tagged(kind: str, properties: Properties) -> dict[str, Any]:
    """The tags as EC2's operations take them."""
    tags = properties.get("Tags")
    return {"TagSpecifications": [{"ResourceType": kind, "Tags": tags}]} if tags else {}


class Simple(Kind):
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


class GatewayAttachment(Kind):
    def create(self, services: Services, properties: Properties) -> Made:
        services.call("ec2", "AttachInternetGateway", properties)
        return services.made(f"IGW|{properties['VpcId']}")

    def delete(self, services: Services, resource: Resource) -> None:
        services.delete("ec2", "DetachInternetGateway", resource.properties)


class Route(Kind):
    def create(self, services: Services, properties: Properties) -> Made:
        services.call("ec2", "CreateRoute", properties)
        return services.made(f"{properties['RouteTableId']}|{properties['DestinationCidrBlock']}")

    def delete(self, services: Services, resource: Resource) -> None:
        where = {name: resource.properties[name] for name in ("RouteTableId", "DestinationCidrBlock")}
        services.delete("ec2", "DeleteRoute", where)


class RouteTableAssociation(Kind):
    def create(self, services: Services, properties: Properties) -> Made:
        return services.made(services.call("ec2", "AssociateRouteTable", properties)["AssociationId"])

    def delete(self, services: Services, resource: Resource) -> None:
        services.delete("ec2", "DisassociateRouteTable", {"AssociationId": resource.physical_id})


class Endpoint(Kind):
    in_place = frozenset({"Tags"})

    def create(self, services: Services, properties: Properties) -> Made:
        wanted = {**without(properties, "Tags"), **tagged("vpc-endpoint", properties)}
        return services.made(services.call("ec2", "CreateVpcEndpoint", wanted)["VpcEndpoint"]["VpcEndpointId"])

    def update(self, services: Services, resource: Resource, properties: Properties) -> Made:
        services.call("ec2", "CreateTags", {"Resources": [resource.physical_id], "Tags": properties["Tags"]})
        return Made(resource.physical_id, resource.attributes)

    def delete(self, services: Services, resource: Resource) -> None:
        services.delete("ec2", "DeleteVpcEndpoints", {"VpcEndpointIds": [resource.physical_id]})


class SecurityGroup(Kind):
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


class LaunchTemplate(Kind):
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


KINDS: dict[str, Kind] = {
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
}
