"""Users with a policy from `cloudknot permissions` can do everything that it is for, on a cloud that enforces it.

Without any one of its statements, a step fails. The error names the missing action and the statement that allows it.
"""

import contextlib
import json
import secrets
import time
from dataclasses import dataclass

import boto3
import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner

import cloudknot as ck
from cloudknot.aws.images.codebuild import CONTEXTS
from cloudknot.aws.permissions import policies
from cloudknot.aws.permissions.policies import Scope
from cloudknot.aws.permissions.statements import GRANTS, RUN
from cloudknot.cli.main import main
from cloudknot.deploy.account.resources import find_resources, remove, remove_runs
from cloudknot.deploy.cloudformation.stack import Stack
from cloudknot.deploy.codebuild.project import delete_project, make_project
from cloudknot.deploy.inventory import all_stacks
from tests.helpers.functions import cube
from tests.helpers.waiting import LONG, until


def work(x):
    """Print and square `x`, or sleep. The knots of this module share this function, and so one image."""
    print("working on", x)
    if x == "sleep":
        time.sleep(600)
    return x * x


def documents(level, without="", bucket="", **names):
    """Return the policies of a level and of those it needs as one, without one of their statements."""
    scope = Scope("123456789012", "us-east-1", bucket, **names)
    levels = (*policies.needed_with(level), level)
    statements = [part for each in levels for part in policies.policy(each, scope)["Statement"]]
    return {"Version": "2012-10-17", "Statement": [part for part in statements if part["Sid"] != without]}


class Users:
    """Factory for users of a cloud."""

    def __init__(self, owner):
        self.owner = owner

    def with_policy(self, document):
        """Create a user with this policy, and return a `LocalCloud` with the user's key."""
        name, iam = f"user-{secrets.token_hex(4)}", self.owner.client("iam")
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="cloudknot", PolicyDocument=json.dumps(document))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        keys = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
        return ck.LocalCloud(self.owner.directory, **keys)


@pytest.fixture(scope="module")
def owner(tmp_path_factory):
    """Yield a cloud that evaluates IAM policies, with the key of its owner, who may do everything."""
    with ck.LocalCloud(tmp_path_factory.mktemp("iam"), vcpus=2, quota=1000, iam=True) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def users(owner):
    return Users(owner)


@pytest.fixture(scope="module")
def shared(owner):
    """Return a knot of the owner that has run a map."""
    knot = ck.Knot(name="shared", func=work, cloud=owner)
    future = knot.map([1, 2])
    assert future.result(300) == [1, 4]
    return knot


def denial_in(error):
    """Return the `PermissionDeniedError` among an error and its causes, or None."""
    while error is not None and not isinstance(error, ck.PermissionDeniedError):
        error = error.__cause__
    return error


class TestWholePolicies:
    def test_user_with_run_policy_uses_existing_knot(self, users, shared):
        knot = ck.Knot(name="shared", cloud=users.with_policy(documents("run")))
        future = knot.map([3, 4])
        assert future.result(300) == [9, 16]
        assert until(lambda: "working on 3" in list(future.job.logs(0)))
        assert ck.BatchJob(future.job.job_id, cloud=knot._cloud).result(300) == [9, 16]
        assert knot.map(["sleep"]).cancel()
        future.job.clobber()

    def test_user_with_create_policy_creates_updates_and_clobbers_knot(self, users, owner):
        cloud = users.with_policy(documents("create"))
        knot = ck.Knot(name="own", func=work, cloud=cloud, volume_size=50, aws_resource_tags={"Lab": "7"})
        assert knot.map([5]).result(300) == [25]
        changed = ck.Knot(name="own", func=cube, cloud=cloud, volume_size=50, max_vcpus=4)
        assert changed.map([2]).result(300) == [8]
        changed.clobber()
        with pytest.raises(ck.ResourceDoesNotExistException):
            ck.Knot(name="own", cloud=owner)

    def test_user_with_create_policy_can_look_up_images_and_key_pairs(self, users, owner):
        owner.call("ec2", "create_key_pair", KeyName="lab")
        cloud = users.with_policy(documents("create"))
        with pytest.raises(ck.CloudknotInputError, match=r"Near matches: lab\."):
            ck.Knot(name="named", func=work, cloud=cloud, ec2_key_pair="labs")
        with pytest.raises(ck.CloudknotInputError, match=r"does not exist in .* or is not shared with your account"):
            ck.Knot(name="named", func=work, cloud=cloud, ec2_key_pair="lab", image_id="ami-00000000")

    def test_user_with_create_policy_creates_first_spot_knot(self, users, owner):
        # An account gets the role for Spot with its first use. Delete it to repeat that first use.
        for role in owner.call("iam", "list_roles", PathPrefix="/aws-service-role/spot.amazonaws.com/")["Roles"]:
            owner.call("iam", "delete_role", RoleName=role["RoleName"])
        lacking = users.with_policy(documents("create", "MakeServicesOwnRoles"))
        with pytest.raises(ck.PermissionDeniedError, match="The statement MakeServicesOwnRoles of the policy"):
            ck.Knot(name="spot", func=work, cloud=lacking, bid_percentage=60)
        assert "spot-cloudknot" not in [stack.name for stack in all_stacks(owner)]
        ck.Knot(name="spot", func=work, cloud=users.with_policy(documents("create")), bid_percentage=60).clobber()

    def test_user_with_network_policy_creates_and_clobbers_network(self, users):
        cloud = users.with_policy(documents("network"))
        pars = ck.Pars("wide", use_default_vpc=False, batch_service_role_name="batchy", cloud=cloud)
        assert len(pars.subnets) == 2
        pars.clobber()

    def test_user_with_build_policy_makes_updates_and_removes_project(self, users, owner):
        cloud = users.with_policy(documents("build"))
        cloud.storage.ensure_bucket({})
        cloud.storage.upload(f"{CONTEXTS}/forgotten", [b"files"])
        repository = cloud.repository("cloudknot")
        repository.create()
        before = owner.call("codebuild", "list_projects")["projects"]
        project = make_project(cloud, repository)
        assert owner.call("codebuild", "list_projects")["projects"] == [*before, project]
        # Another bucket in the policy of its role.
        make_project(cloud.in_bucket("of-others"), repository)
        delete_project(cloud)
        assert owner.call("codebuild", "list_projects")["projects"] == before
        assert list(owner.storage.keys(f"{CONTEXTS}/")) == []

    def test_stacks_make_only_calls_that_the_handlers_make(self, users, owner, handlers):
        """The embedded CloudFormation needs no permission that the real one does not need."""
        operations = [operation for kind in handlers.values() for operation in kind.items()]
        listed = {action for name, needed in operations if name != "list" for action in needed["permissions"]}
        via = {"ForAnyValue:StringEquals": {"aws:CalledVia": "cloudformation.amazonaws.com"}}
        denied = {"Effect": "Deny", "NotAction": sorted(listed), "Resource": "*", "Condition": via}
        allowed = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        cloud = users.with_policy({"Version": "2012-10-17", "Statement": [allowed, denied]})
        names = {"spot_fleet_role_name": "spotter", "ecs_instance_role_name": "machine"}
        pars = ck.Pars("exact", use_default_vpc=False, cloud=cloud, **names)
        pars = ck.Pars("exact", policies="AmazonS3ReadOnlyAccess", permissions_boundary="ReadOnlyAccess", cloud=cloud)
        ck.Knot(name="exact", func=work, pars=pars, cloud=cloud, volume_size=50)
        knot = ck.Knot(name="exact", func=work, pars=pars, cloud=cloud, volume_size=60, max_vcpus=4, priority=3)
        stacks = {"exact-cloudknot", "exact-cloudknot-pars"}
        assert stacks <= {stack.name for stack in all_stacks(owner)}
        knot.clobber()
        pars.clobber()
        assert not stacks & {stack.name for stack in all_stacks(owner)}

    def test_user_without_network_policy_uses_default_vpc_and_cannot_delete_route(self, users, owner):
        cloud = users.with_policy(documents("create"))
        pars = ck.Pars("narrow", cloud=cloud)
        ck.Knot(name="narrow", func=work, pars=pars, cloud=cloud, volume_size=50).clobber()
        pars.clobber()
        (table, *_) = owner.call("ec2", "describe_route_tables")["RouteTables"]
        with pytest.raises(ck.PermissionDeniedError, match="The statement MakeNetworks of the policy"):
            cloud.call("ec2", "delete_route", RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0")

    def test_user_with_administer_policy_clobbers_shared_resources(self, users):
        cloud = users.with_policy(documents("administer"))
        pars = ck.Pars("gone", cloud=cloud)
        knot = ck.Knot(name="gone", func=work, pars=pars, repo_name="cloudknot", cloud=cloud)
        knot.clobber(clobber_pars=True, clobber_image=True)
        assert knot.clobbered

    def test_user_with_administer_policy_removes_all_resources(self, tmp_path):
        with ck.LocalCloud(tmp_path, vcpus=2, quota=1000, iam=True) as owner:
            ck.DockerRepo("others", cloud=owner)
            cloud = Users(owner).with_policy(documents("administer"))
            assert ck.Knot(name="last", func=cube, cloud=cloud).map([2]).result(300) == [8]
            ck.Knot(name="theirs", func=cube, cloud=owner.in_bucket("of-others"))
            resources = find_resources(cloud)
            assert {repository.name for repository in resources.repositories} == {"cloudknot", "others"}
            knot, pars, images, used, bucket = remove(cloud, resources, results=True)
            # The policy covers one bucket, so this user may not delete the results of the other knot. That knot stays
            # as it is, with its Pars and its image.
            assert "knot theirs: The knot 'theirs' was not clobbered, and nothing was changed." in knot
            assert "because the knot 'theirs' uses it" in pars
            assert "'cloudknot' was not deleted, because the knot 'theirs' uses it" in used
            assert "image repository others" in images
            assert "The statement DeleteImages" in images
            assert "the runs in of-others" in bucket
            assert "The statement ListRuns" in bucket
            assert ck.Knot(name="theirs", cloud=owner).map([3]).result(300) == [27]
            # A person with the right to both buckets finishes the removal.
            assert remove(owner, find_resources(owner), results=True) == []
            assert not find_resources(owner)


def test_permissions_command_fills_in_account_of_credentials(owner, monkeypatch):
    for name, value in owner.environment().items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(main, ["permissions", "run"])
    assert owner.account in result.stdout
    assert "ACCOUNT_ID" not in result.output


class TestEnforcement:
    def test_user_denied_every_action_can_only_get_its_identity(self, users):
        cloud = users.with_policy(
            {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}
        )
        assert cloud.account == "123456789012"
        for service, operation, arguments in (
            ("s3", "list_objects_v2", {"Bucket": "any"}),
            ("batch", "list_jobs", {"jobQueue": "any", "jobStatus": "RUNNING"}),
            ("ec2", "describe_vpcs", {}),
            ("iam", "list_roles", {}),
            ("ecr", "describe_repositories", {"repositoryNames": ["any"]}),
            ("logs", "describe_log_groups", {}),
            ("cloudformation", "describe_stacks", {"StackName": "any-cloudknot"}),
        ):
            with pytest.raises(ck.PermissionDeniedError, match="with an explicit deny"):
                cloud.call(service, operation, **arguments)

    def test_deleted_access_key_is_refused(self, users, owner):
        cloud = users.with_policy(documents("run"))
        key = cloud.environment()["AWS_ACCESS_KEY_ID"]
        assert cloud.account
        name = owner.call("iam", "get_access_key_last_used", AccessKeyId=key)["UserName"]
        owner.call("iam", "delete_access_key", UserName=name, AccessKeyId=key)
        with pytest.raises(ck.CredentialsError, match="InvalidClientTokenId"):
            cloud.call("sts", "get_caller_identity")

    def test_changed_policy_takes_effect_at_next_call(self, users, owner):
        cloud = users.with_policy(documents("run"))
        name = owner.call("iam", "get_access_key_last_used", AccessKeyId=cloud.environment()["AWS_ACCESS_KEY_ID"])
        with pytest.raises(ck.PermissionDeniedError):
            cloud.call("s3", "list_buckets")
        allow = '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}'
        owner.call("iam", "put_user_policy", UserName=name["UserName"], PolicyName="more", PolicyDocument=allow)
        assert "Buckets" in cloud.call("s3", "list_buckets")
        owner.call("iam", "delete_user_policy", UserName=name["UserName"], PolicyName="more")
        with pytest.raises(ck.PermissionDeniedError):
            cloud.call("s3", "list_buckets")

    def test_user_assumes_only_roles_that_trust_it(self, users, owner):
        account, assume = owner.account, "sts:AssumeRole"
        cloud = users.with_policy(
            {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": assume, "Resource": "*"}]}
        )
        roles = {}
        for name, trusted in (
            ("open", f"arn:aws:iam::{account}:root"),
            ("closed", f"arn:aws:iam::{account}:user/nobody"),
        ):
            trust = (
                f'{{"Statement": [{{"Effect": "Allow", "Principal": {{"AWS": "{trusted}"}}, "Action": "{assume}"}}]}}'
            )
            answer = owner.call("iam", "create_role", RoleName=name, AssumeRolePolicyDocument=trust)
            roles[name] = answer["Role"]["Arn"]
        owner.call(
            "iam", "attach_role_policy", RoleName="open", PolicyArn="arn:aws:iam::aws:policy/AmazonS3FullAccess"
        )
        with pytest.raises(ck.PermissionDeniedError, match=assume):
            cloud.call("sts", "assume_role", RoleArn=roles["closed"], RoleSessionName="session")
        credentials = cloud.call("sts", "assume_role", RoleArn=roles["open"], RoleSessionName="session")["Credentials"]
        session = ck.LocalCloud(
            owner.directory,
            aws_access_key_id=credentials["AccessKeyId"],
            aws_secret_access_key=credentials["SecretAccessKey"],
            aws_session_token=credentials["SessionToken"],
        )
        assert ":assumed-role/open/session" in session.call("sts", "get_caller_identity")["Arn"]
        assert "Buckets" in session.call("s3", "list_buckets")
        with pytest.raises(ck.PermissionDeniedError, match="assumed-role/open/session"):
            session.call("ec2", "describe_vpcs")

    @pytest.mark.parametrize(
        "path", ["/_cloudknot/status", "/_cloudknot/stop", "/_cloudknot/faults", "/moto-api/data.json"]
    )
    def test_only_owner_can_call_clouds_own_paths(self, users, path):
        from urllib.request import Request, urlopen

        from cloudknot.local.iam.signing import AccessKey, sign

        cloud = users.with_policy(
            {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
        )
        variables = cloud.environment()
        key = AccessKey(variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"])
        headers = sign("POST", cloud.endpoint_url + path, key, service="cloudknot", body=b"{}")
        with pytest.raises(OSError, match="403"):
            urlopen(Request(cloud.endpoint_url + path, b"{}", headers, method="POST"), timeout=LONG)

    def test_cloud_without_iam_accepts_only_owners_key(self, cloud):
        cloud.call("iam", "create_user", UserName="outsider")
        key = cloud.call("iam", "create_access_key", UserName="outsider")["AccessKey"]
        keys = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
        client = boto3.client("sts", endpoint_url=cloud.endpoint_url, region_name="us-east-1", **keys)
        with pytest.raises(ClientError, match="InvalidClientTokenId"):
            client.get_caller_identity()

    def test_session_with_iam_refuses_cloud_that_runs_without_it(self, cloud):
        with pytest.raises(ck.CloudknotConfigurationError, match="iam False"):
            ck.LocalCloud(cloud.directory, iam=True).start()


LOG_GROUP = {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": "/cloudknot/gap"}}
VPC = {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.9.0.0/16"}}


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("logs:DescribeIndexPolicies", LOG_GROUP),
        ("logs:DescribeLogGroups", LOG_GROUP),
        ("logs:DescribeResourcePolicies", LOG_GROUP),
        ("logs:GetDataProtectionPolicy", LOG_GROUP),
        ("logs:ListTagsForResource", LOG_GROUP),
        ("ec2:DescribeNetworkAcls", VPC),
        ("ec2:DescribeVpcAttribute", VPC),
        ("ec2:DescribeVpcEncryptionControls", VPC),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_stack_fails_without_permission_for_a_read_of_its_handler(users, owner, action, resource):
    document = documents("network")
    for part in document["Statement"]:
        part["Action"] = [name for name in part["Action"] if name != action]
    name = f"gap-{secrets.token_hex(3)}-cloudknot"
    template = json.dumps({"Resources": {"Only": resource}})
    users.with_policy(document).call("cloudformation", "create_stack", StackName=name, TemplateBody=template)

    until(lambda: Stack(owner, name).state().status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED"))
    rows = owner.call("cloudformation", "describe_stack_events", StackName=name)["StackEvents"]
    assert [row for row in rows if f"not authorized to perform: {action}" in row.get("ResourceStatusReason", "")]
    owner.call("cloudformation", "delete_stack", StackName=name)
    assert until(lambda: not [stack for stack in all_stacks(owner) if stack.name == name])


@dataclass
class Stage:
    """The clouds for a step: a user without one statement, and the owner, with a knot that the step uses."""

    user: ck.LocalCloud
    owner: ck.LocalCloud
    knot: ck.Knot

    def submitted(self, *elements):
        """Return a job that the owner submitted."""
        return self.knot.map(elements).job

    def creates_pars(self):
        ck.Pars(f"pars-{secrets.token_hex(3)}", cloud=self.user)

    def creates_a_network(self):
        ck.Pars(f"pars-{secrets.token_hex(3)}", use_default_vpc=False, cloud=self.user)

    def creates_a_knot(self):
        ck.Knot(name=f"knot-{secrets.token_hex(3)}", func=work, cloud=self.user)

    def finds_a_knot(self):
        ck.Knot(name="shared", cloud=self.user)

    def finds_all_stacks(self):
        list(self.user.pages("cloudformation", "describe_stacks"))

    def maps(self):
        ck.Knot(name="shared", cloud=self.user).map([1])

    def reads_a_log(self):
        job = self.submitted(1)
        job.result(300)
        list(ck.BatchJob(job.job_id, cloud=self.user).logs(0))

    def ends_a_job(self):
        job = self.submitted("sleep")
        try:
            ck.BatchJob(job.job_id, cloud=self.user).terminate("enough")
        finally:
            job.terminate("enough")

    def uses_batch_for_the_first_time(self):
        """Create a Pars without the role that an account gets with its first use of Batch."""
        for role in self.owner.call("iam", "list_roles", PathPrefix="/aws-service-role/batch.amazonaws.com/")["Roles"]:
            self.owner.call("iam", "delete_role", RoleName=role["RoleName"])
        self.creates_pars()

    def creates_a_bucket(self):
        self.user.storage.ensure_bucket({})

    def deletes_an_image(self):
        self.user.repository("cloudknot").delete_images([f"sha256:{'0' * 64}"])

    def makes_the_project_of_builds(self):
        make_project(self.user, self.owner.repository("cloudknot"))

    def sends_files_of_a_build(self):
        self.owner.storage.ensure_bucket({})
        self.user.storage.upload(f"{CONTEXTS}/{secrets.token_hex(4)}", [b"files"])

    def removes_the_bucket(self):
        self.owner.call("s3", "create_bucket", Bucket=self.user.bucket)
        remove_runs(self.user, own=True)

    def finds_everything(self):
        find_resources(self.user)


STEPS = {
    "FindKnots": Stage.finds_a_knot,
    "FindJobs": Stage.finds_a_knot,
    "SubmitJobs": Stage.maps,
    "TagAndEndJobs": Stage.ends_a_job,
    "UseRuns": Stage.maps,
    "ListRuns": Stage.maps,
    "ReadLogs": Stage.reads_a_log,
    "ListKnots": Stage.finds_all_stacks,
    "MakeStacks": Stage.creates_pars,
    "MakeRoles": Stage.creates_pars,
    "ManageRoles": Stage.creates_pars,
    "GiveRoles": Stage.creates_pars,
    "MakeServicesOwnRoles": Stage.uses_batch_for_the_first_time,
    "MakeBatchResources": Stage.creates_a_knot,
    "MakeLogGroups": Stage.creates_a_knot,
    "FindResources": Stage.creates_pars,
    "MakeGroupsAndTemplates": Stage.creates_pars,
    "MakeBucket": Stage.creates_a_bucket,
    "MakeImages": Stage.creates_a_knot,
    "MakeNetworks": Stage.creates_a_network,
    "FindNetworks": Stage.creates_a_network,
    "MakeBuilds": Stage.makes_the_project_of_builds,
    "GiveBuildRole": Stage.makes_the_project_of_builds,
    "SendContexts": Stage.sends_files_of_a_build,
    "DeleteImages": Stage.deletes_an_image,
    "DeleteBucket": Stage.removes_the_bucket,
    "FindRepositories": Stage.finds_everything,
}
"""The step that fails without a statement, by the statement's Sid."""


def test_steps_cover_every_statement_in_order():
    assert list(STEPS) == [grant.sid for grant in GRANTS]


@pytest.mark.parametrize("grant", GRANTS, ids=lambda grant: grant.sid)
def test_error_for_denied_step_names_missing_statement(grant, users, owner, shared, tmp_path, monkeypatch):
    bucket = ""
    # A bucket of its own, since the other tests use the default one.
    if grant.sid in ("MakeBucket", "DeleteBucket"):
        bucket = f"bucket-{secrets.token_hex(4)}"
        (tmp_path / "settings").write_text(f"[aws]\ns3-bucket = {bucket}\n")
        monkeypatch.setenv("CLOUDKNOT_CONFIG_FILE", str(tmp_path / "settings"))
    stage = Stage(users.with_policy(documents(grant.level, grant.sid, bucket)), owner, shared)
    with pytest.raises(ck.CloudError) as caught:
        STEPS[grant.sid](stage)
    denial = denial_in(caught.value)
    assert denial is not None, caught.value
    for error in (denial, caught.value):
        assert any(action in str(error) for action in grant.actions), error
        assert f"The statement {grant.sid} of the policy" in str(error)
        assert f"`cloudknot permissions {grant.level}`" in str(error)
    names = [stack["StackName"] for stack in owner.call("cloudformation", "describe_stacks")["Stacks"]]
    assert not [name for name in names if name.startswith(("pars-", "knot-"))] or grant.sid == "MakeStacks"


@pytest.fixture(scope="module")
def other(owner):
    """Return an ended job of another knot. Its name begins with that of the user's knot."""
    future = ck.Knot(name="shared-too", func=work, cloud=owner).map([1])
    assert future.result(300) == [1]
    return future.job


class TestOneKnot:
    """A user with the policy ``run`` for one knot."""

    @pytest.fixture
    def limited(self, users):
        return users.with_policy(documents("run", knot="shared"))

    def test_user_does_everything_with_own_knot(self, limited, shared):
        knot = ck.Knot(name="shared", cloud=limited)
        future = knot.map([3, 4])
        assert future.result(300) == [9, 16]
        assert knot.map(future).result(300) == [81, 256]
        assert future.job.reduce(sum).result(300) == 25
        assert until(lambda: "working on 3" in list(future.job.logs(0)))
        later_session = ck.LocalCloud(limited.directory, **self._key(limited))
        assert ck.BatchJob(future.job.job_id, cloud=later_session).result(300) == [9, 16]
        assert future.job.job_id in ck.Knot(name="shared", cloud=later_session).job_ids
        failed = knot.map([None])
        assert failed.exception(300)
        failed.job.retry_failed()
        assert failed.job.future().exception(300)
        assert knot.map(["sleep"]).cancel()
        future.job.clobber()
        with pytest.raises(ck.ResourceDoesNotExistException):
            ck.BatchJob(future.job.job_id, cloud=limited).result(60)

    def _key(self, cloud):
        names = ("aws_access_key_id", "aws_secret_access_key")
        return {name: cloud.environment()[name.upper()] for name in names}

    def test_user_cannot_use_other_knot(self, limited, other, shared):
        (description,) = other._cloud.call("batch", "describe_jobs", jobs=[other.job_id])["jobs"]
        own = {"jobQueue": shared._resources.job_queue_arn, "jobDefinition": shared._resources.job_definition_arn}
        alien = {"jobQueue": description["jobQueue"], "jobDefinition": description["jobDefinition"]}
        bucket, keys = {"Bucket": limited.bucket}, other.keys
        stream = {"logGroupName": "/cloudknot/shared-too", "logStreamName": "any"}
        refused = {
            "finding": ("cloudformation", "describe_stacks", {"StackName": "shared-too-cloudknot"}),
            "queue": ("batch", "submit_job", {"jobName": "x", **own, "jobQueue": alien["jobQueue"]}),
            "definition": ("batch", "submit_job", {"jobName": "x", **own, "jobDefinition": alien["jobDefinition"]}),
            "results": ("s3", "get_object", {**bucket, "Key": keys.output(0, 1)}),
            "inputs": ("s3", "get_object", {**bucket, "Key": keys.inputs}),
            "missing": ("s3", "head_object", {**bucket, "Key": keys.output(7, 1)}),
            "forging": ("s3", "put_object", {**bucket, "Key": keys.output(0, 1), "Body": b"forged"}),
            "deletion": ("s3", "delete_object", {**bucket, "Key": keys.output(0, 1)}),
            "runs": ("s3", "list_objects_v2", {**bucket, "Prefix": f"{keys.prefix}/"}),
            "similar names": ("s3", "list_objects_v2", {**bucket, "Prefix": "cloudknot.jobs/shared"}),
            "all": ("s3", "list_objects_v2", bucket),
            "log": ("logs", "get_log_events", stream),
        }
        allowed = []
        for name, (service, operation, arguments) in refused.items():
            with contextlib.suppress(ck.PermissionDeniedError):
                limited.call(service, operation, **arguments)
                allowed.append(name)
        assert allowed == []
        assert other._cloud.storage.get(keys.output(0, 1)) != b"forged"
        with pytest.raises(ck.PermissionDeniedError) as caught:
            ck.BatchJob(other.job_id, cloud=limited).result(60)
        assert caught.value.__cause__ is not caught.value

    @pytest.mark.parametrize("grant", RUN, ids=lambda grant: grant.sid)
    def test_user_needs_every_statement(self, grant, users, owner, shared):
        stage = Stage(users.with_policy(documents("run", grant.sid, knot="shared")), owner, shared)
        with pytest.raises(ck.CloudError) as caught:
            STEPS[grant.sid](stage)
        denial = denial_in(caught.value)
        assert denial is not None, caught.value
        assert f"The statement {grant.sid} of the policy" in str(denial)
