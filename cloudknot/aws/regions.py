"""The regions that AWS has, as boto3 knows them."""

from __future__ import annotations

import difflib

from cloudknot.errors import RegionException


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
        It is none; the message lists near matches.
    """
    known = known_regions()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3) or known
        raise RegionException(f"{name!r} is not an AWS region. Near matches: {', '.join(near)}.")
    return name
