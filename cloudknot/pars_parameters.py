"""What a Pars has, as the parameters of its stack: policies, buckets, role names and the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from cloudknot.errors import CloudError
from cloudknot.options import ParsOptions
from cloudknot.rules import refuse
from cloudknot.worker.protocol import RUNS

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud

DEFAULT_CIDR = "10.0.0.0/16"
BATCH = "batch.amazonaws.com"


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
        "BatchServiceLinkedRole": known.get("BatchServiceLinkedRole") or _service_linked_role(cloud),
        "Policies": ",".join(_policy_arns(cloud, options.policies, known.get("Policies", ""))),
        **{parameter: name or known.get(parameter, "") for parameter, name in names.items()},
        **_network(cloud, options, known),
    }


def _buckets(cloud: Cloud, known: str) -> dict[str, str]:
    """ARNs of the buckets that jobs may list, those ``known`` among them, and of the runs in them."""
    arns = list(dict.fromkeys([*filter(None, known.split(",")), f"arn:{cloud.partition}:s3:::{cloud.bucket}"]))
    return {"BucketArns": ",".join(arns), "RunArns": ",".join(f"{arn}/{RUNS}/*" for arn in arns)}


def _service_linked_role(cloud: Cloud) -> str:
    """ARN of the account's service-linked role for Batch, which is made when the account has none."""
    if arn := _find_service_linked_role(cloud):
        return arn
    try:
        return str(cloud.call("iam", "create_service_linked_role", AWSServiceName=BATCH)["Role"]["Arn"])
    except CloudError:
        # Another session may have made it just now, which AWS answers with InvalidInput.
        if arn := _find_service_linked_role(cloud):
            return arn
        raise


def _find_service_linked_role(cloud: Cloud) -> str | None:
    roles = cloud.call("iam", "list_roles", PathPrefix=f"/aws-service-role/{BATCH}/")["Roles"]
    return next((str(role["Arn"]) for role in roles), None)


def _policy_arns(cloud: Cloud, policies: Sequence[str], known: str) -> list[str]:
    """The known ARNs, and those of ``policies``: a name is the user's own policy where there is one, else AWS's."""
    arns = [arn for arn in known.split(",") if arn]
    names = {name for arn in arns for name in _names(arn)}
    added = [policy for policy in policies if policy not in (*arns, *names)]
    unknown = [policy for policy in added if not policy.startswith("arn:")]
    found = _find_policies(cloud, unknown) if unknown else {}
    return list(dict.fromkeys([*arns, *(found.get(policy, policy) for policy in added)]))


def _find_policies(cloud: Cloud, names: Sequence[str]) -> dict[str, str]:
    """ARNs by name; AWS's own policies, more than a thousand, are listed only if the user has none of some name."""
    found: dict[str, str] = {}
    for scope in ("Local", "AWS"):
        pages = cloud.pages("iam", "list_policies", Scope=scope)
        listed = {
            name: str(item["Arn"]) for page in pages for item in page["Policies"] for name in _names(item["Arn"])
        }
        found = {**listed, **found}
        if all(name in found for name in names):
            return found
    for name in names:
        if name not in found:
            near = get_close_matches(name, found, n=3)
            like = f"; near matches: {', '.join(near)}" if near else ", such as 'AmazonS3FullAccess'"
            refuse("policies", name, f"the name of an IAM policy that your account or AWS has{like}")
    return found


def _names(arn: str) -> tuple[str, str]:
    """What a policy is called: with its path, and without."""
    path = arn.partition(":policy/")[2]
    return path, path.rpartition("/")[2]


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
