"""Compute the parameters of a Pars' stack: policies, role names and network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from cloudknot.aws import clients
from cloudknot.aws.permissions.managed_policies import names_of, policy_arns
from cloudknot.deploy.cloudformation.template import SPELLING
from cloudknot.deploy.iam import BATCH, linked_role
from cloudknot.options import config
from cloudknot.options.choices import ParsOptions

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import FilterTypeDef

    from cloudknot.aws.cloud import Cloud

DEFAULT_CIDR = "10.0.0.0/16"


def wanted_parameters(
    cloud: Cloud, options: ParsOptions, current: Mapping[str, str], policies: Mapping[str, str], boundary: str = ""
) -> dict[str, str]:
    """Return the parameters of the stack.

    Parameters
    ----------
    cloud : Cloud
    options : ParsOptions
    current : mapping of str to str
        Parameters of the existing stack. An option without a value keeps its current one, without a call to AWS.
    policies : mapping of str to str
        ARNs of policies that are resolved already, by name or ARN.
    boundary : str
        ARN of the permissions boundary for all roles. Empty keeps the current one.
    """
    # Policies are only ever added: other knots that share these resources rely on the current ones.
    names = {
        "BatchServiceRoleName": options.batch_service_role_name,
        "EcsInstanceRoleName": options.ecs_instance_role_name,
        "SpotFleetRoleName": options.spot_fleet_role_name,
    }
    return {
        SPELLING: options.spelling,
        # Only a Pars of an earlier version has a job role, with these.
        "BucketArns": current.get("BucketArns", ""),
        "RunArns": current.get("RunArns", ""),
        "BatchServiceLinkedRole": current.get("BatchServiceLinkedRole") or linked_role(cloud, BATCH),
        "PermissionsBoundary": boundary or current.get("PermissionsBoundary", ""),
        "Policies": ",".join(_policies(cloud, options, current, policies)),
        **{parameter: name or current.get(parameter, "") for parameter, name in names.items()},
        **_network(cloud, options, current),
    }


def missing_policies(policies: Sequence[str], current: Mapping[str, str]) -> list[str]:
    """Return the names or ARNs in ``policies`` that a stack with the parameters ``current`` lacks."""
    arns = _current_policies(current)
    names = {name for arn in arns for name in (arn, *names_of(arn))}
    return [policy for policy in dict.fromkeys(policies) if policy not in names]


def boundary_arn(cloud: Cloud, options: ParsOptions, current: Mapping[str, str]) -> str:
    """Return the ARN of the permissions boundary that the options or the settings name; empty if they name none.

    Raises
    ------
    CloudknotInputError
        There is no such policy.
    """
    chosen, parameter = options.permissions_boundary, "permissions_boundary"
    if chosen is None:
        chosen, parameter = config.permissions_boundary(), "CLOUDKNOT_PERMISSIONS_BOUNDARY"
    if chosen is None:
        return ""
    arn = current.get("PermissionsBoundary", "")
    # The current one needs no look-up. AWS would refuse a missing one only after it has made other resources.
    return arn if chosen in (arn, *names_of(arn)) else policy_arns(cloud, {chosen: parameter})[chosen]


def _current_policies(current: Mapping[str, str]) -> list[str]:
    return [arn for arn in current.get("Policies", "").split(",") if arn]


def _policies(
    cloud: Cloud, options: ParsOptions, current: Mapping[str, str], resolved: Mapping[str, str]
) -> Iterable[str]:
    """Return the current ARNs and those of the options; ``resolved`` holds ARNs that are looked up already."""
    missing = missing_policies(options.policies, current)
    # When ``resolved`` was looked up, policies of the stack were left out. Another session may have deleted the stack
    # since, so that its policies are missing now.
    unresolved = [policy for policy in missing if policy not in resolved]
    arns = {**resolved, **(policy_arns(cloud, dict.fromkeys(unresolved, "policies")) if unresolved else {})}
    return dict.fromkeys([*_current_policies(current), *(arns[policy] for policy in missing)])


def _network(cloud: Cloud, options: ParsOptions, current: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters of the network: the VPC in use, the default VPC, or the addresses of a new one."""
    if options.use_default_vpc and current.get("VpcId"):
        return {"VpcId": current["VpcId"], "SubnetIds": current.get("SubnetIds", "")}
    # An existing stack without a VpcId made its own VPC. It keeps that one, because machines may be running there.
    if options.use_default_vpc and not current and (default := _default_vpc(cloud)):
        return default
    cidr = options.ipv4_cidr or current.get("VpcCidr") or DEFAULT_CIDR
    return {
        "VpcId": "",
        "SubnetIds": "",
        "VpcCidr": cidr,
        "SubnetCidrs": _halves(cidr),
        "Zones": current.get("Zones") or _zones(cloud),
        "InstanceTenancy": options.instance_tenancy or current.get("InstanceTenancy") or "default",
    }


def _default_vpc(cloud: Cloud) -> dict[str, str] | None:
    """Return the parameters for the region's default VPC; None without one, or without a usable subnet."""
    default: list[FilterTypeDef] = [{"Name": "is-default", "Values": ["true"]}]
    vpcs = clients.ec2(cloud).describe_vpcs(Filters=default)["Vpcs"]
    if not vpcs:
        return None
    inside: list[FilterTypeDef] = [{"Name": "vpc-id", "Values": [vpcs[0]["VpcId"]]}]
    subnets = clients.ec2(cloud).describe_subnets(Filters=inside)["Subnets"]
    # Without a NAT gateway, a machine needs a public address to reach the image registry.
    ids = sorted(subnet["SubnetId"] for subnet in subnets if subnet.get("MapPublicIpOnLaunch", True))
    return {"VpcId": vpcs[0]["VpcId"], "SubnetIds": ",".join(ids)} if ids else None


def _halves(cidr: str) -> str:
    """Return the two halves of a block of addresses, one for each subnet."""
    from ipaddress import IPv4Network

    return ",".join(map(str, IPv4Network(cidr).subnets()))


def _zones(cloud: Cloud) -> str:
    """Return the names of the region's first two availability zones."""
    usable: list[FilterTypeDef] = [
        {"Name": "zone-type", "Values": ["availability-zone"]},
        {"Name": "state", "Values": ["available"]},
    ]
    zones = clients.ec2(cloud).describe_availability_zones(Filters=usable)["AvailabilityZones"]
    return ",".join(sorted(zone["ZoneName"] for zone in zones)[:2])
