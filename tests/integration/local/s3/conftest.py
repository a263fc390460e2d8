"""Fixtures for tests of S3: clients of the embedded cloud, and buckets of their own."""

import secrets

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError


def client_of(cloud, endpoint_url="", region="us-east-1", **choices):
    """Return boto3's client of a cloud's S3, without the checks that cloudknot adds to its own clients."""
    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}, **choices)
    key = cloud.door.session().get_credentials()
    session = boto3.Session(key.access_key, key.secret_key, region_name=region)
    return session.client("s3", endpoint_url=endpoint_url or cloud.endpoint_url, config=config)


@pytest.fixture(scope="module", params=["when_required", "when_supported"])
def s3(embedded, request):
    """Return a client without checksums, and one with them."""
    return client_of(embedded, request_checksum_calculation=request.param, response_checksum_validation=request.param)


@pytest.fixture(scope="module")
def plain(embedded):
    """Return a client."""
    return client_of(embedded)


@pytest.fixture(scope="module")
def bucket(plain):
    """Return the name of a new bucket."""
    return new_bucket(plain)


@pytest.fixture(scope="module")
def versioned(plain):
    """Return the name of a new bucket that keeps versions."""
    name = new_bucket(plain)
    plain.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def new_bucket(client):
    """Create a bucket, and return its name."""
    name = f"bucket-{secrets.token_hex(6)}"
    client.create_bucket(Bucket=name)
    return name


def code(call, *arguments, **choices):
    """Return the code of the error that a call raises."""
    with pytest.raises(ClientError) as caught:
        call(*arguments, **choices)
    return caught.value.response["Error"]["Code"]
