"""`Cloud` takes its endpoint from AWS's variables and profiles. The embedded cloud answers at that endpoint."""

import pytest

from cloudknot.aws import Cloud

# Nothing listens on port 9: a call there fails.
ELSEWHERE = "http://127.0.0.1:9"


@pytest.fixture
def account(cloud, monkeypatch):
    """Put the embedded cloud's keys into AWS's variables, without an endpoint, and return the cloud."""
    for name, value in cloud.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    return cloud


def test_endpoint_argument_overrides_environment(account, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", ELSEWHERE)
    assert Cloud(endpoint_url=account.endpoint_url).account == account.account


def test_cloud_calls_endpoint_in_environment(account, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", account.endpoint_url)
    cloud = Cloud(bucket="by-the-environment")
    assert cloud.account == account.account
    cloud.storage.ensure_bucket({})
    cloud.storage.put("a/key", b"content")
    assert cloud.storage.get("a/key") == b"content"


def test_cloud_calls_endpoint_of_single_service(account, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", ELSEWHERE)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", account.endpoint_url)
    cloud = Cloud()
    assert cloud.account == account.account
    assert cloud.client("batch").meta.endpoint_url == ELSEWHERE


def test_cloud_calls_endpoint_of_its_profile(account, monkeypatch, tmp_path):
    config = tmp_path / "config"
    config.write_text(f"[profile here]\nregion = us-east-1\nendpoint_url = {account.endpoint_url}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    keys = {name: value for name, value in account.environment().items() if "KEY" in name}
    lines = (f"{name.lower()} = {value}\n" for name, value in keys.items())
    (tmp_path / "credentials").write_text("[here]\n" + "".join(lines))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name in keys:
        monkeypatch.delenv(name)
    cloud = Cloud(profile="here", bucket="by-the-profile")
    assert cloud.account == account.account
    cloud.storage.ensure_bucket({})
    cloud.storage.put("key", b"content")
    assert cloud.storage.get("key") == b"content"


def test_cloud_calls_aws_without_endpoint(account):
    cloud = Cloud("eu-west-1")
    assert cloud.client("s3").meta.endpoint_url == "https://s3.eu-west-1.amazonaws.com"
    assert cloud.client("batch").meta.endpoint_url == "https://batch.eu-west-1.amazonaws.com"
    assert cloud.client("s3").meta.config.s3 is None
