"""`platform_in` checks instance types against a region's offer. A fake EC2 has types that no name list knows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from cloudknot.aws import Cloud
from cloudknot.deploy.ec2 import platform_in
from cloudknot.errors import CloudknotInputError
from cloudknot.options.choices import KnotOptions


class ScriptedRegion:
    """A fake EC2 with the instance types of a region. It lists two offerings a page."""

    region = "eu-west-1"
    place = "the AWS region eu-west-1"

    def __init__(self, **architectures: str) -> None:
        self.types = {name.replace("_", "."): architecture for name, architecture in architectures.items()}
        self.described: list[list[str]] = []

    def pages(self, service: str, operation: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        assert (service, operation, arguments) == (
            *("ec2", "describe_instance_type_offerings"),
            {"LocationType": "region"},
        )
        names = list(self.types)
        for start in range(0, len(names), 2):
            yield {"InstanceTypeOfferings": [{"InstanceType": name} for name in names[start : start + 2]]}

    def call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        assert (service, operation) == ("ec2", "describe_instance_types")
        self.described.append(arguments["InstanceTypes"])
        return {"InstanceTypes": [self.describe(name) for name in arguments["InstanceTypes"]]}

    def describe(self, name: str) -> dict[str, Any]:
        return {
            "InstanceType": name,
            "ProcessorInfo": {"SupportedArchitectures": [self.types[name]]},
            "VCpuInfo": {"DefaultVCpus": 4},
            "MemoryInfo": {"SizeInMiB": 16384},
            "GpuInfo": {"Gpus": [{"Count": 1}]} if name.startswith("g") else {},
        }


def platform(region: ScriptedRegion, types: Any, **choices: Any) -> str:
    return platform_in(cast(Cloud, region), KnotOptions.make(name="x", instance_types=types, **choices))


@pytest.mark.parametrize("types", ["optimal", "default_arm64", "default_x86_64", "fargate", "fargate-arm64"])
def test_platform_of_batch_keyword_needs_no_description(types: str) -> None:
    region = ScriptedRegion()
    assert platform(region, types) == ("linux/arm64" if "arm64" in types else "linux/amd64")
    assert region.described == []


def test_platform_follows_architecture_that_ec2_reports() -> None:
    region = ScriptedRegion(z9_large="arm64", z9_xlarge="arm64", c7g_large="arm64", c6i_large="x86_64")
    assert platform(region, "z9.large") == "linux/arm64"
    assert platform(region, "z9") == "linux/arm64"
    assert platform(region, "c6i") == "linux/amd64"
    assert region.described == [["z9.large"], ["z9.large", "z9.xlarge"], ["c6i.large"]]


def test_family_excludes_families_with_same_prefix() -> None:
    region = ScriptedRegion(c6i_large="x86_64", c6in_large="x86_64")
    platform(region, "c6i")
    assert region.described == [["c6i.large"]]


def test_describe_types_asks_for_100_types_per_call() -> None:
    region = ScriptedRegion(**{f"m{number}_large": "x86_64" for number in range(205)})
    platform(region, [f"m{number}.large" for number in range(205)])
    # Most types in one call (EC2 API reference, DescribeInstanceTypes).
    assert [len(types) for types in region.described] == [100, 100, 5]


@pytest.mark.parametrize("types", [["z9.large", "c6i"], ["z9", "optimal"]])
def test_types_of_mixed_architectures_are_refused(types: list[str]) -> None:
    region = ScriptedRegion(z9_large="arm64", c6i_large="x86_64")
    with pytest.raises(
        CloudknotInputError, match=r"^instance_types=\('z9.large', '.*mixes two processor architectures"
    ):
        platform(region, types)


def test_type_missing_in_region_is_refused_with_suggestion() -> None:
    region = ScriptedRegion(c6i_large="x86_64", c6i_xlarge="x86_64")
    with pytest.raises(
        CloudknotInputError,
        match=r"^instance_types contains 'c6i\.larg', which .*eu-west-1\. Near matches: c6i\.large",
    ):
        platform(region, ["c6i", "c6i.larg"])
    with pytest.raises(
        CloudknotInputError, match=r"^instance_types='qqq' .*eu-west-1\. Pass for example instance_types='c6i'"
    ):
        platform(region, "qqq")
    assert region.described == []


def test_job_too_large_for_every_type_is_refused() -> None:
    region = ScriptedRegion(c6i_large="x86_64", g5_large="x86_64")
    assert platform(region, ["c6i", "g5"], job_def_vcpus=4, memory=16145, n_gpus=1) == "linux/amd64"
    for job in ({"job_def_vcpus": 5}, {"memory": 16146}, {"n_gpus": 2}):
        with pytest.raises(
            CloudknotInputError,
            match=rf"^{next(iter(job))}=.* does not fit on instance_types=\('c6i', 'g5'\)\. .*"
            r"or larger instance_types=",
        ):
            platform(region, ["c6i", "g5"], **job)


def test_refusal_marks_default_memory_as_default() -> None:
    class Small(ScriptedRegion):
        def describe(self, name: str) -> dict[str, Any]:
            return {**super().describe(name), "MemoryInfo": {"SizeInMiB": 1024}}

    with pytest.raises(CloudknotInputError, match=r"^memory=1900 \(the default\) does not fit.*memory=967 or less"):
        platform(Small(t3_micro="x86_64"), "t3.micro")
    with pytest.raises(CloudknotInputError, match=r"^memory=1900 does not fit.*memory=967 or less"):
        platform(Small(t3_micro="x86_64"), "t3.micro", memory=1900)
    assert platform(Small(t3_micro="x86_64"), "t3.micro", memory=967) == "linux/amd64"
