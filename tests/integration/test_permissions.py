"""The policies that `cloudknot permissions` prints, held by a user of an embedded cloud that enforces them.

With a whole policy everything goes; without any one of its statements something does not, and the error says which
action is missing and which statement has it.
"""

import contextlib
import os
import secrets

import boto3
import pytest
from botocore.exceptions import ClientError

import cloudknot as ck
from cloudknot import permissions
from cloudknot.permissions import Scope
from tests.waiting import until


def square(x):
    print("squaring", x)
    return x * x


def cube(x):
    return x**3


def slow(x):
    import time

    time.sleep(600)


def documents(level, without=""):
    """A level's policy in pieces: a user's own policies are shorter than a managed one (IAM user guide, quotas)."""
    whole = permissions.policy(level, Scope(account="123456789012", region="us-east-1"))
    return {**whole, "Statement": [one for one in whole["Statement"] if one["Sid"] != without]}


class Users:
    """Makes users of a cloud, each a `LocalCloud` with a key of its own."""

    def __init__(self, owner):
        self.owner = owner

    def holding(self, document):
        import json

        name, iam = f"user-{secrets.token_hex(4)}", self.owner.client("iam")
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="cloudknot", PolicyDocument=json.dumps(document))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        keys = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
        return ck.LocalCloud(self.owner.directory, **keys)


@pytest.fixture(scope="module")
def owner(tmp_path_factory):
    directory = f"{os.environ['CLOUDKNOT_TEST_DIR']}-iam" if os.environ.get("CLOUDKNOT_TEST_DIR") else None
    with ck.LocalCloud(directory or tmp_path_factory.mktemp("iam"), vcpus=2, iam=True) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def users(owner):
    return Users(owner)


@pytest.fixture(scope="module")
def shared(owner):
    """What others have made: a knot, and a map of it that has run."""
    knot = ck.Knot(name="shared", func=square, cloud=owner)
    future = knot.map([1, 2])
    assert future.result(300) == [1, 4]
    return knot


def denial_in(error):
    """The `PermissionDeniedError` that an error is, or comes from."""
    while error is not None and not isinstance(error, ck.PermissionDeniedError):
        error = error.__cause__
    return error


@contextlib.contextmanager
def removed_afterwards(owner, name):
    try:
        yield
    finally:
        with contextlib.suppress(ck.CloudError):
            ck.Knot(name=name, cloud=owner).clobber()


class TestWholePolicies:
    def test_who_may_run_uses_a_knot_that_is_there(self, users, shared):
        knot = ck.Knot(name="shared", cloud=users.holding(documents("run")))
        future = knot.map([3, 4])
        assert future.result(300) == [9, 16]
        assert until(lambda: "squaring 3" in list(future.job.logs(0)))
        assert ck.BatchJob(future.job.job_id, cloud=knot._cloud).result(300) == [9, 16]
        waiting = knot.map(range(50), memory=200)
        assert waiting.cancel()
        future.job.clobber()

    def test_who_may_create_makes_a_knot_and_removes_it(self, users, owner):
        cloud = users.holding(documents("create"))
        knot = ck.Knot(name="own", func=square, cloud=cloud, volume_size=50, aws_resource_tags={"Lab": "7"})
        assert knot.map([5]).result(300) == [25]
        changed = ck.Knot(name="own", func=cube, cloud=cloud, volume_size=50, max_vcpus=4)
        assert changed.map([2]).result(300) == [8]
        changed.clobber()
        with pytest.raises(ck.ResourceDoesNotExistException):
            ck.Knot(name="own", cloud=owner)

    def test_who_may_create_makes_and_removes_a_network(self, users):
        cloud = users.holding(documents("create"))
        pars = ck.Pars("wide", use_default_vpc=False, batch_service_role_name="batchy", cloud=cloud)
        assert len(pars.subnets) == 2
        pars.clobber()

    def test_who_may_administer_removes_what_all_share(self, users):
        cloud = users.holding(documents("administer"))
        pars = ck.Pars("gone", cloud=cloud)
        knot = ck.Knot(name="gone", func=square, pars=pars, repo_name="cloudknot", cloud=cloud)
        knot.clobber(clobber_pars=True, clobber_image=True)
        assert knot.clobbered


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

        from cloudknot.aws.signing import AccessKey, sign

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
