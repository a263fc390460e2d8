"""What differs between a knot as it is and as it is wanted, in words; and what AWS cannot change in place."""

from __future__ import annotations

from typing import Any

import pytest

from cloudknot.deploy import diff
from cloudknot.deploy.cloudformation import template
from cloudknot.deploy.job_definition import facts, job_definition
from cloudknot.errors import CloudknotInputError
from cloudknot.options.choices import KnotOptions
from tests.unit.deploy.test_templates import parameters_of

OPTIONS = KnotOptions.make(name="pi-calc")
DIGEST = template.digest(template.load("knot"))


def existing(**choices: Any) -> dict[str, str]:
    """The parameters that the stack of a knot with these choices has."""
    return {**parameters_of(choices), template.DIGEST: DIGEST}


def test_nothing_differs() -> None:
    assert diff.stack_changes(existing(), parameters_of({}), DIGEST) == []
    same = facts(job_definition(parameters_of({}), "eu-west-1"))
    assert diff.job_changes(same, same) == []
    diff.check_in_place(OPTIONS, existing(), parameters_of({}))


@pytest.mark.parametrize(
    ("before", "after", "words"),
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
def test_words_for_the_machines(before: dict[str, Any], after: dict[str, Any], words: str) -> None:
    assert diff.stack_changes(existing(**before), parameters_of(after), DIGEST) == [words]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({"Image": "a"}, {"Image": "b"}, ["function"]),
        ({"Image": "a", "Environment": "x"}, {"Image": "b", "Environment": "y"}, ["requirements or base image"]),
        ({}, {"Memory": "1", "Timeout": "60"}, ["memory 7500 -> 1", "timeout none -> 60"]),
        ({}, {"Vcpus": "2", "Gpus": "1"}, ["job_def_vcpus 1 -> 2", "n_gpus 0 -> 1"]),
        ({}, {"JobRole": "other"}, ["roles of its Pars"]),
        ({}, {"LogGroupName": "other"}, ["job definition"]),
    ],
)
def test_words_for_the_job(before: dict[str, str], after: dict[str, str], words: list[str]) -> None:
    known, wanted = (facts(job_definition({**parameters_of({}), **each}, "eu-west-1")) for each in (before, after))
    assert diff.job_changes(known, wanted) == words


def test_a_stack_of_another_version_says_so() -> None:
    assert diff.stack_changes({**existing(), template.DIGEST: "other"}, parameters_of({}), DIGEST) == [
        "its stack, which another version of cloudknot made"
    ]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("", "fargate", "EC2 instances into Fargate"),
        ("fargate", "", "Fargate into EC2 instances"),
        ("fargate", "fargate-spot", "Fargate into Fargate Spot"),
    ],
)
def test_machines_are_not_turned_into_fargate(before: str, after: str, words: str) -> None:
    options = KnotOptions.make(name="pi-calc", instance_types=after or None)
    with pytest.raises(CloudknotInputError, match=rf"^instance_types=.*cannot turn {words}\..*clobber\(\)"):
        diff.check_fixed(options, existing(instance_types=before or None))


def test_another_service_role_is_refused() -> None:
    known = {**existing(), "ServiceRole": "arn:aws:iam::123456789012:role/cloudknot/mine"}
    with pytest.raises(CloudknotInputError, match=r"^pars='default'.*role/cloudknot/mine.*clobber\(\)"):
        diff.check_in_place(OPTIONS, known, parameters_of({}))


def test_under_a_service_role_of_its_own_only_vcpus_change() -> None:
    role = {"ServiceRole": "arn:aws:iam::123456789012:role/cloudknot/mine"}
    known = {**existing(), **role}
    diff.check_in_place(OPTIONS, known, {**parameters_of({"max_vcpus": 4, "desired_vcpus": 1}), **role})
    with pytest.raises(
        CloudknotInputError, match=r"^instance_types='c6i' cannot replace 'optimal'.*batch_service_role_name"
    ):
        diff.check_in_place(OPTIONS, known, {**parameters_of({"instance_types": "c6i"}), **role})
