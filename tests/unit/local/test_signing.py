"""Signatures: what botocore signs is accepted, and nothing that was changed afterwards."""

import io
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest

from cloudknot.local.iam.signing import AccessKey, Request, sign, verify

KEY = AccessKey("AKIATEST", "secret")
URL = "http://127.0.0.1:1234/bucket/a%20b%2F%C3%BC..//c?x=1&list-type=2"


def now():
    return datetime.now(UTC)


def received(method, url, headers, body=b""):
    parts = urlsplit(url)
    named = {name.lower(): value for name, value in headers.items()} | {"host": parts.netloc}
    return Request(method, f"{parts.path}?{parts.query}", named, io.BytesIO(body))


def s3_put(body=b"body", sent=None):
    request = AWSRequest(method="PUT", url=URL, data=body)
    S3SigV4Auth(KEY, "s3", "us-east-1").add_auth(request)
    return received("PUT", URL, dict(request.headers.items()), body if sent is None else sent)


def presigned(expires=60):
    request = AWSRequest(method="GET", url=URL)
    S3SigV4QueryAuth(KEY, "s3", "us-east-1", expires=expires).add_auth(request)
    return received("GET", request.url, {})


def changed(request, **choices):
    return Request(**{**{name: getattr(request, name) for name in ("method", "uri", "headers", "body")}, **choices})


def test_signed_requests_are_accepted():
    assert verify(s3_put(), KEY, now()) is None
    assert verify(presigned(), KEY, now()) is None
    headers = sign("POST", URL, KEY, service="batch", body=b"{}")
    assert verify(received("POST", URL, headers, b"{}"), KEY, now()) is None


def test_the_body_can_still_be_read():
    request = s3_put()
    assert verify(request, KEY, now()) is None
    assert request.body.read() == b"body"


@pytest.mark.parametrize("make", [s3_put, presigned])
def test_another_secret_key_or_request_is_refused(make):
    request = make()
    assert verify(request, AccessKey("AKIATEST", "other"), now()) == "SignatureDoesNotMatch"
    assert verify(request, AccessKey("AKIAOTHER", "secret"), now()) == "InvalidClientTokenId"
    for other in (
        changed(request, method="DELETE"),
        changed(request, uri=request.uri.replace("list-type=2", "list-type=1")),
        changed(request, uri=request.uri.replace("bucket", "backet")),
        changed(request, headers={**request.headers, "host": "elsewhere"}),
    ):
        assert verify(other, KEY, now()) == "SignatureDoesNotMatch"


def test_another_body_is_refused():
    assert verify(s3_put(sent=b"evil"), KEY, now()) == "XAmzContentSHA256Mismatch"
    headers = sign("POST", URL, KEY, service="batch", body=b"{}")
    assert verify(received("POST", URL, headers, b"[]"), KEY, now()) == "SignatureDoesNotMatch"


@pytest.mark.parametrize("minutes", [16, -16])
def test_a_clock_that_is_more_than_15_minutes_off_is_refused(minutes):
    assert verify(s3_put(), KEY, now() + timedelta(minutes=minutes)) == "RequestTimeTooSkewed"
    assert verify(s3_put(), KEY, now() + timedelta(minutes=minutes * 14 / 16)) is None


def test_a_presigned_url_lives_as_long_as_it_says_and_a_week_at_most():
    assert verify(presigned(3600), KEY, now() + timedelta(minutes=59)) is None
    assert verify(presigned(3600), KEY, now() + timedelta(minutes=61)) == "AccessDenied"
    assert verify(presigned(8 * 24 * 3600), KEY, now()) == "AccessDenied"


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, "MissingAuthenticationToken"),
        ("Basic xyz", "IncompleteSignature"),
        ("AWS4-HMAC-SHA256 Credential=a/b", "IncompleteSignature"),
        ("AWS4-HMAC-SHA256", "IncompleteSignature"),
    ],
)
def test_a_request_without_a_whole_signature_is_refused(authorization, code):
    headers = {} if authorization is None else {"authorization": authorization}
    assert verify(received("GET", URL, headers), KEY, now()) == code


def test_the_secret_key_is_not_shown():
    assert "secret'" not in repr(KEY)
