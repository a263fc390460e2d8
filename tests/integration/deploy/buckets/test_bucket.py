"""cloudknot makes, reuses or refuses the bucket of inputs and results, on the embedded cloud and with fake doors."""

import json
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

import cloudknot as ck
from cloudknot.aws import Cloud
from cloudknot.aws.s3.bucket import Bucket
from cloudknot.errors import PermissionDeniedError, ResourceExistsException
from cloudknot.worker.wire.manifest import Manifest

TAGS = {"Owner": "ada", "Environment": "cloudknot", "Name": "a-knot", "Grant": "42"}


class Recorder:
    """A door that records its operations and raises ``KeyboardInterrupt`` before one of them."""

    def __init__(self, door, stop_before=None):
        self._door, self._stop_before = door, stop_before
        self.calls = []

    def session(self):
        return self._door.session()

    def call(self, service, operation, **arguments):
        if operation == self._stop_before:
            raise KeyboardInterrupt
        self.calls.append(operation)
        return self._door.call(service, operation, **arguments)


@pytest.fixture
def s3(cloud):
    return cloud.client("s3")


def assert_bucket_is_set_up(s3, name, sse="AES256"):
    blocked = s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"]
    assert set(blocked.values()) == {True}
    rule = s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == sse
    uploads, builds = s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    assert uploads["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert (builds["Filter"], builds["Expiration"]) == ({"Prefix": "cloudknot.builds/"}, {"Days": 1})
    (statement,) = json.loads(s3.get_bucket_policy(Bucket=name)["Policy"])["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert statement["Resource"] == [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"]


def test_new_bucket_is_private_encrypted_and_tagged(cloud, s3):
    Bucket(cloud.door, "made-by-us", "us-east-1").ensure(TAGS)
    assert_bucket_is_set_up(s3, "made-by-us")
    tags = {tag["Key"]: tag["Value"] for tag in s3.get_bucket_tagging(Bucket="made-by-us")["TagSet"]}
    assert tags == {**TAGS, "Name": "made-by-us", "cloudknot": "bucket"}


def test_new_bucket_is_in_region_of_jobs_with_chosen_encryption(cloud, s3):
    Bucket(cloud.door, "made-in-ireland", "eu-west-1", sse="aws:kms").ensure(TAGS)
    assert s3.get_bucket_location(Bucket="made-in-ireland")["LocationConstraint"] == "eu-west-1"
    assert_bucket_is_set_up(s3, "made-in-ireland", "aws:kms")


@pytest.mark.parametrize("has_default_name", [True, False], ids=["default-name", "chosen-name"])
@pytest.mark.parametrize(
    "step",
    [
        "put_public_access_block",
        "put_bucket_encryption",
        "put_bucket_policy",
        "put_bucket_lifecycle_configuration",
    ],
)
def test_next_session_finishes_bucket_of_interrupted_session(cloud, s3, step, has_default_name):
    name = f"broken-{has_default_name}-{step.replace('_', '-')}".lower()[:63]
    with pytest.raises(KeyboardInterrupt):
        Bucket(Recorder(cloud.door, step), name, "us-east-1", has_default_name=has_default_name).ensure(TAGS)
    Bucket(cloud.door, name, "us-east-1", has_default_name=has_default_name).ensure(TAGS)
    assert_bucket_is_set_up(s3, name)
    recorder = Recorder(cloud.door)
    Bucket(recorder, name, "us-east-1", has_default_name=has_default_name).ensure(TAGS)
    assert recorder.calls == ["head_bucket", "get_bucket_tagging"]


def test_untagged_bucket_with_default_name_is_set_up(cloud, s3):
    s3.create_bucket(Bucket="only-created")
    Bucket(cloud.door, "only-created", "us-east-1", has_default_name=True).ensure(TAGS)
    assert_bucket_is_set_up(s3, "only-created")


def test_users_own_bucket_is_not_changed(cloud, s3):
    s3.create_bucket(Bucket="of-the-lab")
    recorder = Recorder(cloud.door)
    Bucket(recorder, "of-the-lab", "us-east-1").ensure(TAGS)
    assert recorder.calls == ["head_bucket", "get_bucket_tagging"]
    with pytest.raises(s3.exceptions.ClientError, match="NoSuchBucketPolicy"):
        s3.get_bucket_policy(Bucket="of-the-lab")


def test_bucket_outside_region_of_jobs_causes_warning(cloud, s3):
    s3.create_bucket(Bucket="far-away", CreateBucketConfiguration={"LocationConstraint": "ap-south-1"})
    with pytest.warns(
        UserWarning,
        match=r"far-away is in ap-south-1, and jobs run in us-east-1\..*costs money.*set_region\('ap-south-1'\)",
    ):
        Bucket(cloud.door, "far-away", "us-east-1").ensure(TAGS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Bucket(cloud.door, "far-away", "ap-south-1").ensure(TAGS)


class FailingDoor:
    """A door to an AWS that answers each operation with a given error."""

    def __init__(self, **errors):
        self._errors = errors

    def call(self, service, operation, **arguments):
        raise self._errors[operation]


def test_bucket_name_of_another_account_is_refused():
    door = FailingDoor(
        head_bucket=ck.ResourceDoesNotExistException("", code="404"),
        create_bucket=ResourceExistsException("", code="BucketAlreadyExists"),
    )
    with pytest.raises(ResourceExistsException, match=r"Another AWS account has a bucket named data.*set_s3_par"):
        Bucket(door, "data", "us-east-1").ensure(TAGS)


def test_error_for_denied_bucket_names_missing_permission():
    door = FailingDoor(head_bucket=PermissionDeniedError("403", code="403", operation="s3:head_bucket"))
    with pytest.raises(
        PermissionDeniedError,
        match=r"do not allow access to the bucket data\..*set_s3_params.*"
        r"account, the permission s3:ListBucket \(for finding results\) is missing",
    ):
        Bucket(door, "data", "us-east-1").ensure(TAGS)


@pytest.mark.parametrize("sse", ["AES256", "aws:kms"])
def test_every_object_of_run_has_chosen_encryption(cloud, s3, sse, tmp_path, monkeypatch):
    monkeypatch.setenv("CLOUDKNOT_CONFIG_FILE", str(tmp_path / "cloudknot"))
    ck.set_s3_params(bucket=f"encrypted-{sse.replace(':', '-').lower()}", sse=sse)
    session = ck.LocalCloud(cloud.directory)
    future = ck.Knot(name="encrypted", func=abs, cloud=session).map([-1, -2])
    assert future.result(120) == [1, 2]
    objects = s3.list_objects_v2(Bucket=session.bucket)["Contents"]
    kinds = {item["Key"].split("/")[3] for item in objects}
    assert kinds >= {"inputs", "manifest.json", "submission.json", "outputs"}
    for item in objects:
        assert s3.head_object(Bucket=session.bucket, Key=item["Key"])["ServerSideEncryption"] == sse


def test_jobs_get_policy_from_bucket_settings(own_cloud, tmp_path, monkeypatch):
    monkeypatch.setenv("CLOUDKNOT_CONFIG_FILE", str(tmp_path / "cloudknot"))
    iam = own_cloud.client("iam")
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}]}
    arn = iam.create_policy(PolicyName="lab-data", PolicyDocument=json.dumps(document))["Policy"]["Arn"]
    ck.set_s3_params(bucket="with-a-policy", policy="lab-data")
    for name, value in {**own_cloud.environment(), "CLOUDKNOT_CLOUD": "local"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CLOUDKNOT_LOCAL_DIR", str(own_cloud.directory))
    assert ck.get_s3_params().policy_arn == arn
    ck.set_s3_params(bucket="with-a-policy", policy="AmazonEC2ContainerServiceforEC2Role")
    path = "service-role/AmazonEC2ContainerServiceforEC2Role"
    assert ck.get_s3_params().policy_arn == f"arn:aws:iam::aws:policy/{path}"
    ck.set_s3_params(bucket="with-a-policy", policy="nobodys")  # A policy that does not exist has no ARN.
    assert ck.get_s3_params()[1:3] == ("nobodys", None)
    ck.set_s3_params(bucket="with-a-policy", policy="lab-data")
    pars = ck.Knot(name="with-policy", func=abs, cloud=ck.LocalCloud(own_cloud.directory)).pars
    (stack,) = own_cloud.client("cloudformation").describe_stacks(StackName=pars.stack_id)["Stacks"]
    parameters = {item["ParameterKey"]: item["ParameterValue"] for item in stack["Parameters"]}
    assert arn in parameters["Policies"].split(",")


def test_knots_with_different_buckets_both_run_maps(cloud, tmp_path, monkeypatch):
    monkeypatch.setenv("CLOUDKNOT_CONFIG_FILE", str(tmp_path / "cloudknot"))
    knots = []
    for number in range(2):
        ck.set_s3_params(bucket=f"of-session-{number}")
        knots.append(ck.Knot(name=f"session-{number}", func=abs, cloud=ck.LocalCloud(cloud.directory)))
    for knot in knots:
        assert knot.map([-3]).result(120) == [3]


def test_concurrent_sessions_all_get_bucket(cloud, s3):
    with ThreadPoolExecutor(4) as pool:
        doors = [ck.LocalCloud(cloud.directory).door for _ in range(4)]
        futures = [pool.submit(Bucket(door, "made-at-once", "us-east-1").ensure, TAGS) for door in doors]
        for future in futures:
            future.result(120)
    assert_bucket_is_set_up(s3, "made-at-once")
    tags = {tag["Key"]: tag["Value"] for tag in s3.get_bucket_tagging(Bucket="made-at-once")["TagSet"]}
    assert tags == {**TAGS, "Name": "made-at-once", "cloudknot": "bucket"}


def test_reading_bucket_name_creates_no_bucket(cloud, s3):
    storage = Cloud("us-east-1", endpoint_url=cloud.endpoint_url, bucket="only-asked").storage
    assert storage.bucket == "only-asked"
    assert "only-asked" not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]


def test_manifest_of_earlier_version_has_no_encryption():
    assert Manifest.from_document(b'{"attempts": 1, "chunksize": 1, "count": 1, "version": 1}', "key").sse is None
