"""`diff` describes changes of an existing knot in words, and refuses those that AWS cannot make in place."""

from __future__ import annotations

from typing import Any

import pytest

from cloudknot.deploy import diff
from cloudknot.deploy.cloudformation import template
from cloudknot.deploy.job_definition import facts, job_definition
from cloudknot.errors import CloudknotInputError
from cloudknot.options.choices import KnotOptions
from tests.unit.deploy.test_templates import parameters_of, with_role

OPTIONS = KnotOptions.make(name="pi-calc")
DIGEST = template.digest(template.load("knot"))


def existing(**choices: Any) -> dict[str, str]:
    """Return the stack parameters of an existing knot with these options."""
    return {**parameters_of(choices), template.DIGEST: DIGEST}


def test_same_options_give_no_changes() -> None:
    assert diff.stack_changes(existing(), parameters_of({}), DIGEST) == []
    same = facts(job_definition(with_role(parameters_of({})), "eu-west-1"))
    assert diff.job_changes(same, same) == []
    diff.check_in_place(OPTIONS, existing(), parameters_of({}))


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        ({}, {"max_vcpus": 8}, "max_vcpus 256 -> 8"),
        pytest.param(
            {},
            {"bid_percentage": 0},
            "bid_percentage none -> 0",
            marks=pytest.mark.filterwarnings("ignore:bid_percentage=0:UserWarning"),
        ),
        ({"bid_percentage": 50}, {}, "bid_percentage 50 -> none"),
        ({"volume_size": 50}, {}, "volume_size 50 -> none"),
        ({}, {"image_id": "ami-0123456789abcdef0"}, "image_id none -> ami-0123456789abcdef0"),
        ({"ec2_key_pair": "a"}, {"ec2_key_pair": "b"}, "ec2_key_pair a -> b"),
        ({}, {"instance_types": ["c6i", "m6i"]}, "instance_types optimal -> c6i,m6i"),
        ({"priority": 2}, {}, "priority 2 -> 1"),
    ],
)
def test_stack_changes_name_option_with_old_and_new_value(
    before: dict[str, Any], after: dict[str, Any], change: str
) -> None:
    assert diff.stack_changes(existing(**before), parameters_of(after), DIGEST) == [change]


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ({"Image": "a"}, {"Image": "b"}, ["function"]),
        ({"Image": "a", "Environment": "x"}, {"Image": "b", "Environment": "y"}, ["requirements or base image"]),
        ({}, {"Memory": "1", "Timeout": "60"}, ["memory 1900 -> 1", "timeout 604800 -> 60"]),
        ({}, {"Vcpus": "2", "Gpus": "1"}, ["job_def_vcpus 1 -> 2", "n_gpus 0 -> 1"]),
        ({}, {"JobRole.Arn": "other"}, ["roles of its jobs"]),
        ({}, {"LogGroupName": "other"}, ["job definition"]),
    ],
)
def test_job_changes_name_changed_options(before: dict[str, str], after: dict[str, str], changes: list[str]) -> None:
    current, wanted = (
        facts(job_definition({**with_role(parameters_of({})), **parameters}, "eu-west-1"))
        for parameters in (before, after)
    )
    assert diff.job_changes(current, wanted) == changes


def test_stack_changes_name_stack_of_another_version() -> None:
    assert diff.stack_changes({**existing(), template.DIGEST: "other"}, parameters_of({}), DIGEST) == [
        "its stack, which another version of cloudknot made"
    ]


@pytest.mark.parametrize(
    ("before", "after", "conversion"),
    [
        ("", "fargate", "EC2 instances into Fargate"),
        ("fargate", "", "Fargate into EC2 instances"),
        ("fargate", "fargate-spot", "Fargate into Fargate Spot"),
    ],
)
def test_check_fixed_refuses_another_kind_of_compute(before: str, after: str, conversion: str) -> None:
    options = KnotOptions.make(name="pi-calc", instance_types=after or None)
    with pytest.raises(CloudknotInputError, match=rf"^instance_types=.*cannot turn {conversion}\..*clobber\(\)"):
        diff.check_fixed(options, existing(instance_types=before or None))


def test_check_in_place_refuses_another_batch_service_role() -> None:
    current = {**existing(), "ServiceRole": "arn:aws:iam::123456789012:role/cloudknot/mine"}
    with pytest.raises(CloudknotInputError, match=r"^pars='default'.*role/cloudknot/mine.*clobber\(\)"):
        diff.check_in_place(OPTIONS, current, parameters_of({}))


def test_knot_with_users_batch_service_role_can_change_only_its_vcpus() -> None:
    role = {"ServiceRole": "arn:aws:iam::123456789012:role/cloudknot/mine"}
    current = {**existing(), **role}
    diff.check_in_place(OPTIONS, current, {**parameters_of({"max_vcpus": 4, "desired_vcpus": 1}), **role})
    with pytest.raises(
        CloudknotInputError, match=r"^instance_types='c6i' cannot replace 'optimal'.*batch_service_role_name"
    ):
        diff.check_in_place(OPTIONS, current, {**parameters_of({"instance_types": "c6i"}), **role})
