"""Jobs get the credentials of their role, and only these, from an endpoint like that of ECS.

The embedded cloud evaluates the role's policies for each request.
"""

import json
import os
import stat
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.exceptions import ClientError

import cloudknot as ck
from tests.helpers.waiting import LONG


def credentials_of_this_job(_):
    """Return the credentials that botocore finds in this job, and the job's environment."""
    import boto3

    session = boto3.Session()
    credentials = session.get_credentials()
    return {
        "method": credentials.method,
        "identity": session.client("sts").get_caller_identity()["Arn"],
        "environment": dict(os.environ),
        "process": open("/proc/self/environ").read(),
        "secrets": [credentials.secret_key, credentials.token],
    }


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


def own_requests(knot):
    """Return requests to the runs of the knot. The role allows these."""
    bucket, prefix = {"Bucket": knot.cloud.bucket}, f"cloudknot.jobs/{knot.name}/"
    return [
        ("s3", "put_object", {**bucket, "Key": f"{prefix}of-a-job", "Body": b"1"}),
        ("s3", "get_object", {**bucket, "Key": f"{prefix}of-a-job"}),
        ("s3", "list_objects_v2", {**bucket, "Prefix": prefix}),
    ]


def foreign_requests(cloud):
    """Return requests that the role forbids, by the action that each needs."""
    bucket, queue = {"Bucket": cloud.bucket}, {"jobQueue": "any", "jobStatus": "RUNNING"}
    submission = {"jobName": "mine", "jobQueue": "any-cloudknot-job-queue", "jobDefinition": "any"}
    user = {"UserName": "intruder"}
    return {
        "s3:GetObject": ("s3", "get_object", {"Bucket": "somebody-elses", "Key": "secret"}),
        "s3:PutObject": ("s3", "put_object", {**bucket, "Key": "elsewhere", "Body": b""}),
        "s3:DeleteObject": ("s3", "delete_object", {**bucket, "Key": "cloudknot.jobs/of-a-job"}),
        "s3:ListBucket": ("s3", "list_objects_v2", {**bucket, "Prefix": ""}),
        "s3:ListAllMyBuckets": ("s3", "list_buckets", {}),
        "batch:SubmitJob": ("batch", "submit_job", submission),
        "batch:ListJobs": ("batch", "list_jobs", queue),
        "batch:DescribeJobs": ("batch", "describe_jobs", {"jobs": ["x"]}),
        "iam:CreateUser": ("iam", "create_user", user),
        "iam:ListRoles": ("iam", "list_roles", {}),
        "ec2:DescribeVpcs": ("ec2", "describe_vpcs", {}),
        "ecr:DescribeRepositories": ("ecr", "describe_repositories", {"repositoryNames": ["cloudknot"]}),
        "cloudformation:DescribeStacks": ("cloudformation", "describe_stacks", {"StackName": "x-cloudknot"}),
        "logs:GetLogEvents": ("logs", "get_log_events", {"logGroupName": "/aws/batch/job", "logStreamName": "x"}),
    }


@pytest.mark.contract
def test_job_has_credentials_of_its_role_only(place, knot_of):
    knot = knot_of(credentials_of_this_job)
    (shown,) = knot.map([0]).result(300)
    assert shown["method"] == "container-role"
    assert f":assumed-role/{knot.name}-cloudknot-JobRole" in shown["identity"]
    assert not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} & shown["environment"].keys()
    owners = place.cloud.environment()["AWS_SECRET_ACCESS_KEY"]
    for secret in (owners, *shown["secrets"]):
        assert secret not in shown["process"]
        assert secret not in str(shown["environment"])


def test_job_can_access_runs_and_nothing_else(place, knot_of):
    place.cloud.client("s3").create_bucket(Bucket="somebody-elses")
    place.cloud.client("s3").put_object(Bucket="somebody-elses", Key="secret", Body=b"secret")
    knot = knot_of(attempt)
    own, foreign = own_requests(knot), foreign_requests(place.cloud)
    outcomes = knot.map([*own, *foreign.values()], chunksize=100).result(300)
    assert outcomes[: len(own)] == [("allowed", "")] * len(own)
    for action, (code, message) in zip(foreign, outcomes[len(own) :], strict=True):
        assert code in ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation"), action
        assert f"assumed-role/{knot.name}-cloudknot-JobRole" in message
        assert f"is not authorized to perform: {action}" in message
        assert f"no identity-based policy allows the {action} action" in message


def test_job_gets_access_denied_for_missing_key(place, knot_of):
    knot = knot_of(attempt)
    missing = ("s3", "get_object", {"Bucket": place.cloud.bucket, "Key": f"cloudknot.jobs/{knot.name}/not-there"})
    ((code, message),) = knot.map([missing]).result(300)
    # S3 reports a missing key only to callers that may list the whole bucket. The role may list one prefix only.
    assert code == "AccessDenied"
    assert "s3:ListBucket" in message


def test_job_has_policies_of_its_pars(cloud):
    cloud.client("s3").create_bucket(Bucket="of-the-lab")
    requests = [
        ("s3", "put_object", {"Bucket": "of-the-lab", "Key": "k", "Body": b"1"}),
        ("s3", "get_object", {"Bucket": "of-the-lab", "Key": "not-there"}),
        ("batch", "describe_jobs", {"jobs": ["x"]}),
    ]
    pars = ck.Pars("lab", policies=("AmazonS3FullAccess",), cloud=cloud)
    outcomes = ck.Knot(name="of-the-lab", func=attempt, pars=pars, cloud=cloud).map(requests, chunksize=3).result(300)
    assert [code for code, _ in outcomes] == ["allowed", "NoSuchKey", "AccessDeniedException"]


def address_and_token(variables):
    """Return the address of the credentials endpoint and the path of the file with its token."""
    names = ("CREDENTIALS_FULL_URI", "AUTHORIZATION_TOKEN_FILE")
    return [variables[f"AWS_CONTAINER_{name}"] for name in names]


class TestEndpoint:
    """The endpoint that gives jobs their credentials."""

    @pytest.fixture
    def variables(self, cloud):
        (shown,) = ck.Knot(name="shows", func=credentials_of_this_job, cloud=cloud).map([0]).result(300)
        return shown["environment"]

    def get(self, uri, **headers):
        """Return the status and the body of a GET request."""
        parts = urlsplit(uri)
        connection = HTTPConnection(parts.netloc, timeout=LONG)
        connection.request("GET", parts.path, headers=headers)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, body

    def test_endpoint_answers_only_requests_with_token(self, variables):
        uri, file = address_and_token(variables)
        assert self.get(uri)[0] == 403
        assert self.get(uri, Authorization="guessed")[0] == 403
        assert self.get(uri + "0", Authorization=Path(file).read_text())[0] == 403
        status, body = self.get(uri, Authorization=Path(file).read_text())
        assert (status, sorted(json.loads(body))) == (
            200,
            ["AccessKeyId", "Expiration", "RoleArn", "SecretAccessKey", "Token"],
        )

    def test_only_owner_can_read_token(self, variables):
        directory = Path(variables["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]).parent
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700

    def test_access_key_of_job_is_refused_without_its_session_token(self, cloud, variables):
        uri, file = address_and_token(variables)
        credentials = json.loads(self.get(uri, Authorization=Path(file).read_text())[1])
        key = {
            "aws_access_key_id": credentials["AccessKeyId"],
            "aws_secret_access_key": credentials["SecretAccessKey"],
        }
        place = {"endpoint_url": cloud.endpoint_url, "region_name": "us-east-1"}
        whole = boto3.client("sts", **place, **key, aws_session_token=credentials["Token"])
        assert ":assumed-role/" in whole.get_caller_identity()["Arn"]
        with pytest.raises(ClientError) as caught:
            boto3.client("sts", **place, **key).get_caller_identity()
        assert caught.value.response["Error"]["Code"] == "InvalidClientTokenId"
