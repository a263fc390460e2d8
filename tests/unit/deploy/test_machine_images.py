"""`check_image` and `check_key_pair` check names against a region. A fake EC2 gives the answers."""

from __future__ import annotations

from typing import Any, cast

import pytest

from cloudknot.aws import Cloud
from cloudknot.deploy.ec2 import check_image, check_key_pair
from cloudknot.errors import CloudError, CloudknotInputError, PermissionDeniedError

IMAGE = "ami-0123456789abcdef0"


class ScriptedRegion:
    """A fake EC2 with at most one image, and with key pairs."""

    region = "eu-west-1"
    place = "the AWS region eu-west-1"

    def __init__(self, *pairs: str, error: CloudError | None = None, **image: str) -> None:
        self.pairs, self.error, self.image = pairs, error, image
        self.calls: list[str] = []

    def call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        self.calls.append(operation)
        if self.error:
            raise self.error
        if operation == "describe_images":
            assert arguments == {"ImageIds": [IMAGE]}
            return {"Images": [self.image] if self.image else []}
        assert (service, operation, arguments) == ("ec2", "describe_key_pairs", {})
        return {"KeyPairs": [{"KeyName": name} for name in self.pairs]}


def check(platform: str, error: CloudError | None = None, **described: str) -> list[str]:
    """Check an image, and return the EC2 calls of the check."""
    region = ScriptedRegion(error=error, **described)
    check_image(cast(Cloud, region), IMAGE, platform)
    return region.calls


@pytest.mark.parametrize(("architecture", "platform"), [("x86_64", "linux/amd64"), ("arm64", "linux/arm64")])
def test_available_image_of_same_architecture_is_accepted(architecture: str, platform: str) -> None:
    assert check(platform, State="available", Architecture=architecture) == ["describe_images"]


@pytest.mark.parametrize(
    ("described", "reason"),
    [
        ({}, r"does not exist in the AWS region eu-west-1.*different id in each region"),
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
    ids=["missing", "pending", "disabled", "ARM", "instance store", "macOS", "Windows"],
)
def test_unusable_image_is_refused_with_reason(described: dict[str, str], reason: str) -> None:
    with pytest.raises(CloudknotInputError, match=rf"^image_id='{IMAGE}' {reason}"):
        check("linux/amd64", **described)


def test_image_unknown_to_aws_is_refused() -> None:
    with pytest.raises(CloudknotInputError, match="is not shared with your account"):
        check("linux/amd64", CloudError("AWS refused", code="InvalidAMIID.NotFound"))


def test_denied_description_raises_permission_error() -> None:
    with pytest.raises(PermissionDeniedError, match="denied"):
        check("linux/amd64", PermissionDeniedError("denied", code="UnauthorizedOperation"))


def check_pair(name: str, *pairs: str) -> None:
    """Check a name against a region with these key pairs."""
    check_key_pair(cast(Cloud, ScriptedRegion(*pairs)), name)


def test_unknown_key_pair_is_refused_with_near_match_or_list() -> None:
    check_pair("lab", "home", "lab")
    with pytest.raises(
        CloudknotInputError,
        match=r"^ec2_key_pair='lap' .*eu-west-1\. Near matches: lab\. Pass .*ec2_key_pair='lab'\.$",
    ):
        check_pair("lap", "home", "lab")
    with pytest.raises(
        CloudknotInputError, match=r"key pairs: home, lab\. .*`aws ec2 create-key-pair .*qqqq .*eu-west-1`"
    ):
        check_pair("qqqq", "lab", "home")
    with pytest.raises(CloudknotInputError, match=r"key pairs: none\. .*`aws ec2 create-key-pair"):
        check_pair("lab")
