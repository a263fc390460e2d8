"""EC2 as a knot chooses of it: do the instance types, the machine image and the key pair that are named exist?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, cast

from cloudknot.aws import clients
from cloudknot.errors import CloudError, refuse
from cloudknot.options.choices import KnotOptions
from cloudknot.options.compute import ANY_TYPES, FARGATE_TYPES, MEMORY, refuse_mixed
from cloudknot.options.validators import argument, near_matches

if TYPE_CHECKING:
    from types_boto3_ec2.literals import InstanceTypeType
    from types_boto3_ec2.type_defs import ImageTypeDef, InstanceTypeInfoTypeDef

    from cloudknot.aws.cloud import Cloud

DESCRIBED = 100
"""Types a request (EC2 API reference, DescribeInstanceTypes)."""
PLATFORMS = {"x86_64": "linux/amd64", "arm64": "linux/arm64"}
"""Of an image's architecture (EC2 API reference, Image, architecture)."""
LISTED = 10
"""Key pairs that an error names at most."""


def platform_in(cloud: Cloud, options: KnotOptions) -> str:
    """What a knot's image is for, ``"linux/amd64"`` or ``"linux/arm64"``, on the instance types of this region.

    AWS is asked only about types and families that are named; one request lists what the region has, and one
    describes those that are meant.

    Raises
    ------
    CloudknotInputError
        The region does not have them (with near matches), or they cannot have what a job asks for.
    """
    named = [each for each in options.instance_types if each not in (*ANY_TYPES, *FARGATE_TYPES)]
    if not named:
        return options.platform
    meant = _meant(named, _offered(cloud), cloud.region)
    described = list(_describe(cloud, meant))
    _check_size(options, described)
    return _platform(described, options)


def _offered(cloud: Cloud) -> list[str]:
    offerings = clients.ec2(cloud).get_paginator("describe_instance_type_offerings")
    pages = offerings.paginate(LocationType="region")
    return sorted(str(item["InstanceType"]) for page in pages for item in page["InstanceTypeOfferings"])


def _meant(named: Iterable[str], offered: Sequence[str], region: str) -> list[str]:
    """The types that are named, families taken apart."""
    families = sorted({each.partition(".")[0] for each in offered})
    meant: list[str] = []
    for each in named:
        found = [one for one in offered if one == each or one.startswith(f"{each}.")]
        if not found:
            near = near_matches(each, offered if "." in each else families)
            refuse(
                problem=f"instance_types={each!r} is not an instance type or family that AWS has in {region}.",
                cause=f"Near matches: {', '.join(near)}." if near else "",
                fix=f"Pass for example instance_types={near[0] if near else 'c6i'!r}.",
            )
        meant += found
    return list(dict.fromkeys(meant))


def _describe(cloud: Cloud, types: Sequence[str]) -> Iterable[InstanceTypeInfoTypeDef]:
    for start in range(0, len(types), DESCRIBED):
        # The stubs list today's types; the region knows those of tomorrow, too.
        chosen = cast("list[InstanceTypeType]", list(types[start : start + DESCRIBED]))
        yield from clients.ec2(cloud).describe_instance_types(InstanceTypes=chosen)["InstanceTypes"]


def _check_size(options: KnotOptions, described: Sequence[InstanceTypeInfoTypeDef]) -> None:
    """Refuse a job that none of the types can hold: Batch would let it wait for ever."""
    gpus = [sum(one["Count"] for one in each.get("GpuInfo", {}).get("Gpus", ())) for each in described]
    largest = {
        "n_gpus": max(gpus, default=0),
        "job_def_vcpus": max((each["VCpuInfo"]["DefaultVCpus"] for each in described), default=0),
        "memory": max((left_to_jobs(each["MemoryInfo"]["SizeInMiB"]) for each in described), default=0),
    }
    for choice, most in largest.items():
        if described and getattr(options, choice) > most:
            types = ", ".join(options.instance_types)
            default = choice == "memory" and options.memory == MEMORY
            refuse(
                problem=f"{choice}={getattr(options, choice)}{' (the default)' if default else ''} does not fit on "
                f"instance_types={types}.",
                cause=f"The largest of them has {choice}={most} for jobs.",
                fix=f"Pass {choice}={most} or less, or larger instance_types=.",
            )


def left_to_jobs(size: int) -> int:
    """MiB that a machine of ``size`` MiB has for jobs at most.

    Of 8,192 the kernel leaves 7,985, and the ECS agent of Batch's machine images reserves 32 (Batch user guide,
    "Compute resource memory management"). Larger machines lose no less, smaller ones about the same share.
    """
    return size - min(207, size * 207 // 8192) - 32


def _platform(described: Sequence[InstanceTypeInfoTypeDef], options: KnotOptions) -> str:
    """The platform that all types have."""
    arm = [each["InstanceType"] for each in described if "arm64" in each["ProcessorInfo"]["SupportedArchitectures"]]
    other = [each["InstanceType"] for each in described if each["InstanceType"] not in arm]
    if arm and other:
        refuse_mixed(arm[0], other[0])
    if not described:
        return options.platform
    platform = "linux/arm64" if arm else "linux/amd64"
    words = {"optimal": "linux/amd64", "default_x86_64": "linux/amd64", "default_arm64": "linux/arm64"}
    for each in options.instance_types:
        if words.get(each, platform) != platform:
            refuse_mixed(*((arm[0], each) if arm else (each, other[0])))
    return platform


def check_image(cloud: Cloud, image_id: str, platform: str) -> None:
    """Refuse a machine image on which no job could start, for instances of a platform such as ``"linux/amd64"``.

    Raises
    ------
    CloudknotInputError
        The region does not have it or not for this account, it is not available, or it is of another architecture.
    """
    image, shown = _image(cloud, image_id), argument("image_id", image_id)
    if image is None:
        refuse(
            problem=f"{shown} does not exist in {cloud.region}, or is not shared with your account.",
            cause="An image has a different id in each region.",
            fix=f"Pass one that `aws ec2 describe-images --owners self --region {cloud.region}` lists, or remove "
            "image_id to use the image of AWS Batch.",
        )
    if (state := image.get("State", "available")) != "available":
        refuse(
            problem=f"{shown} is not available: its state is {state!r}.",
            fix="Pass an image in the state 'available', or remove image_id to use the image of AWS Batch.",
        )
    if image.get("Platform") == "windows":
        refuse(
            problem=f"{shown} is an image of Windows.",
            cause="Jobs are Linux containers.",
            fix="Pass an image of Linux, or remove image_id to use the image of AWS Batch.",
        )
    if image.get("RootDeviceType", "ebs") != "ebs":
        refuse(
            problem=f"{shown} has no EBS volume as its root.",
            cause="Batch's machines and their tags need one.",
            fix="Pass an image with an EBS root volume, or remove image_id to use the image of AWS Batch.",
        )
    architecture = image.get("Architecture", "x86_64")
    if PLATFORMS.get(architecture) != platform:
        wanted = next(name for name, one in PLATFORMS.items() if one == platform)
        refuse(
            problem=f"{shown} is for {architecture}, and the instance types are {wanted}.",
            fix=f"Pass an image for {wanted}, or instance_types= of the image's architecture.",
        )


def _image(cloud: Cloud, image_id: str) -> ImageTypeDef | None:
    try:
        images = clients.ec2(cloud).describe_images(ImageIds=[image_id])["Images"]
    except CloudError as error:
        if error.code.startswith("InvalidAMIID"):
            return None
        raise
    return images[0] if images else None


def check_key_pair(cloud: Cloud, name: str) -> None:
    """Refuse a key pair that the region does not have, with near matches. Raises `CloudknotInputError`."""
    # All of them, which is one request as well: near matches are worth more than a short answer.
    pairs = sorted(str(pair["KeyName"]) for pair in clients.ec2(cloud).describe_key_pairs()["KeyPairs"])
    if name in pairs:
        return
    problem = f"{argument('ec2_key_pair', name)} is not a key pair of your account in {cloud.region}."
    if near := near_matches(name, pairs):
        refuse(
            problem=problem,
            cause=f"Near matches: {', '.join(near)}.",
            fix=f"Pass for example ec2_key_pair={near[0]!r}.",
        )
    refuse(
        problem=problem,
        cause=f"Existing key pairs: {', '.join(pairs[:LISTED]) or 'none'}.",
        fix=f"Create it with `aws ec2 create-key-pair --key-name {name} --region {cloud.region}`.",
    )
