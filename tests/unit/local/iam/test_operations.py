"""The services answer or refuse each call by AWS's description of its operation, whatever its arguments are."""

from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudknot.aws.sdk.service_models import operation_model, service_model
from cloudknot.local.batch import catalog, job_store
from cloudknot.local.batch.job_api import Batch
from cloudknot.local.cloudformation.api import CloudFormation
from cloudknot.local.cloudformation.stack_store import StackStore
from cloudknot.local.directory.database import Database
from cloudknot.local.directory.documents import Documents, cloud_database
from cloudknot.local.iam.keys import Keys
from cloudknot.local.iam.requests.shapes import broken_constraints
from cloudknot.local.iam.signing import AccessKey
from cloudknot.local.server.logs import store as log_store
from cloudknot.local.server.logs.api import Logs
from cloudknot.local.server.logs.store import LogStore
from cloudknot.local.server.services.ec2.api import Ec2
from cloudknot.local.server.services.ecr.api import Ecr
from cloudknot.local.server.services.iam.api import Iam
from cloudknot.local.server.services.service import ControlPlane
from cloudknot.local.server.services.sts import Sts
from cloudknot.local.wsgi import ServiceError

OWNER = AccessKey("AKIAOWNER", "secret")
NAMES = st.sampled_from(["a", "vpc-1", "10.0.0.0/16", "arn:aws:iam::123456789012:role/a", "{}", "1"])


class NoRunner:
    """A runner that starts nothing."""

    def start(self, task, report):
        pass

    def stop(self, task_id, *, kill):
        pass

    def close(self):
        pass


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    """Return a function that calls a service, and the operations that the services support."""
    directory = tmp_path_factory.mktemp("cloud")
    database = cloud_database(directory)
    keys = Keys(OWNER, kept=Documents(database, "key"), takes_users=True)
    iam = Iam(database, keys)
    sts = Sts(keys, True, lambda name: iam.answer("GetRole", {"RoleName": name}, None)["Role"])
    plane = ControlPlane({"iam": iam, "sts": sts, "ec2": Ec2(database), "ecr": Ecr(database)}, database, {})
    jobs = Database(directory / "jobs.sqlite", catalog.SCHEMA + job_store.SCHEMA, is_synced=False)
    log_database = Database(directory / "logs.sqlite", log_store.SCHEMA, is_synced=False)
    stacks = CloudFormation(StackStore(database), lambda key: None, lambda key: True)
    batch, logs = Batch(jobs, NoRunner(), plane.call, 2), LogStore(log_database)
    batch.start()
    others = {
        "batch": batch.respond,
        "logs": Logs(logs).respond,
        "cloudformation": partial(stacks.respond, access_key=""),
    }

    def call(service, operation, **arguments):
        if service in others:
            return others[service](operation, arguments)
        return plane.call(service, operation, **arguments)

    yield (
        call,
        [
            (service, operation)
            for service in ("iam", "sts", "ec2", "ecr", *others)
            for operation in service_model(service).operation_names
            if refusal(call, service, operation) != "InvalidAction"
        ],
    )
    batch.close()
    logs.close()
    for each in (jobs, log_database, database):
        each.close()


def refusal(call, service, operation, **arguments):
    """Return the code of the error that refuses a call, or an empty string."""
    try:
        call(service, operation, **arguments)
    except ServiceError as error:
        return error.code
    return ""


def values(shape, depth=0):
    """Return values of a type of AWS."""
    if shape.type_name == "structure":
        parts = {name: values(part, depth + 1) for name, part in shape.members.items() if depth < 3}
        required = {name: parts.pop(name) for name in shape.required_members if name in parts}
        return st.fixed_dictionaries(required, optional=dict(list(parts.items())[:12]))
    if shape.type_name == "list":
        return st.lists(values(shape.member, depth + 1), min_size=1, max_size=2)
    if shape.type_name == "map":
        return st.dictionaries(NAMES, values(shape.value, depth + 1), min_size=1, max_size=2)
    if shape.type_name == "boolean":
        return st.booleans()
    if shape.type_name in ("integer", "long"):
        return st.integers(0, 2000)
    return st.sampled_from(shape.metadata["enum"]) if shape.metadata.get("enum") else NAMES


def test_many_operations_are_supported(services):
    assert len(services[1]) > 200


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], deadline=None, max_examples=200)
@given(data=st.data())
def test_every_call_is_answered_or_refused(services, data):
    call, supported = services
    service, operation = data.draw(st.sampled_from(supported))
    shape = operation_model(service, operation).input_shape
    refusal(call, service, operation, **(data.draw(values(shape)) if shape is not None else {}))


def test_call_of_ec2_without_an_argument_is_refused(services):
    with pytest.raises(ServiceError, match="The request must contain the parameter VpcId") as caught:
        services[0]("ec2", "CreateRouteTable")
    assert caught.value.code == "MissingParameter"
    assert refusal(services[0], "ec2", "DescribeVpcs", Filters=[{"Values": ["a"]}]) == "MissingParameter"


@pytest.mark.parametrize(
    ("service", "operation", "arguments", "broken"),
    [
        ("iam", "GetRole", {}, "1 validation error detected: Value null at 'roleName' failed to satisfy constraint"),
        ("iam", "GetRole", {"RoleName": "a b"}, r"must satisfy regular expression pattern: [\w+=,.@-]+"),
        ("iam", "GetRole", {"RoleName": "a" * 65}, "must have length less than or equal to 64"),
        ("iam", "TagRole", {"RoleName": "a", "Tags": [{"Key": "k"}]}, "Value null at 'tags.1.member.value'"),
        ("sts", "AssumeRole", {"RoleArn": "x" * 20, "RoleSessionName": "aa"}, ""),
        (
            "sts",
            "AssumeRole",
            {"RoleArn": "x" * 20, "RoleSessionName": "aa", "DurationSeconds": 899},
            "Value '899' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than",
        ),
        ("ecr", "CreateRepository", {"repositoryName": "UPPER"}, "Value 'UPPER' at 'repositoryName'"),
        ("batch", "SubmitJob", {"jobName": "a"}, "2 validation errors detected: Value null at 'jobQueue'"),
        ("logs", "TagResource", {"resourceArn": "a", "tags": {"k": "x" * 257}}, "at 'tags.k.value'"),
        # Java's pattern for keys of tags is none of Python's.
        ("iam", "TagRole", {"RoleName": "a", "Tags": [{"Key": "k\xe9y", "Value": ""}]}, ""),
    ],
)
def test_broken_constraint_is_found_in_the_description(service, operation, arguments, broken):
    found = broken_constraints(service, operation, arguments)
    assert broken in found if broken else not found
