"""Settings come from argument, session, environment, config file or default, in this order, and setters check them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cloudknot.aws import settings
from cloudknot.aws.sdk.settings import profiles
from cloudknot.errors import CloudknotConfigurationError, CloudknotInputError, ProfileException, RegionException
from cloudknot.options import config

VARIABLES = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "CLOUDKNOT_CLOUD",
)

EXISTING_FILE = """\
# mine
[aws]
configured = True
region = eu-west-1
# the lab's account
profile = lab
ecr-repo = pictures

[docker-repos]
x = y
"""

AWS_CONFIG = """\
[default]
region = us-west-2
s3 =
    max_concurrent_requests = 20
[profile lab]
region = eu-central-1
[profile sso]
sso_session = there
[sso-session there]
sso_region = us-east-1
"""


@pytest.fixture(autouse=True)
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of a config file that does not exist yet, beside AWS files with some profiles."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "aws_config").write_text(AWS_CONFIG)
    (tmp_path / "credentials").write_text("[default]\naws_access_key_id = A\n[old]\naws_access_key_id = B\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws_config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("CLOUDKNOT_CONFIG_FILE", str(tmp_path / "created" / "cloudknot"))
    return tmp_path / "created" / "cloudknot"


@pytest.fixture
def existing_config_file(config_file: Path) -> Path:
    config_file.parent.mkdir()
    config_file.write_text(EXISTING_FILE)
    return config_file


def test_settings_have_defaults() -> None:
    assert profiles.profile() is None
    assert profiles.region(None, "sso").value == "us-east-1"
    assert config.endpoint_url() is None
    assert config.bucket() is None
    assert config.ecr_repo() == "cloudknot"
    assert config.cloud().value == "aws"


def test_getters_create_no_config_file(config_file: Path) -> None:
    settings.get_profile()
    settings.get_region()
    settings.get_ecr_repo()
    assert not config_file.parent.exists()


def test_settings_come_from_existing_config_file(existing_config_file: Path) -> None:
    assert profiles.profile() == "lab"
    assert profiles.region().value == "eu-west-1"
    assert config.ecr_repo() == "pictures"


def test_environment_overrides_config_file(existing_config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "sso")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "sa-east-1")
    assert (profiles.profile(), profiles.region().value) == ("sso", "sa-east-1")


def test_access_keys_in_environment_override_profile_in_config_file(
    existing_config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "A")
    assert profiles.profile() is None
    assert settings.get_profile() == "from-env"


def test_argument_overrides_all_other_sources(existing_config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "sa-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    settings.set_region("us-west-1")
    assert profiles.region("eu-north-1").value == "eu-north-1"
    assert config.endpoint_url("http://127.0.0.1:2") == "http://127.0.0.1:2"


def test_setter_overrides_environment_immediately(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "sa-east-1")
    settings.set_region("us-west-1")
    assert settings.get_region() == "us-west-1"


def test_setter_saves_its_value_for_later_sessions() -> None:
    settings.set_region("ap-south-1")
    settings.set_ecr_repo("lab/pictures")
    code = "from cloudknot.aws import settings as s; print(s.get_region(), s.get_ecr_repo())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["ap-south-1", "lab/pictures"]


def test_region_comes_from_aws_profile_by_default() -> None:
    assert profiles.region(None, "lab").value == "eu-central-1"
    assert profiles.region(None, None).value == "us-west-2"


def test_ignore_variable_disables_endpoint_url_of_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert config.endpoint_url() == "http://127.0.0.1:1"
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert config.endpoint_url() is None


def test_cloud_setting_refuses_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDKNOT_CLOUD", "local")
    assert config.cloud().value == "local"
    assert config.cloud("aws").value == "aws"
    with pytest.raises(CloudknotInputError, match=r"^cloud='gcp' is not 'aws', 'local' or"):
        config.cloud("gcp")
    monkeypatch.setenv("CLOUDKNOT_CLOUD", "azure")
    with pytest.raises(CloudknotConfigurationError, match=r"CLOUDKNOT_CLOUD is 'azure'.* Set "):
        config.cloud()


def test_list_profiles_returns_names_and_paths_of_both_files(tmp_path: Path) -> None:
    names, credentials_file, aws_config_file = settings.list_profiles()
    assert names == ["default", "lab", "sso", "old"]
    assert credentials_file == str(tmp_path / "credentials")
    assert aws_config_file == str(tmp_path / "aws_config")


def test_set_profile_refuses_unknown_name_with_near_matches() -> None:
    with pytest.raises(ProfileException, match="Near matches: lab"):
        settings.set_profile("labs")
    assert settings.get_profile() == "default"
    settings.set_profile("old")
    assert settings.get_profile() == "old"
    settings.set_profile("from-env")
    assert profiles.profile() is None


def test_set_region_refuses_unknown_name_with_near_matches(config_file: Path) -> None:
    with pytest.raises(RegionException, match="eu-west-1"):
        settings.set_region("eu-wset-1")
    assert not config_file.exists()


def test_set_s3_params_replaces_all_parameters() -> None:
    settings.set_s3_params("my-results", policy="arn:aws:iam::123456789012:policy/mine", sse="aws:kms")
    arn = "arn:aws:iam::123456789012:policy/mine"
    assert settings.get_s3_params() == ("my-results", arn, arn, "aws:kms")
    settings.set_s3_params("my-results")
    assert settings.get_s3_params() == ("my-results", None, None, None)


@pytest.mark.parametrize("bucket", ["ab", "Upper", "under_score", "-edge", "x" * 64, None, 7])
def test_set_s3_params_refuses_invalid_bucket_name(bucket: object) -> None:
    with pytest.raises(
        CloudknotInputError, match=r"^bucket=.* is not the name of an S3 bucket\. .*Pass for example bucket='"
    ):
        settings.set_s3_params(bucket)  # type: ignore[arg-type]


def test_set_s3_params_refuses_unknown_encryption() -> None:
    with pytest.raises(CloudknotInputError, match=r"^sse='DES' is not None, 'AES256' or 'aws:kms'\. Pass"):
        settings.set_s3_params("my-results", sse="DES")


@pytest.mark.parametrize("repo", ["X", "a", "a//b", "a_", "a" * 257])
def test_set_ecr_repo_refuses_invalid_name(repo: str) -> None:
    with pytest.raises(
        CloudknotInputError, match=r"^repo=.* is not the name of an image repository .*Pass for example repo='"
    ):
        settings.set_ecr_repo(repo)


def test_save_keeps_rest_of_config_file(existing_config_file: Path) -> None:
    config.save({"region": "eu-west-2", "s3-bucket": "my-results", "profile": None})
    assert existing_config_file.read_text() == (
        "# mine\n[aws]\nconfigured = True\n# the lab's account\necr-repo = pictures\nregion = eu-west-2\n"
        "s3-bucket = my-results\n\n[docker-repos]\nx = y\n"
    )


def test_setter_writes_through_symbolic_link(config_file: Path, tmp_path: Path) -> None:
    config_file.parent.mkdir()
    (tmp_path / "dotfiles").write_text("[other]\na = 1\n")
    config_file.symlink_to(tmp_path / "dotfiles")
    settings.set_ecr_repo("pictures")
    assert config_file.is_symlink()
    assert "ecr-repo = pictures" in (tmp_path / "dotfiles").read_text()


def test_concurrent_writers_lose_no_setting(config_file: Path) -> None:
    code = "import sys; from cloudknot.options import config\n"
    code += "for n in range(10): config.save({f'{sys.argv[1]}{n}': 'v'})"
    writers = [subprocess.Popen([sys.executable, "-c", code, name]) for name in "abcd"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0, 0]
    assert {f"{name}{n} = v" for name in "abcd" for n in range(10)} <= set(config_file.read_text().splitlines())
    assert sorted(os.listdir(config_file.parent)) == ["cloudknot", "cloudknot.lock"]


def test_error_names_config_file_that_is_not_ini(config_file: Path) -> None:
    config_file.parent.mkdir()
    config_file.write_text("region = x\n")
    with pytest.raises(CloudknotConfigurationError, match=str(config_file)):
        profiles.region()
    with pytest.raises(CloudknotConfigurationError, match=str(config_file)):
        settings.set_ecr_repo("pictures")
    assert config_file.read_text() == "region = x\n"


def test_error_names_config_file_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDKNOT_CONFIG_FILE", "/dev/null/cloudknot")
    with pytest.raises(CloudknotConfigurationError, match="/dev/null/cloudknot"):
        settings.set_ecr_repo("pictures")


@pytest.mark.parametrize("policy", ["", "a b", "lab\nname = x", "arn:aws:s3:::bucket"])
def test_set_s3_params_refuses_invalid_policy_name(policy: str, config_file: Path) -> None:
    with pytest.raises(CloudknotInputError, match=r"(?s)^policy=.* is not the name or ARN of an IAM policy\. Pass"):
        settings.set_s3_params("my-bucket", policy=policy)
    assert not config_file.exists()
