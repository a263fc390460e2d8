"""The words of errors for a registry's answers."""

import json

import pytest

from cloudknot.aws.images.registry.authorization import _challenges
from cloudknot.aws.images.registry.reference import HUB
from cloudknot.aws.images.registry.refusals import RegistryAnswer, no_answer, refused

ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com"


def words(address, status, body=b"", *, anonymous=False, repository="library/python"):
    answer = RegistryAnswer(status, {}, body)
    return str(refused(address, repository, answer, "/v2/x", anonymous=anonymous))


def of(code, message, detail=None):
    return json.dumps({"errors": [{"code": code, "message": message, "detail": detail}]}).encode()


@pytest.mark.parametrize(
    ("address", "status", "body", "expected"),
    [
        (
            HUB,
            429,
            of("TOOMANYREQUESTS", "You have reached your pull rate limit"),
            "public.ecr.aws/docker/library/python",
        ),
        ("ghcr.io", 429, b"", "Wait some minutes"),
        (ECR, 403, of("DENIED", "Your authorization token has expired."), "Renew your AWS credentials"),
        (ECR, 403, of("DENIED", "User is not authorized"), "`cloudknot permissions create`"),
        ("ghcr.io", 403, of("DENIED", "denied"), "`docker login ghcr.io`"),
        (ECR, 404, of("NAME_UNKNOWN", "The repository does not exist"), "has no repository library/python"),
        ("127.0.0.1:5000", 500, of("UNKNOWN", "unknown error", "write /x: no space left on device"), "Free space"),
        (
            "127.0.0.1:5000",
            500,
            of("UNKNOWN", "unknown error", {"Enclosed": {"Op": "write", "Err": 28}}),
            "Free space",
        ),
        ("127.0.0.1:5000", 507, b"", "Free space"),
        ("127.0.0.1:5000", 503, b"<html>busy</html>", "Try again later"),
        ("127.0.0.1:5000", 418, b"teapot", "teapot"),
    ],
)
def test_each_refusal_has_its_own_advice(address, status, body, expected):
    assert expected in words(address, status, body)


def test_anonymous_refusal_names_the_login():
    assert "run `docker login`." in words(HUB, 401, anonymous=True)
    assert "run `docker login ghcr.io`." in words("ghcr.io", 401, anonymous=True)


def test_long_pages_are_cut():
    assert len(words("r.example", 400, b"x" * 100_000)) < 700


def test_silence_has_advice_for_this_machine_and_for_others():
    assert "Start the registry" in str(no_answer("127.0.0.1:5000", "Connection refused"))
    assert "HTTPS_PROXY" in str(no_answer(HUB, "Name or service not known"))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", {}),
        ('Basic realm="https://r.example/",service="ecr.amazonaws.com"', {"basic"}),
        ('Bearer realm="https://a/token",service="s",scope="repository:a:pull,push"', {"bearer"}),
        ('bearer realm="https://a/token", service=s', {"bearer"}),
        ('Basic realm="x", Bearer realm="https://a/token",service="s"', {"basic", "bearer"}),
        ("Negotiate", {"negotiate"}),
    ],
)
def test_challenges_are_read_by_scheme(header, expected):
    found = _challenges(header)
    assert set(found) == set(expected)
    if "bearer" in found:
        assert found["bearer"]["realm"] == "https://a/token"
        assert found["bearer"]["service"] == "s"
