"""Region, profiles and credentials of a session are those of boto3, whatever AWS's files and variables hold."""

from __future__ import annotations

import os
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import BotoCoreError
from hypothesis import given
from hypothesis import strategies as st

import cloudknot as ck
from cloudknot.aws import settings

REGIONS = ("eu-west-1", "eu-central-1", "ap-south-1")
KEY = "aws_access_key_id = {0}\naws_secret_access_key = secret-{0}\n"
VARIABLES = (
    *("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_DEFAULT_REGION", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
)
PROFILES = ("default", "lab", "my lab", "process", "role", "sso")
SECTIONS = {
    "default": ("[default]", "[profile default]", "[profile 'default']"),
    "lab": ("[profile lab]", "[profile  lab]", "[profile 'lab']", "[lab]"),
    "my lab": ('[profile "my lab"]', "[profile 'my lab']", "[profile my lab]", "[my lab]"),
    "process": ("[profile process]",),
    "role": ("[profile role]",),
    "sso": ("[profile sso]",),
}
"""The heads of a profile's section in the config file: right ones, and others that AWS's tools ignore."""
SOURCES = {
    "process": 'credential_process = echo \'{"Version": 1, "AccessKeyId": "P", "SecretAccessKey": "s"}\'\n',
    "role": "role_arn = arn:aws:iam::123456789012:role/r\nsource_profile = default\n",
    "sso": "sso_session = here\nsso_account_id = 123456789012\nsso_role_name = r\n",
}
SSO = "[sso-session here]\nsso_region = us-east-1\nsso_start_url = https://x.awsapps.com/start\n"


@st.composite
def config_files(draw: st.DrawFn) -> str:
    """Draw a config file with some profiles, of which some have a region and some a way to credentials."""
    text = SSO
    for name in draw(st.permutations(PROFILES)):
        if not draw(st.booleans()):
            continue
        region = draw(st.sampled_from(["", *(f"region = {region}\n" for region in REGIONS), "region=sa-east-1 \n"]))
        nested = draw(st.sampled_from(["", "s3 =\n    max_queue_size = 9\n"]))
        key = KEY.format(f"C{PROFILES.index(name)}") if draw(st.booleans()) else SOURCES.get(name, "")
        text += f"{draw(st.sampled_from(SECTIONS[name]))}\n{region}{nested}{key}"
    return text


@st.composite
def credentials_files(draw: st.DrawFn) -> str:
    """Draw a credentials file with some profiles, of which some have a region."""
    text = ""
    for name in draw(st.permutations(PROFILES[:3])):
        if draw(st.booleans()):
            region = draw(st.sampled_from(["", "", "region = ca-central-1\n"]))
            text += f"[{name}]\n{region}{KEY.format(f'K{PROFILES.index(name)}')}"
    return text


environments = st.fixed_dictionaries(
    {},
    optional={
        "AWS_PROFILE": st.sampled_from([*PROFILES, "unknown"]),
        "AWS_DEFAULT_PROFILE": st.sampled_from(PROFILES),
        "AWS_DEFAULT_REGION": st.sampled_from(REGIONS),
        "AWS_ACCESS_KEY_ID": st.just("E"),
        "AWS_SECRET_ACCESS_KEY": st.just("secret-E"),
    },
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home directory, of which cloudknot's own config file stays empty."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    return tmp_path


def facts_of_boto3() -> object:
    """Return region, profiles and credentials in boto3; the name of the error if it refuses."""
    try:
        session = boto3.Session()
        return session.region_name or "us-east-1", session.available_profiles, _credentials(session._session)
    except BotoCoreError as error:
        return type(error).__name__


def facts_of_cloudknot() -> object:
    """Return the same facts in cloudknot."""
    try:
        session = ck.Cloud().door.session()
        return settings.get_region(), settings.list_profiles().profile_names, _credentials(session)
    except ck.ProfileException:
        return "ProfileNotFound"
    except BotoCoreError as error:
        return type(error).__name__


def _credentials(session: object) -> object:
    """Return the method and the key; only the method where a key would need a call."""
    found = session.get_credentials()  # type: ignore[attr-defined]
    if found is None or found.method in ("assume-role", "sso"):
        return found and found.method
    return found.method, found.get_frozen_credentials()


@given(config_files(), credentials_files(), environments)
def test_session_has_region_profiles_and_credentials_of_boto3(
    home: Path, config: str, credentials: str, environment: dict[str, str]
) -> None:
    (home / ".aws" / "config").write_text(config)
    (home / ".aws" / "credentials").write_text(credentials)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        assert facts_of_cloudknot() == facts_of_boto3()


@pytest.mark.parametrize("section", ["[profile default]", "[default]"])
def test_region_of_default_profile_counts_in_each_spelling(home: Path, section: str) -> None:
    (home / ".aws" / "config").write_text(f"{section}\nregion = eu-west-1\n")
    assert (ck.get_region(), boto3.Session().region_name) == ("eu-west-1", "eu-west-1")


def test_region_in_credentials_file_counts(home: Path) -> None:
    (home / ".aws" / "credentials").write_text(f"[default]\nregion = eu-west-1\n{KEY.format('A')}")
    assert (ck.get_region(), boto3.Session().region_name) == ("eu-west-1", "eu-west-1")


def test_paths_of_files_may_have_tilde_and_variable(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "settings").write_text("[profile lab]\nregion = eu-west-1\n")
    monkeypatch.setenv("FOLDER", str(home))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    for path in ("~/settings", "$FOLDER/settings"):
        monkeypatch.setenv("AWS_CONFIG_FILE", path)
        assert (ck.get_region(), boto3.Session().region_name) == ("eu-west-1", "eu-west-1")
        assert ck.list_profiles().aws_config_file == str(home / "settings")  # type: ignore[attr-defined]


def test_aws_region_goes_before_aws_default_region_as_in_command_line(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert ck.get_region() == "eu-central-1"
    assert ck.Cloud().place == "the AWS region eu-central-1 (AWS by cloud=, the region by AWS_REGION)"


def test_keys_in_environment_go_before_profile_in_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".aws" / "credentials").write_text(f"[lab]\n{KEY.format('A')}")
    for name, value in {"AWS_PROFILE": "lab", "AWS_ACCESS_KEY_ID": "E", "AWS_SECRET_ACCESS_KEY": "e"}.items():
        monkeypatch.setenv(name, value)
    assert facts_of_cloudknot() == facts_of_boto3()
    assert ck.Cloud().door.session().get_credentials().access_key == "E"
    # A profile that is named in Python goes before the environment, as in boto3.
    assert ck.Cloud(profile="lab").door.session().get_credentials().access_key == "A"


def test_unknown_profile_of_environment_is_named_with_near_matches(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / ".aws" / "credentials").write_text(f"[lab]\n{KEY.format('A')}")
    monkeypatch.setenv("AWS_PROFILE", "labs")
    with pytest.raises(
        ck.ProfileException,
        match=r"no AWS profile 'labs' \(from the environment variable AWS_PROFILE\).*matches: lab\.",
    ):
        ck.get_region()


def test_unreadable_file_is_no_empty_file(home: Path) -> None:
    file = home / ".aws" / "config"
    file.write_text("[default]\nregion = eu-west-1\n")
    file.chmod(0)
    if os.access(file, os.R_OK):
        pytest.skip("this user may read every file")
    with pytest.raises(ck.CloudknotConfigurationError, match="cannot be read: Permission denied"):
        ck.get_region()
