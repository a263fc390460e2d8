"""The CloudFormation templates: cfn-lint over every variant, and the parameters that choices become."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cfnlint.api import lint
from cfnlint.config import ManualArgs
from cfnlint.decode import cfn_yaml

from cloudknot import resources, template
from cloudknot.options import KnotOptions
from cloudknot.pars import Pars

REGIONS = ["us-east-1", "eu-central-1", "ap-southeast-2"]
TAGS = {"Owner": "me", "Environment": "cloudknot", "Name": "pi-calc", "Project: a": "b = c"}
PARS = SimpleNamespace(
    name="default",
    job_role="arn:aws:iam::123456789012:role/cloudknot/job",
    execution_role="arn:aws:iam::123456789012:role/cloudknot/execution",
    batch_service_role="arn:aws:iam::123456789012:role/aws-service-role/batch.amazonaws.com/AWSServiceRoleForBatch",
    ecs_instance_profile="arn:aws:iam::123456789012:instance-profile/cloudknot/instances",
    subnets=["subnet-1", "subnet-2"],
    security_group="sg-1",
)
GOLDEN = {
    "ParsName": "default",
    "JobDefinitionName": "pi-calc-cloudknot-job-definition",
    "Image": "registry/cloudknot:1",
    "Vcpus": "1",
    "Memory": "7500",
    "Gpus": "0",
    "Retries": "1",
    "Timeout": "0",
    "JobRole": "arn:aws:iam::123456789012:role/cloudknot/job",
    "ExecutionRole": "arn:aws:iam::123456789012:role/cloudknot/execution",
    "JobQueueName": "pi-calc-cloudknot-job-queue",
    "Priority": "1",
    "ComputeEnvironmentName": "pi-calc-cloudknot-compute-environment",
    "ServiceRole": ("arn:aws:iam::123456789012:role/aws-service-role/batch.amazonaws.com/AWSServiceRoleForBatch"),
    "InstanceProfile": "arn:aws:iam::123456789012:instance-profile/cloudknot/instances",
    "Subnets": "subnet-1,subnet-2",
    "SecurityGroup": "sg-1",
    "InstanceTypes": "optimal",
    "MinVcpus": "0",
    "DesiredVcpus": "8",
    "MaxVcpus": "256",
    "BidPercentage": "",
    "VolumeSize": "0",
    "ImageId": "",
    "KeyPair": "",
}
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "plain": ({}, {}),
    "spot": ({"bid_percentage": 100}, {"BidPercentage": "100"}),
    "spot at nothing": ({"bid_percentage": 0}, {"BidPercentage": "0"}),
    "gpu": ({"n_gpus": 2}, {"Gpus": "2", "InstanceTypes": "g4dn,g5"}),
    "volume": ({"volume_size": 200}, {"VolumeSize": "200"}),
    "image": ({"image_id": "ami-0123456789abcdef0"}, {"ImageId": "ami-0123456789abcdef0"}),
    "key pair": ({"ec2_key_pair": "lab"}, {"KeyPair": "lab"}),
    "job": (
        {"job_def_vcpus": 4, "memory": 1000, "retries": 3, "timeout": 600},
        {"Vcpus": "4", "Memory": "1000", "Retries": "3", "Timeout": "600"},
    ),
    "names": (
        {"job_definition_name": "a", "job_queue_name": "b", "compute_environment_name": "c", "priority": 7},
        {"JobDefinitionName": "a", "JobQueueName": "b", "ComputeEnvironmentName": "c", "Priority": "7"},
    ),
    "vcpus": ({"desired_vcpus": 2, "max_vcpus": 4}, {"DesiredVcpus": "2", "MaxVcpus": "4"}),
    "types": ({"instance_types": ["c6i.large", "m6i"]}, {"InstanceTypes": "c6i.large,m6i"}),
}


def parameters_of(choices: Mapping[str, Any]) -> dict[str, str]:
    options = KnotOptions.make(name="pi-calc", **choices)
    return resources.wanted_parameters(options, cast(Pars, PARS), "registry/cloudknot:1")


@pytest.mark.parametrize(("choices", "different"), VARIANTS.values(), ids=VARIANTS)
def test_golden_parameters(choices: dict[str, Any], different: dict[str, str]) -> None:
    assert parameters_of(choices) == {**GOLDEN, **different}


def test_every_parameter_is_given() -> None:
    declared = set(re.findall(r"^  (\w+):$", template.load("knot").split("\nConditions:")[0], re.MULTILINE))
    assert declared == {*GOLDEN, template.DIGEST}


def findings(text: str) -> list[str]:
    arguments = ManualArgs(regions=REGIONS, include_checks=["W", "E"])
    return [f"{match.rule.id} {match.message}" for match in lint(text, config=arguments)]


@pytest.mark.parametrize("name", ["pars", "knot"])
def test_cfn_lint(name: str) -> None:
    """cfn-lint follows both sides of every Condition, so this is over all variants."""
    assert findings(template.fill_in(template.load(name), TAGS)) == []


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("knot", "SPOT_PRICE_CAPACITY_OPTIMIZED", "SPOT_PRICE_OPTIMIZED"),
        ("knot", "LatestVersionNumber", "LatestVersion"),
        ("knot", "AttemptDurationSeconds", "Seconds"),
        ("pars", "s3:AbortMultipartUpload", "s3:AbortUpload"),
        ("pars", "MapPublicIpOnLaunch", "PublicIp"),
    ],
)
def test_the_gate_can_fail(name: str, right: str, wrong: str) -> None:
    text = template.fill_in(template.load(name), TAGS)
    assert right in text
    assert findings(text.replace(right, wrong))


@pytest.mark.parametrize(("name", "untaggable"), [("pars", 5), ("knot", 0)])
def test_every_resource_that_can_has_the_tags(name: str, untaggable: int) -> None:
    """What is without them CloudFormation cannot tag: instance profile, gateway attachment, route, associations."""
    loaded = cfn_yaml.loads(template.fill_in(template.load(name), TAGS))
    wanted = [[{"Key": key, "Value": value} for key, value in TAGS.items()], TAGS]
    bare = [
        resource["Type"]
        for resource in loaded["Resources"].values()
        if json.loads(json.dumps(resource["Properties"].get("Tags"))) not in wanted
        and "TagSpecifications" not in resource["Properties"]
    ]
    assert len(bare) == untaggable


def test_digest_follows_the_text() -> None:
    assert template.digest("a") == template.digest("a") != template.digest("b")
