"""The policies that `cloudknot permissions` prints, held by a user of an embedded cloud that enforces them.

With a whole policy everything goes; without any one of its statements something does not, and the error says which
action is missing and which statement has it.
"""

import json
import secrets
import time
from dataclasses import dataclass

import boto3
import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner

import cloudknot as ck
from cloudknot.aws.permissions import policies
from cloudknot.aws.permissions.policies import Scope
from cloudknot.aws.permissions.statements import GRANTS
from cloudknot.cli.main import main
from cloudknot.deploy.account.resources import find_resources, remove, remove_runs
from cloudknot.deploy.inventory import all_stacks
from tests.helpers.functions import cube
from tests.helpers.waiting import until


def work(x):
    """One function for all that a knot of the owner's is to do: another one would be another image."""
    print("working on", x)
    if x == "sleep":
        time.sleep(600)
    return x * x


def documents(level, without="", bucket=""):
    """A level's policy, whole or without one of its statements."""
    return policies.policy(level, Scope("123456789012", "us-east-1", bucket), without)


class Users:
    """Makes users of a cloud, each a `LocalCloud` with a key of its own."""

    def __init__(self, owner):
        self.owner = owner

    def holding(self, document):
        name, iam = f"user-{secrets.token_hex(4)}", self.owner.client("iam")
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="cloudknot", PolicyDocument=json.dumps(document))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        keys = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
        return ck.LocalCloud(self.owner.directory, **keys)


@pytest.fixture(scope="module")
def owner(tmp_path_factory):
    with ck.LocalCloud(tmp_path_factory.mktemp("iam"), vcpus=2, quota=1000, iam=True) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def users(owner):
    return Users(owner)


@pytest.fixture(scope="module")
def shared(owner):
    """What others have made: a knot, and a map of it that has run."""
    knot = ck.Knot(name="shared", func=work, cloud=owner)
    future = knot.map([1, 2])
    assert future.result(300) == [1, 4]
    return knot


def denial_in(error):
    """The `PermissionDeniedError` that an error is, or comes from."""
    while error is not None and not isinstance(error, ck.PermissionDeniedError):
        error = error.__cause__
    return error


class TestWholePolicies:
    def test_who_may_run_uses_a_knot_that_is_there(self, users, shared):
        knot = ck.Knot(name="shared", cloud=users.holding(documents("run")))
        future = knot.map([3, 4])
        assert future.result(300) == [9, 16]
        assert until(lambda: "working on 3" in list(future.job.logs(0)))
        assert ck.BatchJob(future.job.job_id, cloud=knot._cloud).result(300) == [9, 16]
        assert knot.map(["sleep"]).cancel()
        future.job.clobber()

    def test_who_may_create_makes_a_knot_and_removes_it(self, users, owner):
        cloud = users.holding(documents("create"))
        knot = ck.Knot(name="own", func=work, cloud=cloud, volume_size=50, aws_resource_tags={"Lab": "7"})
        assert knot.map([5]).result(300) == [25]
        changed = ck.Knot(name="own", func=cube, cloud=cloud, volume_size=50, max_vcpus=4)
        assert changed.map([2]).result(300) == [8]
        changed.clobber()
        with pytest.raises(ck.ResourceDoesNotExistException):
            ck.Knot(name="own", cloud=owner)

    def test_who_may_create_names_an_image_and_a_key_pair(self, users, owner):
        owner.call("ec2", "create_key_pair", KeyName="lab")
        cloud = users.holding(documents("create"))
        with pytest.raises(ck.CloudknotInputError, match=r"Near matches: lab\."):
            ck.Knot(name="named", func=work, cloud=cloud, ec2_key_pair="labs")
        with pytest.raises(ck.CloudknotInputError, match=r"does not exist in .* or is not shared with your account"):
            ck.Knot(name="named", func=work, cloud=cloud, ec2_key_pair="lab", image_id="ami-00000000")

    def test_who_may_create_uses_spot_for_the_first_time(self, users, owner):
        for role in owner.call("iam", "list_roles", PathPrefix="/aws-service-role/spot.amazonaws.com/")["Roles"]:
            owner.call("iam", "delete_role", RoleName=role["RoleName"])
        lacking = users.holding(documents("create", "MakeServicesOwnRoles"))
        with pytest.raises(ck.PermissionDeniedError, match="the statement MakeServicesOwnRoles of the policy"):
            ck.Knot(name="spot", func=work, cloud=lacking, bid_percentage=60)
        assert "spot-cloudknot" not in [one.name for one in all_stacks(owner)]
        ck.Knot(name="spot", func=work, cloud=users.holding(documents("create")), bid_percentage=60).clobber()

    def test_who_may_create_makes_and_removes_a_network(self, users):
        cloud = users.holding(documents("create"))
        pars = ck.Pars("wide", use_default_vpc=False, batch_service_role_name="batchy", cloud=cloud)
        assert len(pars.subnets) == 2
        pars.clobber()

    def test_without_networks_a_knot_is_made_in_the_default_vpc_and_no_route_is_taken_away(self, users, owner):
        cloud = users.holding(documents("create", "MakeNetworks"))
        pars = ck.Pars("narrow", cloud=cloud)
        ck.Knot(name="narrow", func=work, pars=pars, cloud=cloud, volume_size=50).clobber()
        pars.clobber()
        (table, *_) = owner.call("ec2", "describe_route_tables")["RouteTables"]
        with pytest.raises(ck.PermissionDeniedError, match="the statement MakeNetworks of the policy"):
            cloud.call("ec2", "delete_route", RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0")

    def test_who_may_administer_removes_what_all_share(self, users):
        cloud = users.holding(documents("administer"))
        pars = ck.Pars("gone", cloud=cloud)
        knot = ck.Knot(name="gone", func=work, pars=pars, repo_name="cloudknot", cloud=cloud)
        knot.clobber(clobber_pars=True, clobber_image=True)
        assert knot.clobbered

    def test_who_may_administer_removes_everything(self, tmp_path):
        with ck.LocalCloud(tmp_path, vcpus=2, quota=1000, iam=True) as owner:
            ck.DockerRepo("others", cloud=owner)
            cloud = Users(owner).holding(documents("administer"))
            assert ck.Knot(name="last", func=cube, cloud=cloud).map([2]).result(300) == [8]
            ck.Knot(name="theirs", func=cube, cloud=owner.in_bucket("of-others"))
            found = find_resources(cloud)
            assert {one.name for one in found.repositories} == {"cloudknot", "others"}
            runs, images, bucket = remove(cloud, found, results=True)
            assert "knot theirs" in runs
            assert "image repository others" in images
            assert "the statement DeleteImages" in images
            # What the policy is not for is found, and told.
            assert "the runs in of-others" in bucket
            assert "the statement ListRuns" in bucket
            repository, closed = find_resources(cloud).rows()
            assert repository[1] == "others"
            assert closed == ("bucket of other settings", "of-others", closed[2])
            assert "may not read it" in closed[2]
            theirs = Users(owner).holding(documents("administer", bucket="of-others"))
            (images,) = remove(theirs, find_resources(theirs), results=True)
            assert "image repository others" in images
            (left,) = find_resources(owner).rows()
            assert left[1] == "others"


def test_the_command_takes_the_account_from_the_credentials(owner, monkeypatch):
    for name, value in owner.environment().items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(main, ["permissions", "run"])
    assert owner.account in result.stdout
    assert "ACCOUNT_ID" not in result.output


class TestEnforcement:
    def test_a_user_without_a_policy_may_do_nothing_but_ask_who_it_is(self, users):
        cloud = users.holding(
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

    def test_a_key_that_was_deleted_is_refused(self, users, owner):
        cloud = users.holding(documents("run"))
        key = cloud.environment()["AWS_ACCESS_KEY_ID"]
        assert cloud.account
        name = owner.call("iam", "get_access_key_last_used", AccessKeyId=key)["UserName"]
        owner.call("iam", "delete_access_key", UserName=name, AccessKeyId=key)
        with pytest.raises(ck.CredentialsError, match="InvalidClientTokenId"):
            cloud.call("sts", "get_caller_identity")

    def test_a_changed_policy_counts_from_the_next_call_on(self, users, owner):
        cloud = users.holding(documents("run"))
        name = owner.call("iam", "get_access_key_last_used", AccessKeyId=cloud.environment()["AWS_ACCESS_KEY_ID"])
        with pytest.raises(ck.PermissionDeniedError):
            cloud.call("s3", "list_buckets")
        allow = '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}'
        owner.call("iam", "put_user_policy", UserName=name["UserName"], PolicyName="more", PolicyDocument=allow)
        assert "Buckets" in cloud.call("s3", "list_buckets")
        owner.call("iam", "delete_user_policy", UserName=name["UserName"], PolicyName="more")
        with pytest.raises(ck.PermissionDeniedError):
            cloud.call("s3", "list_buckets")

    def test_a_role_is_assumed_by_whom_it_trusts(self, users, owner):
        account, assume = owner.account, "sts:AssumeRole"
        cloud = users.holding(
            {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": assume, "Resource": "*"}]}
        )
        roles = {}
        for name, who in (("open", f"arn:aws:iam::{account}:root"), ("closed", f"arn:aws:iam::{account}:user/nobody")):
            trust = f'{{"Statement": [{{"Effect": "Allow", "Principal": {{"AWS": "{who}"}}, "Action": "{assume}"}}]}}'
            answer = owner.call("iam", "create_role", RoleName=name, AssumeRolePolicyDocument=trust)
            roles[name] = answer["Role"]["Arn"]
        owner.call(
            "iam", "attach_role_policy", RoleName="open", PolicyArn="arn:aws:iam::aws:policy/AmazonS3FullAccess"
        )
        with pytest.raises(ck.PermissionDeniedError, match=assume):
            cloud.call("sts", "assume_role", RoleArn=roles["closed"], RoleSessionName="session")
        found = cloud.call("sts", "assume_role", RoleArn=roles["open"], RoleSessionName="session")["Credentials"]
        session = ck.LocalCloud(
            owner.directory,
            aws_access_key_id=found["AccessKeyId"],
            aws_secret_access_key=found["SecretAccessKey"],
            aws_session_token=found["SessionToken"],
        )
        assert ":assumed-role/open/session" in session.call("sts", "get_caller_identity")["Arn"]
        assert "Buckets" in session.call("s3", "list_buckets")
        with pytest.raises(ck.PermissionDeniedError, match="assumed-role/open/session"):
            session.call("ec2", "describe_vpcs")

    @pytest.mark.parametrize(
        "path", ["/_cloudknot/status", "/_cloudknot/stop", "/_cloudknot/faults", "/moto-api/data.json"]
    )
    def test_the_clouds_own_switches_are_its_owners(self, users, path):
        from urllib.request import Request, urlopen

        from cloudknot.local.iam.signing import AccessKey, sign

        cloud = users.holding(
            {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
        )
        found = cloud.environment()
        key = AccessKey(found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"])
        headers = sign("POST", cloud.endpoint_url + path, key, service="cloudknot", body=b"{}")
        with pytest.raises(OSError, match="403"):
            urlopen(Request(cloud.endpoint_url + path, b"{}", headers, method="POST"), timeout=10)

    def test_without_iam_only_the_owners_key_is_let_in(self, cloud):
        cloud.call("iam", "create_user", UserName="outsider")
        key = cloud.call("iam", "create_access_key", UserName="outsider")["AccessKey"]
        keys = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
        client = boto3.client("sts", endpoint_url=cloud.endpoint_url, region_name="us-east-1", **keys)
        with pytest.raises(ClientError, match="InvalidClientTokenId"):
            client.get_caller_identity()

    def test_a_cloud_that_runs_without_iam_is_not_taken_for_one_with_it(self, cloud):
        with pytest.raises(ck.CloudknotConfigurationError, match="iam False"):
            ck.LocalCloud(cloud.directory, iam=True).start()


@dataclass
class Stage:
    """Where a step is taken: by a user who lacks one statement, and by the owner who made what it needs."""

    user: ck.LocalCloud
    owner: ck.LocalCloud
    knot: ck.Knot

    def submitted(self, *elements):
        """A job of the owner's."""
        return self.knot.map(elements).job

    def makes_pars(self):
        ck.Pars(f"pars-{secrets.token_hex(3)}", cloud=self.user)

    def makes_a_network(self):
        ck.Pars(f"pars-{secrets.token_hex(3)}", use_default_vpc=False, cloud=self.user)

    def makes_a_knot(self):
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
        for role in self.owner.call("iam", "list_roles", PathPrefix="/aws-service-role/batch.amazonaws.com/")["Roles"]:
            self.owner.call("iam", "delete_role", RoleName=role["RoleName"])
        self.makes_pars()

    def makes_a_bucket(self):
        self.user.storage.ensure_bucket({})

    def deletes_an_image(self):
        self.user.repository("cloudknot").delete_images([f"sha256:{'0' * 64}"])

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
    "MakeStacks": Stage.makes_pars,
    "MakeRoles": Stage.makes_pars,
    "GiveRoles": Stage.makes_pars,
    "MakeServicesOwnRoles": Stage.uses_batch_for_the_first_time,
    "MakeBatchResources": Stage.makes_a_knot,
    "MakeLogGroups": Stage.makes_a_knot,
    "FindResources": Stage.makes_pars,
    "MakeGroupsAndTemplates": Stage.makes_pars,
    "MakeNetworks": Stage.makes_a_network,
    "MakeBucket": Stage.makes_a_bucket,
    "MakeImages": Stage.makes_a_knot,
    "DeleteImages": Stage.deletes_an_image,
    "DeleteBucket": Stage.removes_the_bucket,
    "FindRepositories": Stage.finds_everything,
}
"""What breaks without a statement, by its Sid."""


def test_every_statement_has_a_step():
    assert list(STEPS) == [grant.sid for grant in GRANTS]


@pytest.mark.parametrize("grant", GRANTS, ids=lambda grant: grant.sid)
def test_without_a_statement_a_step_breaks_and_the_error_names_it(grant, users, owner, shared, tmp_path, monkeypatch):
    bucket = ""
    if grant.sid in ("MakeBucket", "DeleteBucket"):
        bucket = f"bucket-{secrets.token_hex(4)}"
        (tmp_path / "settings").write_text(f"[aws]\ns3-bucket = {bucket}\n")
        monkeypatch.setenv("CLOUDKNOT_CONFIG_FILE", str(tmp_path / "settings"))
    stage = Stage(users.holding(documents(grant.level, grant.sid, bucket)), owner, shared)
    with pytest.raises(ck.CloudError) as caught:
        STEPS[grant.sid](stage)
    denial = denial_in(caught.value)
    assert denial is not None, caught.value
    for error in (denial, caught.value):
        assert any(action in str(error) for action in grant.actions), error
        assert f"the statement {grant.sid} of the policy" in str(error)
        assert f"`cloudknot permissions {grant.level}`" in str(error)
    leftovers = [one["StackName"] for one in owner.call("cloudformation", "describe_stacks")["Stacks"]]
    assert not [name for name in leftovers if name.startswith(("pars-", "knot-"))] or grant.sid == "MakeStacks"
