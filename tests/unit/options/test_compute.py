"""The compute options of a knot fit together: Fargate's pairs of vCPUs and memory, GPUs, and instance types."""

from __future__ import annotations

from typing import Any

import pytest

from cloudknot.errors import CloudknotInputError
from cloudknot.options.choices import KnotOptions, Overrides
from cloudknot.options.compute import FARGATE_MEMORY, FARGATE_TYPES, platform_of
from cloudknot.run.submit.overrides import check_overrides


@pytest.mark.parametrize("types", FARGATE_TYPES)
def test_fargate_knot_has_default_vcpus_memory_and_platform(types: str) -> None:
    options = KnotOptions.make(instance_types=types)
    assert (options.job_def_vcpus, options.memory) == (1, 2048)
    assert (options.fargate, options.platform) == FARGATE_TYPES[types]
    assert platform_of([types]) == ("linux/arm64" if types.endswith("arm64") else "linux/amd64")


@pytest.mark.parametrize(("vcpus", "memory"), [(1, 2048), (2, 4096), (4, 8192), (8, 16384), (16, 32768), (32, 61440)])
def test_default_memory_is_smallest_fargate_size_above_usual_default(vcpus: int, memory: int) -> None:
    assert KnotOptions.make(instance_types="fargate", job_def_vcpus=vcpus).memory == memory


def test_fargate_knot_accepts_every_pair_of_vcpus_and_memory() -> None:
    pairs = [(vcpus, memory) for vcpus, sizes in FARGATE_MEMORY.items() for memory in sizes]
    # The numbers of memory sizes for 1, 2, 4, 8, 16 and 32 vCPUs in the AWS Batch API reference.
    assert len(pairs) == 7 + 13 + 23 + 12 + 12 + 3
    for vcpus, memory in pairs:
        options = KnotOptions.make(instance_types="fargate-spot", job_def_vcpus=vcpus, memory=memory)
        assert (options.job_def_vcpus, options.memory) == (vcpus, memory)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (
            {"memory": 7500},
            r"memory=7500 .*job_def_vcpus=1\. .*2,048 to 8,192 in steps of 1,024.*memory=7168 or memory=8192\.$",
        ),
        ({"memory": 16384}, r"memory=16384 .*16,384 MiB are available with job_def_vcpus=2, 4 or 8\."),
        (
            {"job_def_vcpus": 3},
            r"job_def_vcpus=3 .*1, 2, 4, 8, 16 or 32 vCPUs\. Pass job_def_vcpus=2 or job_def_vcpus=4",
        ),
        ({"job_def_vcpus": 32, "memory": 65536}, r"memory=65536 .*61,440, 122,880, 249,856 MiB"),
        ({"bid_percentage": 50}, r"bid_percentage=50 .*fargate-spot"),
        ({"n_gpus": 1}, r"n_gpus=1 is not available on Fargate\. Fargate has no GPUs\. .*'g4dn'"),
        ({"min_vcpus": 1}, r"min_vcpus=1 is not available on Fargate\. .*keeps no machine.*Remove min_vcpus\.$"),
        ({"memory_growth": 2}, r"memory_growth=2 is not available on Fargate\. .*Remove memory_growth, or pass"),
        (
            {"bid_percentage": 60},
            r"bid_percentage=60 is not available on Fargate\. AWS alone sets the price\. Remove bid_percentage\. ",
        ),
        ({"desired_vcpus": 0}, r"desired_vcpus=0 is not available on Fargate\. .*Remove desired_vcpus\. max_vcpus is"),
        ({"volume_size": 50}, r"volume_size=50 .*applies to EC2 instances\. Remove volume_size"),
        ({"image_id": "ami-0123456789abcdef0"}, r"image_id=.*applies to EC2 instances\. Remove image_id"),
        ({"ec2_key_pair": "lab"}, r"ec2_key_pair='lab' .*applies to EC2 instances\. Remove ec2_key_pair"),
        ({"instance_types": ["fargate", "c6i"]}, r"instance_types=.*'fargate' alone"),
        ({"instance_types": ["c6i", "fargate-spot"]}, r"instance_types=.*'fargate-spot' alone"),
        ({"job_def_vcpus": 4, "max_vcpus": 2}, r"job_def_vcpus=4 .*max_vcpus=2\. .*Pass job_def_vcpus=2 or less"),
    ],
)
def test_fargate_knot_refuses_unsupported_choice(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(CloudknotInputError, match=f"^{message}"):
        KnotOptions.make(**{"instance_types": "fargate", **choices})


def test_map_on_fargate_accepts_only_supported_vcpus_and_memory() -> None:
    for overrides in ({}, {"memory": 4096}, {"vcpus": 2}, {"vcpus": 8, "memory": 16384}):
        check_overrides(Overrides.make(**overrides), 64, (1, 8192))
    with pytest.raises(CloudknotInputError, match=r"^memory=5000 .*vcpus=1\. .*memory=4096 or memory=5120\.$"):
        check_overrides(Overrides(memory=5000), 64, (1, 8192))
    with pytest.raises(CloudknotInputError, match=r"^vcpus=3 .*vcpus=2 or vcpus=4\.$"):
        check_overrides(Overrides(vcpus=3), 64, (1, 8192))
    # EC2 has no such pairs.
    check_overrides(Overrides(memory=5000, vcpus=3), 64, None)
    with pytest.raises(CloudknotInputError, match=r"^vcpus=65 is more than the knot's max_vcpus=64\."):
        check_overrides(Overrides(vcpus=65), 64, None)


def test_knot_refuses_gpus_without_gpu_instance_type() -> None:
    assert KnotOptions.make(n_gpus=1).instance_types == ("g4dn", "g5")
    assert KnotOptions.make(n_gpus=1, instance_types=["optimal", "p4d"]).instance_types == ("optimal", "p4d")
    with pytest.raises(
        CloudknotInputError, match=r"^n_gpus=1 is not available with instance_types='default_x86_64'\."
    ):
        KnotOptions.make(n_gpus=1, instance_types="default_x86_64")
    names = r"\('optimal', 'default_x86_64'\)\. For these names, AWS Batch chooses only types without GPUs\. Pass"
    with pytest.raises(CloudknotInputError, match=rf"^n_gpus=1 is not available with instance_types={names}"):
        KnotOptions.make(n_gpus=1, instance_types=["optimal", "default_x86_64"])


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"instance_types": "a1.large"}, r"instance_types='a1.large' .*'m7g'.*image_id="),
        ({"instance_types": ["m7g", "a1"]}, r"instance_types contains 'a1', which cannot "),
        ({"instance_types": "g5g.xlarge", "n_gpus": 1}, r"instance_types='g5g.xlarge' .*'g4dn', 'g5'.*image_id="),
        (
            {"instance_types": ["g5", "p3.2xlarge"], "n_gpus": 1},
            r"instance_types contains 'p3.2xlarge', which .*GPUs .*no drivers",
        ),
    ],
)
def test_instance_type_without_batch_machine_image_needs_image_id(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(CloudknotInputError, match=f"^{message}"):
        KnotOptions.make(**choices)
    options = KnotOptions.make(**choices, image_id="ami-0123456789abcdef0")
    assert options.n_gpus == choices.get("n_gpus", 0)


def test_knot_without_gpus_accepts_graviton_gpu_instance_type() -> None:
    assert KnotOptions.make(instance_types="g5g.xlarge").platform == "linux/arm64"


def test_knot_warns_that_bid_of_zero_starts_no_job() -> None:
    with pytest.warns(UserWarning, match="bid_percentage=0 .*no job will start"):
        KnotOptions.make(bid_percentage=0)
