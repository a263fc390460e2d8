"""The regions that AWS has, as boto3 knows them."""

from __future__ import annotations

from cloudknot.errors import RegionException
from cloudknot.options.validators import near_matches

ON_BY_DEFAULT = frozenset(
    {
        *("ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-southeast-1", "ap-southeast-2"),
        *("ca-central-1", "eu-central-1", "eu-north-1", "eu-west-1", "eu-west-2", "eu-west-3", "sa-east-1"),
        *("us-east-1", "us-east-2", "us-west-1", "us-west-2"),
    }
)
"""Regions that every account has (AWS Account Management guide, "Regions enabled by default")."""


def is_on_by_default(region: str) -> bool:
    """Whether an account has the region without asking for it; regions of other partitions than AWS's own count."""
    return region in ON_BY_DEFAULT or region.startswith(("cn-", "us-gov-", "us-iso", "eu-isoe-", "eusc-"))


def known_regions() -> list[str]:
    """Names of every region of every AWS partition, sorted."""
    from boto3 import Session

    session = Session(region_name="us-east-1")
    return sorted(
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions("ec2", partition_name=partition)
    )


def check_region(name: str) -> str:
    """Return ``name`` when it is a region of AWS.

    Raises
    ------
    RegionException
        It is none; the message lists near matches, or the regions that every account has.
    """
    known = known_regions()
    if name not in known:
        near = near_matches(name, known)
        what = "Near matches" if near else "Those that every account has"
        raise RegionException(f"{name!r} is not an AWS region. {what}: {', '.join(near or sorted(ON_BY_DEFAULT))}.")
    return name


def partition_of(region: str) -> str:
    """The partition of a region, as boto3 knows it, without a network: ``aws``, ``aws-cn``, ``aws-eusc``, ...

    A region that boto3 does not know counts by its name's beginning. Raises `RegionException` for one like no other.
    """
    from boto3 import Session
    from botocore.exceptions import UnknownRegionError

    try:
        return str(Session(region_name="us-east-1").get_partition_for_region(region))
    except UnknownRegionError:
        check_region(region)
        raise
