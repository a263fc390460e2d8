"""A new, unchanged or changed knot costs a fixed number of AWS calls, counted on an embedded cloud of its own."""

from collections import Counter

import pytest

import cloudknot as ck
from cloudknot.deploy import plan
from cloudknot.deploy.cloudformation.stack import StackState
from tests.helpers.counting import CountingCloud

CHOICES = {"name": "calls", "pars_policies": "AmazonS3FullAccess", "aws_resource_tags": {"Project": "calls"}}
REUSED = {
    "cloudformation:describe_stacks calls-cloudknot": 1,
    "cloudformation:describe_stacks default-cloudknot-pars": 1,
    "ecr:describe_repositories": 1,
    "ecr:describe_images": 1,
    "iam:get_instance_profile": 1,
    "batch:describe_job_definitions": 1,
}
FUNCTION_CHANGED = {
    **REUSED,
    "ecr:get_lifecycle_policy": 1,
    "ecr:put_image": 2,
    "batch:register_job_definition": 1,
}
CREATED = {
    **REUSED,
    "sts:get_caller_identity": 1,
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
    """A session that counts its calls by operation and stack, except the polls of a changing stack."""

    def __init__(self, directory):
        super().__init__(directory)
        self.counts = Counter()
        self._changing = set()

    def call(self, service, operation, **arguments):
        stack = str(arguments.get("StackName", ""))
        name = stack.split("/")[1] if "/" in stack else stack
        if not (operation == "describe_stacks" and name in self._changing):
            self.counts[f"{service}:{operation} {name}".strip()] += 1
        answer = super().call(service, operation, **arguments)
        if operation == "describe_stacks" and not StackState.of(answer["Stacks"][0]).in_progress:
            self._changing.discard(name)
        elif operation in ("create_stack", "update_stack"):
            self._changing.add(name)
        return answer

    def pages(self, service, operation, **arguments):
        self.counts[f"{service}:{operation} {arguments.get('Scope', '')}".strip()] += 1
        return super().pages(service, operation, **arguments)


def square(x):
    return x * x


def cube(x):
    return x * x * x


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Yield the directory of an embedded cloud with an empty account."""
    with ck.LocalCloud(tmp_path_factory.mktemp("calls"), vcpus=2) as cloud:
        yield cloud.directory


@pytest.fixture
def calls_of_knot(directory, monkeypatch):
    """Return a function that makes a knot in a session of its own and counts the calls."""
    # On a busy machine, an image takes so long that the session would read the stack again.
    monkeypatch.setattr(plan, "FRESH", 3600.0)

    def make(func, **choices):
        session = Session(directory)
        ck.Knot(func=func, cloud=session, **CHOICES, **choices)
        return dict(session.counts)

    return make


def test_knot_reads_each_resource_once(calls_of_knot):
    assert calls_of_knot(square) == CREATED
    assert calls_of_knot(square) == REUSED
    assert calls_of_knot(cube) == FUNCTION_CHANGED


def test_update_reads_stack_before_and_after_its_write(calls_of_knot):
    """Another session may change the stack between the plan and the update, or during the update.

    The revisions are read before the update, for the memory of an earlier version, and after it.
    """
    calls_of_knot(square)
    assert calls_of_knot(square, max_vcpus=9) == {
        **REUSED,
        "cloudformation:describe_stacks calls-cloudknot": 3,
        "cloudformation:update_stack calls-cloudknot": 1,
        "batch:describe_job_definitions": 2,
    }


class RacingSession(CountingCloud):
    """A session that calls ``meanwhile`` once, after its plan, when it looks for the image."""

    def __init__(self, directory, meanwhile):
        super().__init__(directory)
        self._meanwhile = [meanwhile]

    def call(self, service, operation, **arguments):
        if operation == "describe_images" and self._meanwhile:
            self._meanwhile.pop()()
        return super().call(service, operation, **arguments)


def test_knot_clobbered_by_another_session_is_created_again(directory):
    first = ck.Knot(name="removed", func=square, cloud=ck.LocalCloud(directory))
    again = ck.Knot(name="removed", func=square, cloud=RacingSession(directory, first.clobber))
    assert again.stack_id != first.stack_id
    assert again.map([3]).result(120) == [9]
