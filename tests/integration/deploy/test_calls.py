"""Making a Knot reads each thing once: the calls by operation, of a first creation and of what comes after it."""

from collections import Counter

import pytest

import cloudknot as ck
from tests.helpers.counting import CountingCloud

CHOICES = {"name": "calls", "pars_policies": "AmazonS3FullAccess", "aws_resource_tags": {"Project": "calls"}}
ADOPTED = {
    "sts:get_caller_identity": 1,
    "cloudformation:describe_stacks calls-cloudknot": 1,
    "cloudformation:describe_stacks default-cloudknot-pars": 1,
    "ecr:describe_repositories": 1,
    "ecr:describe_images": 1,
    "iam:get_instance_profile": 1,
    "batch:describe_job_definitions": 1,
}
EDITED = {
    **ADOPTED,
    "ecr:get_lifecycle_policy": 1,
    "ecr:put_image": 2,
    "batch:register_job_definition": 1,
}
MADE = {
    **ADOPTED,
    "iam:list_policies Local": 1,
    "iam:list_policies AWS": 1,
    "iam:list_roles": 1,
    "iam:create_service_linked_role": 1,
    "iam:tag_instance_profile": 1,
    "ec2:describe_vpcs": 1,
    "ec2:describe_subnets": 1,
    "ecr:create_repository": 1,
    "ecr:put_lifecycle_policy": 1,
    "ecr:put_image": 2,
    "cloudformation:create_stack calls-cloudknot": 1,
    "cloudformation:create_stack default-cloudknot-pars": 1,
}


class Session(CountingCloud):
    """A session that counts its calls with the stack that they are about, but for those that wait for a stack."""

    def __init__(self, directory):
        super().__init__(directory)
        self.seen = Counter()
        self._moving = set()

    def call(self, service, operation, **arguments):
        stack = str(arguments.get("StackName", ""))
        name = stack.split("/")[1] if "/" in stack else stack
        if not (operation == "describe_stacks" and name in self._moving):
            self.seen[f"{service}:{operation} {name}".strip()] += 1
        answer = super().call(service, operation, **arguments)
        if operation == "describe_stacks" and not answer["Stacks"][0]["StackStatus"].endswith("_IN_PROGRESS"):
            self._moving.discard(name)
        elif operation in ("create_stack", "update_stack"):
            self._moving.add(name)
        return answer

    def pages(self, service, operation, **arguments):
        self.seen[f"{service}:{operation} {arguments.get('Scope', '')}".strip()] += 1
        return super().pages(service, operation, **arguments)


def square(x):
    return x * x


def cube(x):
    return x * x * x


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """An account in which nothing was made yet."""
    with ck.LocalCloud(tmp_path_factory.mktemp("calls"), vcpus=2) as cloud:
        yield cloud.directory


@pytest.fixture
def calls(directory):
    """Make the knot of a function in a session of its own, and return its calls."""

    def make(func, **choices):
        session = Session(directory)
        ck.Knot(func=func, cloud=session, **CHOICES, **choices)
        return dict(session.seen)

    return make


def test_each_thing_is_read_once(calls):
    assert calls(square) == MADE
    assert calls(square) == ADOPTED
    assert calls(cube) == EDITED


def test_an_update_looks_again_right_before_it_and_after_it(calls):
    """Another session may have changed the stack since it was planned, or be about to."""
    calls(square)
    stack = "cloudformation:describe_stacks calls-cloudknot"
    assert calls(square, max_vcpus=9) == {**ADOPTED, stack: 3, "cloudformation:update_stack calls-cloudknot": 1}


class Interrupted(CountingCloud):
    """A session in which something else happens when it has made its plan and looks for the image."""

    def __init__(self, directory, meanwhile):
        super().__init__(directory)
        self._meanwhile = [meanwhile]

    def call(self, service, operation, **arguments):
        if operation == "describe_images" and self._meanwhile:
            self._meanwhile.pop()()
        return super().call(service, operation, **arguments)


def test_a_knot_that_another_session_removes_meanwhile_is_made_again(directory):
    first = ck.Knot(name="removed", func=square, cloud=ck.LocalCloud(directory))
    again = ck.Knot(name="removed", func=square, cloud=Interrupted(directory, first.clobber))
    assert again.stack_id != first.stack_id
    assert again.map([3]).result(120) == [9]
