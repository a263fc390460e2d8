"""AWS Signature Version 4 for S3 requests without a query, by the standard library alone.

See the Amazon S3 API reference, "Authenticating requests: using the Authorization header". A test compares the
signatures with botocore's.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials


def signed_headers(
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    credentials: ReadOnlyCredentials,
    region: str,
    now: float | None = None,
) -> dict[str, str]:
    """Return the headers of a request with its signature.

    Parameters
    ----------
    method, path : str
        The path is encoded, as it is sent.
    headers : mapping
        With ``Host``. The signature covers all of them.
    body : bytes
    credentials : ReadOnlyCredentials
    region : str
    now : float, optional
        The seconds since 1970. Default: the current time.
    """
    timestamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    digest = hashlib.sha256(body).hexdigest()
    signed = {**headers, "X-Amz-Date": timestamp, "X-Amz-Content-SHA256": digest}
    if credentials.token:
        signed["X-Amz-Security-Token"] = credentials.token
    lines = sorted((name.lower(), " ".join(value.split())) for name, value in signed.items())
    names = ";".join(name for name, _ in lines)
    canonical = "".join(f"{name}:{value}\n" for name, value in lines)
    # The empty line is the query.
    request = f"{method}\n{path}\n\n{canonical}\n{names}\n{digest}"
    scope = f"{timestamp[:8]}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = hmac.digest(_key(credentials.secret_key, timestamp[:8], region), text.encode(), "sha256").hex()
    claim = f"Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**signed, "Authorization": f"AWS4-HMAC-SHA256 {claim}"}


@lru_cache(maxsize=8)
def _key(secret: str, date: str, region: str) -> bytes:
    """Return the signing key of a day."""
    key = f"AWS4{secret}".encode()
    for part in (date, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
