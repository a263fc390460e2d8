"""What a Pars has, as the parameters of its stack: policies, buckets, role names and the network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from cloudknot.aws import clients
from cloudknot.aws.permissions.managed_policies import names_of, policy_arns
from cloudknot.deploy.iam import BATCH, linked_role
from cloudknot.options.choices import ParsOptions
from cloudknot.worker.wire.keys import RUNS

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import FilterTypeDef

    from cloudknot.aws.cloud import Cloud

DEFAULT_CIDR = "10.0.0.0/16"


def wanted_parameters(
    cloud: Cloud, options: ParsOptions, known: Mapping[str, str], policies: Mapping[str, str]
) -> dict[str, str]:
    """Return the stack's parameters; ``policies`` are ARNs that were looked up already, by name or ARN.

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
        "Policies": ",".join(_policies(cloud, options, known, policies)),
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


def lacking_policies(policies: Sequence[str], known: Mapping[str, str]) -> list[str]:
    """Return those of ``policies``, names or ARNs, that a stack with the parameters ``known`` does not have."""
    arns = _known_policies(known)
    names = {name for arn in arns for name in (arn, *names_of(arn))}
    return [policy for policy in dict.fromkeys(policies) if policy not in names]


def _known_policies(known: Mapping[str, str]) -> list[str]:
    return [arn for arn in known.get("Policies", "").split(",") if arn]


def _policies(
    cloud: Cloud, options: ParsOptions, known: Mapping[str, str], resolved: Mapping[str, str]
) -> Iterable[str]:
    """Return the known ARNs and those of the choices; ``resolved`` are those that were looked up already."""
    lacking = lacking_policies(options.policies, known)
    # Another session may have removed the Pars, and with it a policy that was known when ``resolved`` was looked up.
    gone = [policy for policy in lacking if policy not in resolved]
    found = {**resolved, **(policy_arns(cloud, dict.fromkeys(gone, "policies")) if gone else {})}
    return dict.fromkeys([*_known_policies(known), *(found[policy] for policy in lacking)])


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
    default: list[FilterTypeDef] = [{"Name": "is-default", "Values": ["true"]}]
    vpcs = clients.ec2(cloud).describe_vpcs(Filters=default)["Vpcs"]
    if not vpcs:
        return None
    inside: list[FilterTypeDef] = [{"Name": "vpc-id", "Values": [vpcs[0]["VpcId"]]}]
    subnets = clients.ec2(cloud).describe_subnets(Filters=inside)["Subnets"]
    ids = sorted(subnet["SubnetId"] for subnet in subnets if subnet.get("MapPublicIpOnLaunch", True))
    return {"VpcId": vpcs[0]["VpcId"], "SubnetIds": ",".join(ids)} if ids else None


def _halves(cidr: str) -> str:
    from ipaddress import IPv4Network

    return ",".join(map(str, IPv4Network(cidr).subnets()))


def _zones(cloud: Cloud) -> str:
    usable: list[FilterTypeDef] = [
        {"Name": "zone-type", "Values": ["availability-zone"]},
        {"Name": "state", "Values": ["available"]},
    ]
    zones = clients.ec2(cloud).describe_availability_zones(Filters=usable)["AvailabilityZones"]
    return ",".join(sorted(zone["ZoneName"] for zone in zones)[:2])
