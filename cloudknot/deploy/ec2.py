"""Check that the instance types, the machine image and the key pair of a knot exist in its region.

These checks come before the image is built. Batch would accept most of these mistakes, and jobs would wait forever.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, cast

from cloudknot.aws import clients
from cloudknot.errors import CloudError, refuse
from cloudknot.options.choices import KnotOptions
from cloudknot.options.compute import ANY_TYPES, FARGATE_TYPES, refuse_mixed, type_subject, types_argument
from cloudknot.options.validators import argument, near_matches

if TYPE_CHECKING:
    from types_boto3_ec2.literals import InstanceTypeType
    from types_boto3_ec2.type_defs import ImageTypeDef, InstanceTypeInfoTypeDef

    from cloudknot.aws.cloud import Cloud

OR_BATCH_IMAGE = "or remove image_id to use the image of AWS Batch."
DESCRIBED = 100
"""Largest number of types in one request (EC2 API reference, DescribeInstanceTypes)."""
PLATFORMS = {"x86_64": "linux/amd64", "arm64": "linux/arm64"}
"""Platform for each architecture of a machine image (EC2 API reference, Image, architecture)."""
LISTED = 10
"""Largest number of key pairs in an error message."""


def platform_in(cloud: Cloud, options: KnotOptions) -> str:
    """Return the platform of a knot's image, ``"linux/amd64"`` or ``"linux/arm64"``, from its instance types.

    Explicit types and families cost two calls: one lists the region's types, one describes the matching ones. Batch's
    own words such as ``"optimal"`` cost none.

    Raises
    ------
    CloudknotInputError
        The region lacks an instance type (with near matches), or a job does not fit on any of them.
    """
    names = [name for name in options.instance_types if name not in (*ANY_TYPES, *FARGATE_TYPES)]
    if not names:
        return options.platform
    types = _expanded(names, _region_types(cloud), cloud.place)
    descriptions = list(_describe(cloud, types))
    _check_size(options, descriptions)
    return _platform(descriptions, options)


def _region_types(cloud: Cloud) -> list[str]:
    offerings = clients.ec2(cloud).get_paginator("describe_instance_type_offerings")
    pages = offerings.paginate(LocationType="region")
    return sorted(str(item["InstanceType"]) for page in pages for item in page["InstanceTypeOfferings"])


def _expanded(names: Sequence[str], region_types: Sequence[str], place: str) -> list[str]:
    """Return the instance types for names, with each family replaced by its types."""
    families = sorted({instance_type.partition(".")[0] for instance_type in region_types})
    expanded: list[str] = []
    for name in names:
        matches = [candidate for candidate in region_types if candidate == name or candidate.startswith(f"{name}.")]
        if not matches:
            near = near_matches(name, region_types if "." in name else families)
            refuse(
                problem=f"{type_subject(names, name)} is not an instance type or family that exists in {place}.",
                cause=f"Near matches: {', '.join(near)}." if near else "",
                fix=f"Pass for example instance_types={near[0] if near else 'c6i'!r}.",
            )
        expanded += matches
    return list(dict.fromkeys(expanded))


def _describe(cloud: Cloud, types: Sequence[str]) -> Iterable[InstanceTypeInfoTypeDef]:
    for start in range(0, len(types), DESCRIBED):
        # A cast, because the stubs list the types of their release, and AWS adds types all the time.
        batch = cast("list[InstanceTypeType]", list(types[start : start + DESCRIBED]))
        yield from clients.ec2(cloud).describe_instance_types(InstanceTypes=batch)["InstanceTypes"]


def _check_size(options: KnotOptions, descriptions: Sequence[InstanceTypeInfoTypeDef]) -> None:
    """Raise if a job fits on none of the types. Batch would keep it waiting forever."""
    gpus = [sum(gpu["Count"] for gpu in item.get("GpuInfo", {}).get("Gpus", ())) for item in descriptions]
    limits = {
        "n_gpus": max(gpus, default=0),
        "job_def_vcpus": max((item["VCpuInfo"]["DefaultVCpus"] for item in descriptions), default=0),
        "memory": max((memory_for_jobs(item["MemoryInfo"]["SizeInMiB"]) for item in descriptions), default=0),
    }
    for choice, limit in limits.items():
        value = getattr(options, choice)
        if descriptions and value > limit:
            types = types_argument(options.instance_types)
            default = choice == "memory" and not options.memory_given
            if choice == "n_gpus" and not limit:
                refuse(
                    problem=f"{choice}={value} does not fit on {types}.",
                    cause="These machines have no GPU.",
                    fix="Remove n_gpus, or pass types with a GPU, for example instance_types='g5'.",
                )
            refuse(
                problem=f"{choice}={value}{' (the default)' if default else ''} does not fit on {types}.",
                cause=f"The limit there is {choice}={limit}.",
                fix=f"Pass {choice}={limit} or less, or larger instance_types=.",
            )


def memory_for_jobs(size: int) -> int:
    """Return an upper bound of the MiB for jobs on a machine with ``size`` MiB."""
    # Of 8,192 MiB the kernel leaves 7,985, and the ECS agent of Batch's machine images reserves 32 (Batch user guide,
    # "Compute resource memory management"). Larger machines lose at least as much, smaller ones about the same share.
    return size - min(207, size * 207 // 8192) - 32


def _platform(descriptions: Sequence[InstanceTypeInfoTypeDef], options: KnotOptions) -> str:
    """Return the common platform of all types; raise if they have different ones."""
    arm = [item["InstanceType"] for item in descriptions if "arm64" in item["ProcessorInfo"]["SupportedArchitectures"]]
    other = [item["InstanceType"] for item in descriptions if item["InstanceType"] not in arm]
    if arm and other:
        refuse_mixed(arm[0], other[0])
    if not descriptions:
        return options.platform
    platform = "linux/arm64" if arm else "linux/amd64"
    words = {"optimal": "linux/amd64", "default_x86_64": "linux/amd64", "default_arm64": "linux/arm64"}
    for name in options.instance_types:
        if words.get(name, platform) != platform:
            refuse_mixed(*((arm[0], name) if arm else (name, other[0])))
    return platform


def check_image(cloud: Cloud, image_id: str, platform: str) -> None:
    """Raise if jobs cannot start from this machine image on machines of ``platform``, such as ``"linux/amd64"``.

    Raises
    ------
    CloudknotInputError
        The image does not exist in the region, is not shared with the account, is not available, runs Windows, has no
        EBS root volume, or is for another architecture.
    """
    image, shown = _image(cloud, image_id), argument("image_id", image_id)
    if image is None:
        refuse(
            problem=f"{shown} does not exist in {cloud.place}, or is not shared with your account.",
            cause="An image has a different id in each region.",
            fix=f"Pass one that `aws ec2 describe-images --owners self --region {cloud.region}` lists, "
            f"{OR_BATCH_IMAGE}",
        )
    if (state := image.get("State", "available")) != "available":
        refuse(
            problem=f"{shown} is not available: its state is {state!r}.",
            fix=f"Pass an image in the state 'available', {OR_BATCH_IMAGE}",
        )
    if image.get("Platform") == "windows":
        refuse(
            problem=f"{shown} is an image of Windows.",
            cause="Jobs are Linux containers.",
            fix=f"Pass an image of Linux, {OR_BATCH_IMAGE}",
        )
    if image.get("RootDeviceType", "ebs") != "ebs":
        refuse(
            problem=f"{shown} has no EBS volume as its root.",
            cause="AWS Batch needs such a disk for its machines, and cloudknot tags it.",
            fix=f"Pass an image with an EBS root volume, {OR_BATCH_IMAGE}",
        )
    architecture = image.get("Architecture", "x86_64")
    if PLATFORMS.get(architecture) != platform:
        required = next(name for name, candidate in PLATFORMS.items() if candidate == platform)
        refuse(
            problem=f"{shown} is for {architecture}, and the instance types are {required}.",
            fix=f"Pass an image for {required}, or instance_types= of the image's architecture.",
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
    """Raise `CloudknotInputError` with near matches if the region does not have a key pair."""
    # Lists all key pairs, for near matches. A lookup by name would cost one request, too.
    pairs = sorted(str(pair["KeyName"]) for pair in clients.ec2(cloud).describe_key_pairs()["KeyPairs"])
    if name in pairs:
        return
    problem = f"{argument('ec2_key_pair', name)} is not a key pair of your account in {cloud.place}."
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
