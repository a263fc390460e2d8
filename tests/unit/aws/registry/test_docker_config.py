"""Logins from Docker's settings and from its credential helpers."""

import base64
import json
import stat

import pytest

from cloudknot.aws.images.registry.docker_config import login_for
from cloudknot.aws.images.registry.reference import HUB

HELPER = """#!/bin/sh
read -r name
case "$name" in
  good.example|https://index.docker.io/v1/) printf '{"ServerURL":"x","Username":"anna","Secret":"s3cret-%s"}' "$1";;
  odd.example) printf 's3cret';;
  none.example) printf 'credentials not found in native keychain'; exit 1;;
  *) printf 's3cret'; exit 3;;
esac
"""


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Return a function that writes Docker's settings; the helper ``docker-credential-test`` is installed."""
    helper = tmp_path / "docker-credential-test"
    helper.write_text(HELPER)
    helper.chmod(helper.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return lambda content: (tmp_path / "config.json").write_text(json.dumps(content))


def encoded(text):
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("key", ["r.example", "https://r.example", "https://r.example/v1/", "http://r.example/v2/"])
def test_login_is_found_under_each_form_of_the_address(settings, key):
    settings({"auths": {key: {"auth": encoded("anna:pa:ss")}, "other.example": {"auth": encoded("b:b")}}})
    assert login_for("r.example") == ("r.example", "anna", "pa:ss")
    assert login_for("r.example:5000").username == ""


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io", "registry-1.docker.io"])
def test_login_of_docker_hub_has_several_names(settings, key):
    settings({"auths": {key: {"username": "anna", "password": "p"}}})
    assert login_for(HUB) == (HUB, "anna", "p")


@pytest.mark.parametrize("choice", [{"credsStore": "test"}, {"credHelpers": {"good.example": "test", HUB: "test"}}])
@pytest.mark.parametrize("registry", ["good.example", HUB])
def test_helper_has_the_login(settings, choice, registry, caplog):
    settings({**choice, "auths": {registry: {}}})
    assert login_for(registry) == (registry, "anna", "s3cret-get")
    assert not caplog.records


def test_helper_without_a_login_is_no_warning(settings, caplog):
    settings({"credsStore": "test"})
    assert login_for("none.example") == ("none.example", "", "")
    assert not caplog.records


@pytest.mark.parametrize(
    ("helper", "registry", "problem"),
    [
        ("missing", "good.example", "is not installed"),
        ("../test", "good.example", "is not installed"),
        ("test", "bad.example", "exit code 3"),
        ("test", "odd.example", "JSONDecodeError"),
    ],
)
def test_helper_that_fails_is_a_warning_without_its_output(settings, helper, registry, problem, caplog):
    settings({"credHelpers": {registry: helper}})
    assert login_for(registry) == (registry, "", "")
    assert problem in caplog.text
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"auths": []},
        {"auths": {"r.example": "x"}},
        {"auths": {"r.example": {"auth": "%%%"}}},
        {"auths": {"r.example": {"auth": encoded("no colon")[:-3]}}},
        {"auths": {"r.example": {"auth": 7}}},
        {"credsStore": ""},
    ],
)
def test_unreadable_settings_are_no_login(settings, content):
    settings(content)
    assert login_for("r.example") == ("r.example", "", "")


def test_no_settings_are_no_login(settings, tmp_path):
    assert login_for("r.example") == ("r.example", "", "")
    (tmp_path / "config.json").write_text("{")
    assert login_for("r.example") == ("r.example", "", "")


def test_identity_token_has_its_own_user_name(settings):
    settings(
        {"auths": {"r.example": {"auth": encoded("00000000-0000-0000-0000-000000000000:"), "identitytoken": "t"}}}
    )
    assert login_for("r.example") == ("r.example", "<token>", "t")
