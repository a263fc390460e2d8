"""Calls with expired credentials raise `CredentialsError`. botocore has no error class for a failed refresh.

The expiry comes from AWS's environment variable or from a fake refresh function.
"""

from datetime import UTC, datetime, timedelta

import pytest
from botocore.credentials import RefreshableCredentials

from cloudknot.aws.door import Door
from cloudknot.errors import CredentialsError
from cloudknot.local.directory.state import read_state
from cloudknot.worker.s3.plain_requests import PlainRequests
from cloudknot.worker.s3.server import server_of_client


@pytest.fixture
def expire_at(cloud, monkeypatch):
    """Return a function that writes credentials with an expiry time into the environment, as login tools do."""

    def write(moment):
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", moment.isoformat())

    return write


def test_expired_credentials_raise_credentials_error_until_renewed(cloud, expire_at):
    expire_at(datetime.now(UTC) - timedelta(hours=1))
    door = Door({"region_name": cloud.region}, read_state(cloud.directory).endpoint)
    with pytest.raises(CredentialsError, match="still expired"):
        door.call("s3", "list_buckets")
    with pytest.raises(CredentialsError, match="still expired"):
        door.call_once("batch", "describe_job_queues")
    assert door.read_quickly("bucket", "key", {}) is None
    expire_at(datetime.now(UTC) + timedelta(hours=1))
    assert door.call("s3", "list_buckets")["Buckets"] is not None


def failing_refresh():
    raise ConnectionError("the agent is restarted")


def expired_refresh():
    return {"access_key": "a", "secret_key": "b", "token": "c", "expiry_time": "2020-01-01T00:00:00Z"}


@pytest.mark.parametrize("refresh", [failing_refresh, expired_refresh])
def test_plain_request_of_worker_returns_false_without_new_credentials(cloud, refresh):
    # botocore refreshes credentials that expire within ten minutes.
    soon = datetime.now(UTC) + timedelta(minutes=5)

    class Session:
        def get_credentials(self):
            return RefreshableCredentials("a", "b", "c", soon, refresh, "test")

    assert not PlainRequests(server_of_client(Session(), cloud.client("s3")), "test", cloud.door.owners).put(
        cloud.bucket, "key", [b"body"], {}
    )
