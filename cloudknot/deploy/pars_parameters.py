"""What a Pars has, as the parameters of its stack: policies, buckets, role names and the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cloudknot.aws.permissions.managed_policies import names_of, policy_arns
from cloudknot.deploy.iam import BATCH, linked_role
from cloudknot.options.choices import ParsOptions
from cloudknot.worker.wire.keys import RUNS

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud

DEFAULT_CIDR = "10.0.0.0/16"


def wanted_parameters(cloud: Cloud, options: ParsOptions, known: Mapping[str, str]) -> dict[str, str]:
    """The stack's parameters.

    ``known`` are those of the stack as it is: what was not chosen now stays so, and what they answer is not asked of
    AWS again. Policies and buckets add up, since every knot that shares these resources counts on its own.
    """
    names = {
        "BatchServiceRoleName": options.batch_service_role_name,
        "EcsInstanceRoleName": options.ecs_instance_role_name,
        "SpotFleetRoleName": options.spot_fleet_role_name,
    }
    return {
        **_buckets(cloud, known.get("BucketArns", "")),
        "BatchServiceLinkedRole": known.get("BatchServiceLinkedRole") or linked_role(cloud, BATCH),
        "Policies": ",".join(wanted_policies(cloud, options.policies, known.get("Policies", ""))),
        **{parameter: name or known.get(parameter, "") for parameter, name in names.items()},
        **_network(cloud, options, known),
    }


def _buckets(cloud: Cloud, known: str) -> dict[str, str]:
    """ARNs of the buckets that jobs may list, those ``known`` among them, and of the runs in them."""
    arns = list(dict.fromkeys([*filter(None, known.split(",")), bucket_arn(cloud, cloud.bucket)]))
    return {"BucketArns": ",".join(arns), "RunArns": ",".join(f"{arn}/{RUNS}/*" for arn in arns)}


def bucket_arn(cloud: Cloud, bucket: str) -> str:
    """ARN of a bucket."""
    return f"arn:{cloud.partition}:s3:::{bucket}"


def wanted_policies(cloud: Cloud, policies: Sequence[str], known: str, parameter: str = "policies") -> list[str]:
    """The known ARNs, and those of ``policies``: a name is the user's own policy where there is one, else AWS's.

    Raises
    ------
    CloudknotInputError
        There is no such policy; ``parameter`` is where the caller was given it.
    """
    arns = [arn for arn in known.split(",") if arn]
    names = {name for arn in arns for name in names_of(arn)}
    added = [policy for policy in policies if policy not in (*arns, *names)]
    found = policy_arns(cloud, added, parameter) if added else {}
    return list(dict.fromkeys([*arns, *(found[policy] for policy in added)]))


def _network(cloud: Cloud, options: ParsOptions, known: Mapping[str, str]) -> dict[str, str]:
    """The parameters that say which VPC, those of the default VPC or those for a new one."""
    if options.use_default_vpc and known.get("VpcId"):
        return {"VpcId": known["VpcId"], "SubnetIds": known.get("SubnetIds", "")}
    if options.use_default_vpc and not known and (default := _default_vpc(cloud)):
        return default
    cidr = options.ipv4_cidr or known.get("VpcCidr") or DEFAULT_CIDR
    return {
        "VpcId": "",
        "SubnetIds": "",
        "VpcCidr": cidr,
        "SubnetCidrs": _halves(cidr),
        "Zones": known.get("Zones") or _zones(cloud),
        "InstanceTenancy": options.instance_tenancy or known.get("InstanceTenancy") or "default",
    }


def _default_vpc(cloud: Cloud) -> dict[str, str] | None:
    default = [{"Name": "is-default", "Values": ["true"]}]
    vpcs = cloud.call("ec2", "describe_vpcs", Filters=default)["Vpcs"]
    if not vpcs:
        return None
    inside = [{"Name": "vpc-id", "Values": [vpcs[0]["VpcId"]]}]
    subnets = cloud.call("ec2", "describe_subnets", Filters=inside)["Subnets"]
    ids = sorted(subnet["SubnetId"] for subnet in subnets if subnet.get("MapPublicIpOnLaunch", True))
    return {"VpcId": vpcs[0]["VpcId"], "SubnetIds": ",".join(ids)} if ids else None


def _halves(cidr: str) -> str:
    from ipaddress import IPv4Network

    return ",".join(map(str, IPv4Network(cidr).subnets()))


def _zones(cloud: Cloud) -> str:
    usable = [{"Name": "zone-type", "Values": ["availability-zone"]}, {"Name": "state", "Values": ["available"]}]
    zones = cloud.call("ec2", "describe_availability_zones", Filters=usable)["AvailabilityZones"]
    return ",".join(sorted(zone["ZoneName"] for zone in zones)[:2])
