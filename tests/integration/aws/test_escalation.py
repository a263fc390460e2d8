"""A user whose policy names a permissions boundary cannot get more permissions than the boundary has.

The tests take each known path from the right to make roles to administrator access (compare "Delegating responsibility
to others using permissions boundaries" in the IAM user guide), on a cloud that evaluates IAM policies.
"""

import json
import secrets

import pytest

import cloudknot as ck
from cloudknot.aws.permissions import policies
from cloudknot.aws.permissions.policies import Scope
from cloudknot.deploy.cloudformation.stack import Stack
from cloudknot.deploy.cloudformation.template import Template
from tests.helpers.waiting import until
from tests.integration.aws.test_permissions import Users, documents

ACCOUNT = "123456789012"
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/lab-boundary"
ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"
READER = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
EVERYTHING = json.dumps({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}})
PATH = {"Path": "/cloudknot/"}
BOUNDED = {"PermissionsBoundary": BOUNDARY}


def trust(**principal):
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    return {"AssumeRolePolicyDocument": json.dumps({"Version": "2012-10-17", "Statement": [statement]})}


JOBS = trust(Service="ecs-tasks.amazonaws.com")


def attempt(request):
    """Make one call with this job's credentials, and return the error's code and message, or "allowed"."""
    import boto3
    from botocore.exceptions import ClientError

    service, operation, arguments = request
    try:
        getattr(boto3.client(service), operation)(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"], error.response["Error"]["Message"]
    return "allowed", ""


def session_of_role(owner, role):
    """Return the cloud for a session that has assumed a role."""
    keys = owner.call("sts", "assume_role", RoleArn=role, RoleSessionName="me")["Credentials"]
    return ck.LocalCloud(
        owner.directory,
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )


@pytest.fixture(scope="module")
def owner(tmp_path_factory):
    """Yield the owner of a cloud with a boundary, a Pars without it, and roles that users might reach for."""
    with ck.LocalCloud(tmp_path_factory.mktemp("escalation"), vcpus=2, quota=1000, iam=True) as cloud:
        iam = cloud.client("iam")
        # The boundary of the documentation: what jobs and machines need, and nothing else.
        document = json.dumps(policies.policy("boundary", Scope(ACCOUNT, "us-east-1")))
        iam.create_policy(PolicyName="lab-boundary", PolicyDocument=document)
        for name, place in (("admin", {}), ("unbounded", PATH), ("bounded", {**PATH, **BOUNDED})):
            iam.create_role(RoleName=name, **JOBS, **place)
        iam.attach_role_policy(RoleName="admin", PolicyArn=ADMINISTRATOR)
        iam.create_instance_profile(InstanceProfileName="of-cloudknot", **PATH)
        iam.create_user(UserName="boss")
        yield cloud


def bounded(owner):
    """Return a cloud with the key of a new user, who may make bounded roles only."""
    return Users(owner).with_policy(documents("create", boundary=BOUNDARY, policies=(READER,)))


@pytest.fixture(scope="module")
def user(owner):
    return bounded(owner)


def role_of(path="", name="made", **arguments):
    return ("iam", "create_role", {"RoleName": name, **JOBS, **({"Path": path} if path else {}), **arguments})


def stack_of(role):
    """Return a request for a stack with a role of these properties."""
    properties = {
        "Path": "/cloudknot/",
        "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": []},
        **role,
    }
    template = {"Resources": {"Role": {"Type": "AWS::IAM::Role", "Properties": properties}}}
    return {"TemplateBody": json.dumps(template), "Capabilities": ["CAPABILITY_NAMED_IAM"]}


DEFINITION = {"jobDefinitionName": "x-cloudknot", "type": "container"}
CONTAINER = {"image": "x", "vcpus": 1, "memory": 4}
ADMIN_ROLE = f"arn:aws:iam::{ACCOUNT}:role/admin"

STEPS = {
    "make a role without the boundary": role_of("/cloudknot/"),
    "make a role with another boundary": role_of("/cloudknot/", PermissionsBoundary=ADMINISTRATOR),
    "make a role outside the path": role_of("/", **BOUNDED),
    "make a role in a path that begins alike": role_of("/cloudknots/", **BOUNDED),
    "attach AdministratorAccess": ("iam", "attach_role_policy", {"RoleName": "bounded", "PolicyArn": ADMINISTRATOR}),
    "attach the boundary's own policy": ("iam", "attach_role_policy", {"RoleName": "bounded", "PolicyArn": BOUNDARY}),
    "attach an allowed policy to a role without boundary": (
        *("iam", "attach_role_policy", {"RoleName": "unbounded", "PolicyArn": READER}),
    ),
    "write a policy into a role without boundary": (
        *("iam", "put_role_policy"),
        {"RoleName": "unbounded", "PolicyName": "all", "PolicyDocument": EVERYTHING},
    ),
    "write a policy into another role": (
        *("iam", "put_role_policy", {"RoleName": "admin", "PolicyName": "all", "PolicyDocument": EVERYTHING}),
    ),
    "remove the boundary": ("iam", "delete_role_permissions_boundary", {"RoleName": "bounded"}),
    "replace the boundary": (
        *("iam", "put_role_permissions_boundary"),
        {"RoleName": "bounded", "PermissionsBoundary": ADMINISTRATOR},
    ),
    "change the boundary's policy": (
        *("iam", "create_policy_version"),
        {"PolicyArn": BOUNDARY, "PolicyDocument": EVERYTHING, "SetAsDefault": True},
    ),
    "choose another version of it": (
        *("iam", "set_default_policy_version", {"PolicyArn": BOUNDARY, "VersionId": "v1"}),
    ),
    "delete the boundary's policy": ("iam", "delete_policy", {"PolicyArn": BOUNDARY}),
    "make a policy": ("iam", "create_policy", {"PolicyName": "all", "PolicyDocument": EVERYTHING}),
    "change who may assume a role": (
        *("iam", "update_assume_role_policy"),
        {"RoleName": "unbounded", "PolicyDocument": trust(AWS="*")["AssumeRolePolicyDocument"]},
    ),
    "assume a role": ("sts", "assume_role", {"RoleArn": ADMIN_ROLE, "RoleSessionName": "me"}),
    "give another role to jobs": (
        *("batch", "register_job_definition"),
        {**DEFINITION, "containerProperties": {**CONTAINER, "jobRoleArn": ADMIN_ROLE}},
    ),
    "give another role to the start of jobs": (
        *("batch", "register_job_definition"),
        {**DEFINITION, "containerProperties": {**CONTAINER, "executionRoleArn": ADMIN_ROLE}},
    ),
    "give another role to instances": (
        *("iam", "add_role_to_instance_profile", {"InstanceProfileName": "of-cloudknot", "RoleName": "admin"}),
    ),
    "give another role to a stack": (
        *("cloudformation", "create_stack", {"StackName": "x-cloudknot", "RoleARN": ADMIN_ROLE, **stack_of({})}),
    ),
    "start an instance": ("ec2", "run_instances", {"ImageId": "ami-12345678", "MinCount": 1, "MaxCount": 1}),
    "start a task of ECS": ("ecs", "run_task", {"taskDefinition": "x"}),
    "make a function of Lambda": (
        *("lambda", "create_function"),
        {"FunctionName": "x", "Role": ADMIN_ROLE, "Code": {"ZipFile": b"x"}, "Handler": "x", "Runtime": "python3.12"},
    ),
    "make the role of another service": (
        *("iam", "create_service_linked_role", {"AWSServiceName": "ecs.amazonaws.com"}),
    ),
    "make a user": ("iam", "create_user", {"UserName": "me-too"}),
    "make a key of another user": ("iam", "create_access_key", {"UserName": "boss"}),
    "write a policy into a user": (
        *("iam", "put_user_policy", {"UserName": "boss", "PolicyName": "all", "PolicyDocument": EVERYTHING}),
    ),
    "attach a policy to a user": ("iam", "attach_user_policy", {"UserName": "boss", "PolicyArn": ADMINISTRATOR}),
}
"""Steps on a path to more permissions: service, operation and arguments, by the step's name in the documentation."""


def job_role(knot):
    """Return the name of the role of a knot's jobs."""
    arn = knot.job_definition.arn
    (definition,) = knot.cloud.call("batch", "describe_job_definitions", jobDefinitions=[arn])["jobDefinitions"]
    return definition["containerProperties"]["jobRoleArn"].rpartition("/")[2]


def status(owner, name):
    return owner.call("cloudformation", "describe_stacks", StackName=name)["Stacks"][0]["StackStatus"]


def snapshot(owner):
    """Return the users, roles and policies of the account."""
    details = owner.client("iam").get_account_authorization_details(Filter=["User", "Role", "LocalManagedPolicy"])
    del details["ResponseMetadata"]
    return json.dumps(details, default=str, sort_keys=True)


@pytest.mark.parametrize("step", STEPS)
def test_step_to_more_permissions_is_refused(user, owner, step):
    before = snapshot(owner)
    # The embedded cloud has neither ECS nor Lambda.
    with pytest.raises(ck.CloudknotError, match=r"is not authorized to perform|has no service '(ecs|lambda)'"):
        user.call(*STEPS[step][:2], **STEPS[step][2])
    assert snapshot(owner) == before


@pytest.mark.parametrize(
    "role",
    [
        {},
        {"PermissionsBoundary": ADMINISTRATOR},
        {"PermissionsBoundary": BOUNDARY, "Path": "/"},
        {"PermissionsBoundary": BOUNDARY, "ManagedPolicyArns": [ADMINISTRATOR]},
    ],
    ids=str,
)
def test_stack_takes_no_step_that_its_user_may_not_take(user, owner, role):
    name = f"{secrets.token_hex(3)}-cloudknot"
    user.call("cloudformation", "create_stack", StackName=name, **stack_of(role))
    assert until(lambda: not status(owner, name).endswith("_IN_PROGRESS"))
    assert status(owner, name) == "ROLLBACK_COMPLETE"
    events = owner.call("cloudformation", "describe_stack_events", StackName=name)["StackEvents"]
    assert [event for event in events if "AccessDenied" in event.get("ResourceStatusReason", "")]
    roles = owner.call("iam", "list_roles")["Roles"]
    assert not [item for item in roles if name in item["RoleName"]]


def test_job_with_every_permission_can_do_no_more_than_the_boundary(user, owner, monkeypatch):
    """The steps that a bounded user may take end at the boundary: own roles, own policies, own trust."""
    monkeypatch.setenv("CLOUDKNOT_PERMISSIONS_BOUNDARY", "lab-boundary")
    owner.client("s3").create_bucket(Bucket="of-the-lab")
    knot = ck.Knot(name="bounded", func=attempt, cloud=user)
    role = job_role(knot)
    assert knot.pars.permissions_boundary == BOUNDARY
    user.call("iam", "put_role_policy", RoleName=role, PolicyName="all", PolicyDocument=EVERYTHING)
    key = {"Bucket": user.bucket, "Key": "cloudknot.jobs/of-a-job"}
    requests = [
        ("s3", "put_object", {**key, "Body": b"1"}),
        ("s3", "get_object", key),
        ("iam", "create_user", {"UserName": "intruder"}),
        ("iam", "delete_role_permissions_boundary", {"RoleName": role}),
        ("s3", "put_object", {"Bucket": "of-the-lab", "Key": "k", "Body": b"1"}),
        ("sts", "assume_role", {"RoleArn": ADMIN_ROLE, "RoleSessionName": "me"}),
    ]
    outcomes = knot.map(requests, chunksize=10).result(300)
    assert outcomes[:2] == [("allowed", "")] * 2
    for code, message in outcomes[2:]:
        assert code == "AccessDenied"
        assert "because no permissions boundary allows the" in message
    trusting = {**JOBS, **trust(AWS=f"arn:aws:iam::{ACCOUNT}:root")}
    made = user.call("iam", "create_role", RoleName="own", **{**trusting, **PATH, **BOUNDED})["Role"]["Arn"]
    user.call("iam", "put_role_policy", RoleName="own", PolicyName="all", PolicyDocument=EVERYTHING)
    session = session_of_role(owner, made)
    with pytest.raises(ck.PermissionDeniedError, match="no permissions boundary allows"):
        session.call("iam", "create_user", UserName="intruder")
    user.call("iam", "delete_role_policy", RoleName=role, PolicyName="all")
    knot.clobber(clobber_pars=True)


class TestBoundedUser:
    def test_every_role_has_the_boundary_and_allowed_policies(self, owner):
        cloud = bounded(owner)
        pars = ck.Pars(
            "full",
            batch_service_role_name="batchy",
            spot_fleet_role_name="spotty",
            ecs_instance_role_name="machines",
            policies=READER,
            permissions_boundary=BOUNDARY,
            cloud=cloud,
        )
        knot = ck.Knot(name="full", func=attempt, pars=pars, cloud=cloud)
        roles = [role["RoleName"] for role in owner.call("iam", "list_roles", PathPrefix="/cloudknot/")["Roles"]]
        made = [name for name in roles if name.startswith(("full-", "batchy", "spotty", "machines"))]
        assert {job_role(knot), pars.execution_role.rpartition("/")[2], "batchy", "spotty", "machines"} <= set(made)
        for name in made:
            role = owner.call("iam", "get_role", RoleName=name)["Role"]
            assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == BOUNDARY, name
        knot.clobber(clobber_pars=True)

    def test_role_without_boundary_is_refused_with_advice(self, owner):
        with pytest.raises(ck.CloudError, match="CLOUDKNOT_PERMISSIONS_BOUNDARY") as caught:
            ck.Pars("none", cloud=bounded(owner))
        assert "The statement MakeRoles of the policy" in str(caught.value)
        # The stack of a Pars only names the policies. That of a knot attaches them.
        cloud = bounded(owner)
        pars = ck.Pars("wide", policies="AdministratorAccess", permissions_boundary=BOUNDARY, cloud=cloud)
        with pytest.raises(ck.CloudError, match="iam:AttachRolePolicy"):
            ck.Knot(name="wide", func=attempt, pars=pars, cloud=cloud)
        pars.clobber()
        names = [stack["StackName"] for stack in owner.call("cloudformation", "describe_stacks")["Stacks"]]
        assert not {"none-cloudknot-pars", "wide-cloudknot"} & set(names)

    def test_existing_pars_gets_the_boundary_and_keeps_it(self, owner, caplog):
        ck.Pars("old", cloud=owner)
        cloud = bounded(owner)
        pars = ck.Pars("old", permissions_boundary="lab-boundary", cloud=cloud)
        assert "get the permissions boundary lab-boundary" in caplog.text
        role = pars.execution_role.rpartition("/")[2]
        assert ck.Pars("old", cloud=cloud).permissions_boundary == BOUNDARY
        shown = owner.call("iam", "get_role", RoleName=role)["Role"]
        assert shown["PermissionsBoundary"]["PermissionsBoundaryArn"] == BOUNDARY
        pars.clobber()


ROLES = """
Parameters:
  TemplateDigest: {Type: String}
  Boundary: {Type: String, Default: ""}
  Policy: {Type: String, Default: ""}
Conditions:
  HasBoundary: !Not [!Equals [!Ref Boundary, ""]]
  HasPolicy: !Not [!Equals [!Ref Policy, ""]]
Resources:
  First: &role
    Type: AWS::IAM::Role
    Properties: &properties
      Path: /cloudknot/
      AssumeRolePolicyDocument: {Version: "2012-10-17", Statement: []}
      PermissionsBoundary: !If [HasBoundary, !Ref Boundary, !Ref "AWS::NoValue"]
  Second: {<<: *role, DependsOn: First}
  Third:
    Type: AWS::IAM::Role
    DependsOn: Second
    Properties:
      <<: *properties
      ManagedPolicyArns: !If [HasPolicy, [!Ref Policy], !Ref "AWS::NoValue"]
"""


def test_refused_update_with_first_boundary_does_not_block_the_stack(owner):
    """CloudFormation may not remove the boundary again, so cloudknot finishes the rollback without these roles."""
    name, template = "first-cloudknot", Template.of(ROLES, {})
    Stack(owner, name).deploy(template, {})
    stack = Stack(bounded(owner), name)
    with pytest.raises(ck.CannotCreateResourceException, match="iam:AttachRolePolicy"):
        stack.deploy(template, {"Boundary": BOUNDARY, "Policy": ADMINISTRATOR})
    assert status(owner, name) == "UPDATE_ROLLBACK_COMPLETE"
    assert stack.deploy(template, {"Boundary": BOUNDARY, "Policy": READER}).status.startswith("UPDATE_COMPLETE")
    stack.delete()


def test_user_with_create_policy_alone_is_administrator(owner):
    """The documentation says so. With this test, it stays true or is changed."""
    cloud = Users(owner).with_policy(documents("create"))
    pars = ck.Pars("power", policies="AdministratorAccess", cloud=cloud)
    knot = ck.Knot(name="power", func=attempt, pars=pars, cloud=cloud)
    assert knot.map([("iam", "create_user", {"UserName": "made-by-job"})]).result(300) == [("allowed", "")]
    knot.clobber(clobber_pars=True)


def test_boundary_without_policy_allows_nothing(owner):
    """As on AWS, a deleted boundary gives no permissions back."""
    iam = owner.client("iam")
    arn = iam.create_policy(PolicyName="gone", PolicyDocument=EVERYTHING)["Policy"]["Arn"]
    role = iam.create_role(RoleName="of-gone", **trust(AWS=f"arn:aws:iam::{ACCOUNT}:root"), PermissionsBoundary=arn)
    iam.attach_role_policy(RoleName="of-gone", PolicyArn=ADMINISTRATOR)
    iam.delete_policy(PolicyArn=arn)
    session = session_of_role(owner, role["Role"]["Arn"])
    with pytest.raises(ck.PermissionDeniedError, match="no permissions boundary allows"):
        session.call("s3", "list_buckets")
