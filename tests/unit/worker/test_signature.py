"""The worker's own signature is the one that botocore makes."""

import calendar
import time
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from cloudknot.worker.s3.signature import signed_headers

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
)
def test_signature_is_botocores(method, key, body, token, first):
    credentials = ReadOnlyCredentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG", token)
    headers = {"Range": f"bytes={first}-10"} if method == "GET" else {"If-None-Match": "*"}
    path = f"/bucket/{quote(key, safe='/~')}"
    expected = by_botocore(method, path, headers, body, credentials)
    moment = calendar.timegm(time.strptime(expected["x-amz-date"], TIMESTAMP))
    signed = signed_headers(method, path, {"Host": HOST, **headers}, body, credentials, "eu-west-1", moment)
    own = {name.lower(): value for name, value in signed.items()}
    assert own.pop("host") == HOST
    assert own == expected


@pytest.mark.parametrize("moment", [0.0, 1_900_000_000.0])
def test_signature_has_its_date(moment):
    credentials = ReadOnlyCredentials("key", "secret", None)
    own = signed_headers("GET", "/b/k", {"Host": HOST}, b"", credentials, "eu-west-1", moment)
    date = time.strftime(TIMESTAMP, time.gmtime(moment))
    assert own["X-Amz-Date"] == date
    assert f"/{date[:8]}/eu-west-1/s3/aws4_request" in own["Authorization"]
