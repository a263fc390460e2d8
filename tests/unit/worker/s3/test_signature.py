"""The worker's own signature is the one that botocore makes."""

import calendar
import time
from urllib.parse import quote, urlencode

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from cloudknot.worker.s3.signature import sha256_of, signed_headers

HOST = "s3.eu-west-1.amazonaws.com"
TIMESTAMP = "%Y%m%dT%H%M%SZ"


def by_botocore(method, path, headers, body, credentials):
    """Return the headers that botocore adds at this moment."""
    request = AWSRequest(method, f"https://{HOST}{path}", headers=headers, data=body)
    S3SigV4Auth(credentials, "s3", "eu-west-1").add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


@given(
    method=st.sampled_from(["GET", "PUT"]),
    key=st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1),
    body=st.binary(max_size=100),
    token=st.none() | st.just("token/with+signs=="),
    first=st.integers(0, 9),
    query=st.none()
    | st.fixed_dictionaries({"partNumber": st.just("10"), "uploadId": st.text("aZ9-_.~+/= ", min_size=1)}),
)
def test_signature_is_botocores(method, key, body, token, first, query):
    credentials = ReadOnlyCredentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG", token)
    headers = {"Range": f"bytes={first}-10"} if method == "GET" else {"If-None-Match": "*"}
    path = f"/bucket/{quote(key, safe='/~')}"
    sent = f"{path}?{urlencode(query, quote_via=quote, safe='~')}" if query else path
    expected = by_botocore(method, sent, headers, body, credentials)
    moment = calendar.timegm(time.strptime(expected["x-amz-date"], TIMESTAMP))
    signed = signed_headers(
        method, path, {"Host": HOST, **headers}, sha256_of([body]), credentials, "eu-west-1", moment, query
    )
    own = {name.lower(): value for name, value in signed.items()}
    assert own.pop("host") == HOST
    assert own == expected


@pytest.mark.parametrize("moment", [0.0, 1_900_000_000.0])
def test_signature_has_its_date(moment):
    credentials = ReadOnlyCredentials("key", "secret", None)
    own = signed_headers("GET", "/b/k", {"Host": HOST}, sha256_of([]), credentials, "eu-west-1", moment)
    date = time.strftime(TIMESTAMP, time.gmtime(moment))
    assert own["X-Amz-Date"] == date
    assert f"/{date[:8]}/eu-west-1/s3/aws4_request" in own["Authorization"]
