"""The embedded cloud accepts requests that botocore has signed, and refuses them after any change."""

import io
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from hypothesis import given
from hypothesis import strategies as st

from cloudknot.local.iam.signed_bodies import check_body, signed_body
from cloudknot.local.iam.signing import (
    DIGEST,
    AccessKey,
    Request,
    claim_error,
    read_claim,
    sign,
    signature_error,
)
from cloudknot.local.wsgi import ServiceError

KEY = AccessKey("AKIATEST", "secret")
URL = "http://127.0.0.1:1234/bucket/a%20b%2F%C3%BC..//c?x=1&list-type=2"


def now():
    return datetime.now(UTC)


def received_request(method, url, headers, body=b""):
    parts = urlsplit(url)
    named = {name.lower(): value for name, value in headers.items()} | {"host": parts.netloc}
    named |= {"content-length": str(len(body))} if body else {}
    return Request(method, f"{parts.path}?{parts.query}", named, io.BytesIO(body))


def verify(request, key, time):
    """Return AWS's error code for a request, or None for a valid one."""
    try:
        claim = read_claim(request)
        code = claim_error(claim, key, time) or signature_error(request, claim, key)
        if code is None and DIGEST in request.headers:
            check_body(request, claim)
            signed_body(request, claim, key, request.body).read()
    except ServiceError as error:
        return error.code
    return code


def s3_put(body=b"body", sent_body=None):
    request = AWSRequest(method="PUT", url=URL, data=body)
    S3SigV4Auth(KEY, "s3", "us-east-1").add_auth(request)
    return received_request("PUT", URL, dict(request.headers.items()), body if sent_body is None else sent_body)


def presigned(expires=60):
    request = AWSRequest(method="GET", url=URL)
    S3SigV4QueryAuth(KEY, "s3", "us-east-1", expires=expires).add_auth(request)
    return received_request("GET", request.url, {})


def changed(request, **fields):
    return Request(**{**{name: getattr(request, name) for name in ("method", "uri", "headers", "body")}, **fields})


def test_server_accepts_requests_signed_by_botocore_or_cloudknot():
    assert verify(s3_put(), KEY, now()) is None
    assert verify(presigned(), KEY, now()) is None
    headers = sign("POST", URL, KEY, service="batch", body=b"{}")
    assert verify(received_request("POST", URL, headers, b"{}"), KEY, now()) is None


@pytest.mark.parametrize("make_request", [s3_put, presigned])
def test_server_refuses_other_key_and_changed_request(make_request):
    request = make_request()
    assert verify(request, AccessKey("AKIATEST", "other"), now()) == "SignatureDoesNotMatch"
    assert verify(request, AccessKey("AKIAOTHER", "secret"), now()) == "InvalidClientTokenId"
    for other in (
        changed(request, method="DELETE"),
        changed(request, uri=request.uri.replace("list-type=2", "list-type=1")),
        changed(request, uri=request.uri.replace("bucket", "backet")),
        changed(request, headers={**request.headers, "host": "elsewhere"}),
    ):
        assert verify(other, KEY, now()) == "SignatureDoesNotMatch"


def test_server_refuses_changed_body():
    assert verify(s3_put(sent_body=b"evil"), KEY, now()) == "XAmzContentSHA256Mismatch"
    headers = sign("POST", URL, KEY, service="batch", body=b"{}")
    assert verify(received_request("POST", URL, headers, b"[]"), KEY, now()) == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    ("uri", "headers"),
    [
        ("/bucket/key?AWSAccessKeyId=AKIATEST&Signature=abc%3D&Expires=1796063250", {}),
        ("/bucket/key", {"authorization": "AWS AKIATEST:abc="}),
    ],
)
def test_server_names_signatures_of_version_2(uri, headers):
    with pytest.raises(ServiceError, match="use AWS4-HMAC-SHA256") as caught:
        read_claim(Request("GET", uri, {"host": "127.0.0.1:1234", **headers}))
    assert caught.value.code == "InvalidRequest"


TEXT = st.text("abcXYZ019-._~!$'()*,;:@/ é%?&=+", max_size=12)
VALUE = st.text("abc019 ,;=/+'\"", max_size=12)
HEADERS = st.dictionaries(st.sampled_from(["x-amz-meta-a", "x-amz-acl", "content-type", "range", "x-b"]), VALUE)


@given(
    st.sampled_from(["GET", "PUT", "POST", "DELETE"]),
    st.sampled_from(["s3", "batch", "iam"]),
    st.lists(TEXT, min_size=1).map("/".join),
    st.lists(st.tuples(TEXT, TEXT), max_size=4),
    HEADERS,
    st.sampled_from([None, "token+/="]),
    st.binary(max_size=5),
)
def test_server_accepts_what_botocore_signs(method, service, path, query, headers, token, body):
    key = AccessKey("AKIATEST", "secret", token)
    pairs = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query)
    url = f"http://127.0.0.1:1234/{quote(path)}?{pairs}"
    request = AWSRequest(method=method, url=url, data=body, headers=headers)
    signer = S3SigV4Auth if service == "s3" else SigV4Auth
    signer(key.for_botocore(), service, "us-east-1").add_auth(request)
    arrived = {name: value.strip(" ") for name, value in request.headers.items()}
    assert verify(received_request(method, url, arrived, body), key, now()) is None


@pytest.mark.parametrize("minutes", [16, -16])
def test_server_refuses_clock_more_than_15_minutes_off(minutes):
    assert verify(s3_put(), KEY, now() + timedelta(minutes=minutes)) == "RequestTimeTooSkewed"
    assert verify(s3_put(), KEY, now() + timedelta(minutes=minutes * 14 / 16)) is None


def test_server_refuses_presigned_url_after_its_time_or_beyond_one_week():
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
def test_server_refuses_missing_or_incomplete_signature(authorization, code):
    headers = {} if authorization is None else {"authorization": authorization}
    assert verify(received_request("GET", URL, headers), KEY, now()) == code


def test_repr_of_access_key_hides_secret_key():
    assert "secret'" not in repr(KEY)
