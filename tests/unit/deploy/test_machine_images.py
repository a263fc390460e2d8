"""A machine image and a key pair that are named, against a region's scripted answers."""

from __future__ import annotations

from typing import Any, cast

import pytest

from cloudknot.aws import Cloud
from cloudknot.deploy.ec2 import check_image, check_key_pair
from cloudknot.errors import CloudError, CloudknotInputError, PermissionDeniedError

IMAGE = "ami-0123456789abcdef0"


class ScriptedRegion:
    """EC2's answers about images and key pairs."""

    region = "eu-west-1"

    def __init__(self, *pairs: str, error: CloudError | None = None, **image: str) -> None:
        self.pairs, self.error, self.image = pairs, error, image
        self.asked: list[str] = []

    def call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        self.asked.append(operation)
        if self.error:
            raise self.error
        if operation == "describe_images":
            assert arguments == {"ImageIds": [IMAGE]}
            return {"Images": [self.image] if self.image else []}
        assert (service, operation, arguments) == ("ec2", "describe_key_pairs", {})
        return {"KeyPairs": [{"KeyName": name} for name in self.pairs]}


def image(platform: str, error: CloudError | None = None, **described: str) -> list[str]:
    """Check an image, and give the calls that it took."""
    region = ScriptedRegion(error=error, **described)
    check_image(cast(Cloud, region), IMAGE, platform)
    return region.asked


@pytest.mark.parametrize(("architecture", "platform"), [("x86_64", "linux/amd64"), ("arm64", "linux/arm64")])
def test_an_available_image_of_the_architecture_is_taken(architecture: str, platform: str) -> None:
    assert image(platform, State="available", Architecture=architecture) == ["describe_images"]


@pytest.mark.parametrize(
    ("described", "words"),
    [
        ({}, r"does not exist in eu-west-1.*different id in each region"),
        ({"State": "pending", "Architecture": "x86_64"}, r"is not available: its state is 'pending'\. Pass"),
        ({"State": "disabled", "Architecture": "x86_64"}, r"is not available: its state is 'disabled'\. Pass"),
        ({"State": "available", "Architecture": "arm64"}, r"is for arm64, and the instance types are x86_64\. Pass"),
        (
            {"State": "available", "RootDeviceType": "instance-store", "Architecture": "x86_64"},
            r"has no EBS volume as its root\. .*Pass",
        ),
        ({"State": "available", "Architecture": "x86_64_mac"}, r"is for x86_64_mac, .* are x86_64\. Pass"),
        ({"State": "available", "Architecture": "x86_64", "Platform": "windows"}, r"is an image of Windows\. .*Pass"),
    ],
)
def test_an_image_that_runs_no_job_is_refused(described: dict[str, str], words: str) -> None:
    with pytest.raises(CloudknotInputError, match=rf"^image_id='{IMAGE}' {words}"):
        image("linux/amd64", **described)


def test_an_image_that_aws_does_not_know() -> None:
    with pytest.raises(CloudknotInputError, match="is not shared with your account"):
        image("linux/amd64", CloudError("AWS refused", code="InvalidAMIID.NotFound"))


def test_a_denied_look_is_told_as_such() -> None:
    with pytest.raises(PermissionDeniedError, match="denied"):
        image("linux/amd64", PermissionDeniedError("denied", code="UnauthorizedOperation"))


def key_pair(name: str, *pairs: str) -> None:
    check_key_pair(cast(Cloud, ScriptedRegion(*pairs)), name)


def test_key_pairs() -> None:
    key_pair("lab", "home", "lab")
    with pytest.raises(
        CloudknotInputError,
        match=r"^ec2_key_pair='lap' .*eu-west-1\. Near matches: lab\. Pass .*ec2_key_pair='lab'\.$",
    ):
        key_pair("lap", "home", "lab")
    with pytest.raises(
        CloudknotInputError, match=r"key pairs: home, lab\. .*`aws ec2 create-key-pair .*qqqq .*eu-west-1`"
    ):
        key_pair("qqqq", "lab", "home")
    with pytest.raises(CloudknotInputError, match=r"key pairs: none\. .*`aws ec2 create-key-pair"):
        key_pair("lab")
