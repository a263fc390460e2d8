"""The regions and partitions of AWS, from the list inside botocore. No network calls."""

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
"""Regions that are on in every account (AWS Account Management guide, "Regions enabled by default")."""


def is_on_by_default(region: str) -> bool:
    """Return whether a region is on in every account. All regions outside the partition ``aws`` count as on."""
    return region in ON_BY_DEFAULT or region.startswith(("cn-", "us-gov-", "us-iso", "eu-isoe-", "eusc-"))


def known_regions() -> list[str]:
    """Return the names of all regions in all AWS partitions, sorted."""
    from botocore.session import get_session

    session = get_session()
    return sorted(
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions("ec2", partition_name=partition)
    )


def check_region(name: str) -> str:
    """Return ``name`` if it is an AWS region.

    Raises
    ------
    RegionException
        It is not. The message lists near matches, or the regions that every account has.
    """
    regions = known_regions()
    if name not in regions:
        near = near_matches(name, regions)
        # The full list has regions that most accounts cannot use.
        title = "Near matches" if near else "Every account has"
        suggestions = ", ".join(near or sorted(ON_BY_DEFAULT))
        raise RegionException(f"{name!r} is not an AWS region. {title}: {suggestions}. Use one of these.")
    return name


def partition_of(region: str) -> str:
    """Return the partition of a region: ``aws``, ``aws-cn``, ``aws-eusc``, ...

    botocore derives the partition of an unknown region from the beginning of its name.

    Raises
    ------
    RegionException
        The name does not look like a region of any partition.
    """
    from botocore.exceptions import UnknownRegionError
    from botocore.session import get_session

    try:
        return str(get_session().get_partition_for_region(region))
    except UnknownRegionError:
        check_region(region)
        raise
