"""What a user names for the instances and must have made before: are the machine image and the key pair there?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cloudknot.errors import CloudError
from cloudknot.options.validators import near_matches, refuse

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud

PLATFORMS = {"x86_64": "linux/amd64", "arm64": "linux/arm64"}
"""Of an image's architecture (EC2 API reference, Image, architecture)."""
LISTED = 10
"""Key pairs that an error names at most."""


def check_image(cloud: Cloud, image_id: str, platform: str) -> None:
    """Refuse a machine image on which no job could start, for instances of a platform such as ``"linux/amd64"``.

    Raises
    ------
    CloudknotInputError
        The region does not have it or not for this account, it is not available, or it is of another architecture.
    """
    image = _image(cloud, image_id)
    if image is None:
        refuse(
            "image_id",
            image_id,
            f"the id of a machine image that your account may use in {cloud.region}: this one is not there, or is "
            f"not shared with you. An image has another id in each region (`aws ec2 describe-images --owners self "
            f"--region {cloud.region}` lists your own), or leave it out for AWS Batch's own image",
        )
    if (state := image.get("State", "available")) != "available":
        refuse("image_id", image_id, f"an image that is available: the state of this one is {state!r}")
    if image.get("Platform") == "windows":
        refuse("image_id", image_id, "an image of Linux: this one is of Windows, and jobs are Linux containers")
    if image.get("RootDeviceType", "ebs") != "ebs":
        refuse("image_id", image_id, "an image whose root is an EBS volume: Batch's machines and their tags need one")
    architecture = image.get("Architecture", "x86_64")
    if PLATFORMS.get(architecture) != platform:
        wanted = next(name for name, one in PLATFORMS.items() if one == platform)
        refuse(
            "image_id",
            image_id,
            f"an image for {wanted}, as the instance types are: this one is for {architecture}. Or give "
            "instance types of its architecture",
        )


def _image(cloud: Cloud, image_id: str) -> dict[str, Any] | None:
    try:
        images = cloud.call("ec2", "describe_images", ImageIds=[image_id])["Images"]
    except CloudError as error:
        if error.code.startswith("InvalidAMIID"):
            return None
        raise
    return images[0] if images else None


def check_key_pair(cloud: Cloud, name: str) -> None:
    """Refuse a key pair that the region does not have, with near matches. Raises `CloudknotInputError`."""
    # All of them, which is one request as well: near matches are worth more than a short answer.
    pairs = sorted(str(pair["KeyName"]) for pair in cloud.call("ec2", "describe_key_pairs")["KeyPairs"])
    if name in pairs:
        return
    accepted = f"the name of an EC2 key pair that your account has in {cloud.region}"
    if near := near_matches(name, pairs):
        refuse("ec2_key_pair", name, f"{accepted}; near matches: {', '.join(near)}")
    there = f"there are {', '.join(pairs[:LISTED])}" if pairs else "there is none"
    make = f"`aws ec2 create-key-pair --key-name NAME --region {cloud.region}` makes one"
    refuse("ec2_key_pair", name, f"{accepted}: {there}. {make}")
