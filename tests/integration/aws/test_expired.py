"""Credentials that have expired and that were renewed in vain, which botocore has no error of its own for."""

from datetime import UTC, datetime, timedelta

import pytest
from botocore.credentials import RefreshableCredentials

from cloudknot.aws.door import Door
from cloudknot.errors import CredentialsError
from cloudknot.local.state import read_state
from cloudknot.worker.s3.plain_requests import PlainRequests


@pytest.fixture
def environment(cloud, monkeypatch):
    """As a tool leaves it that writes credentials into the environment, with the time until which they are good."""

    def until(moment):
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", moment.isoformat())

    return until


def test_they_are_an_error_of_credentials_until_they_are_renewed(cloud, environment):
    environment(datetime.now(UTC) - timedelta(hours=1))
    door = Door({"region_name": cloud.region}, read_state(cloud.directory).endpoint)
    with pytest.raises(CredentialsError, match="still expired"):
        door.call("s3", "list_buckets")
    with pytest.raises(CredentialsError, match="still expired"):
        door.call_once("batch", "describe_job_queues")
    assert door.read_quickly("bucket", "key", {}) is None
    environment(datetime.now(UTC) + timedelta(hours=1))
    assert door.call("s3", "list_buckets")["Buckets"] is not None


def fails():
    raise ConnectionError("the agent is restarted")


def expired():
    return {"access_key": "a", "secret_key": "b", "token": "c", "expiry_time": "2020-01-01T00:00:00Z"}


@pytest.mark.parametrize("refresh", [fails, expired])
def test_the_worker_leaves_them_to_the_request_that_is_made_again(cloud, refresh):
    soon = datetime.now(UTC) + timedelta(minutes=5)

    class Session:
        def get_credentials(self):
            return RefreshableCredentials("a", "b", "c", soon, refresh, "test")

    assert not PlainRequests(Session(), cloud.client("s3"), "test").put(cloud.bucket, "key", b"body", {})
