"""Every operation of S3 on a bucket names the expected owner. No request is sent."""

import pytest
from botocore.awsrequest import AWSResponse
from botocore.session import Session

from cloudknot.worker.s3.owners import HEADER, SOURCE_HEADER, BucketOwners

OWN, OTHER = "123456789012", "999988887777"
WITHOUT_OWNER = {"CreateBucket", "CreateSession", "RenameObject"}
"""Operations on a bucket that do not accept an expected owner. The last two are for directory buckets."""


class Body:
    """The body of an answer, a document without content."""

    def stream(self):
        yield b"<Document/>"


@pytest.fixture
def session():
    session = Session()
    session.set_credentials("AKIAIOSFODNN7EXAMPLE", "secret")
    return session


@pytest.fixture
def owners():
    owners = BucketOwners(lambda: OWN)
    owners.name("theirs", OTHER)
    return owners


@pytest.fixture
def sent(session, owners):
    """Return a guarded client, and the list of its requests. Each is answered with status 200."""
    client = session.create_client("s3", region_name="eu-west-1")
    owners.guard(client)
    requests = []

    def answer(request, **_):
        requests.append(request)
        return AWSResponse(request.url, 200, {}, Body())

    client.meta.events.register("before-send.s3", answer)
    return client, requests


def test_every_operation_on_bucket_accepts_expected_owner(session):
    model = session.get_service_model("s3")
    inputs = {name: model.operation_model(name).input_shape for name in model.operation_names}
    on_bucket = {name: shape.members for name, shape in inputs.items() if shape and "Bucket" in shape.members}
    assert len(on_bucket) > 90
    assert {name for name, members in on_bucket.items() if "ExpectedBucketOwner" not in members} == WITHOUT_OWNER


@pytest.mark.parametrize(("bucket", "owner"), [("ours", OWN), ("theirs", OTHER)])
def test_request_has_header_with_owner_of_its_bucket(sent, bucket, owner):
    client, requests = sent
    client.head_object(Bucket=bucket, Key="k")
    client.head_bucket(Bucket=bucket)
    client.delete_object(Bucket=bucket, Key="k")
    assert [request.headers[HEADER].decode() for request in requests] == [owner] * 3
    for request in requests:
        assert HEADER in request.headers["Authorization"].decode(), "the signature covers it"


@pytest.mark.parametrize("source", ["theirs/a/b", {"Bucket": "theirs", "Key": "a/b"}])
def test_copy_names_owners_of_source_and_target(sent, source):
    client, requests = sent
    client.copy_object(Bucket="ours", Key="k", CopySource=source)
    (request,) = requests
    assert request.headers[HEADER].decode() == OWN
    assert request.headers[SOURCE_HEADER].decode() == OTHER


def test_account_is_found_once_and_only_if_needed():
    calls = []
    owners = BucketOwners(lambda: calls.append(1) or OWN)
    owners.name("theirs", OTHER)
    assert owners.of("theirs") == OTHER
    assert calls == []
    assert [owners.of("a"), owners.of("b")] == [OWN, OWN]
    assert calls == [1]
    learned = BucketOwners(lambda: pytest.fail("the account is known"))
    learned.learn(OWN)
    assert learned.of("a") == OWN
