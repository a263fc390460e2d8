"""`Cloud` takes its endpoint from AWS's variables and profiles. The embedded cloud answers at that endpoint."""

import pytest

from cloudknot.aws import Cloud
from cloudknot.aws.batch import LogStream
from cloudknot.aws.images.ecr import Repository

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


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("eu-west-1", "eu-west-1.console.aws.amazon.com"),
        ("us-gov-west-1", "console.amazonaws-us-gov.com"),
        ("us-gov-east-1", "console.amazonaws-us-gov.com"),
        ("cn-north-1", "console.amazonaws.cn"),
        ("cn-northwest-1", "console.amazonaws.cn"),
        ("eusc-de-east-1", "console.amazonaws-eusc.eu"),
        ("us-iso-east-1", "console.c2s.ic.gov"),
    ],
)
def test_addresses_of_logs_lead_to_console_of_partition(region, host):
    url = Cloud(region).log_url(LogStream("/cloudknot/pi", "pi/default/1a"))
    assert url.startswith(f"https://{host}/cloudwatch/home?region={region}#logsV2:log-groups/log-group/$252Fcloudknot")


@pytest.mark.parametrize(
    ("images", "present"), [([], False), ([{"imageDigest": "sha256:1", "imageTags": ["a"]}], True)]
)
def test_repository_has_tag_only_if_answer_has_image(images, present):
    class Answering:
        """A registry that answers every call with the same images."""

        def call(self, service, operation, **arguments):
            return {"imageDetails": images}

    assert Repository("cloudknot", cloud=Answering()).has_tag("a") is present
