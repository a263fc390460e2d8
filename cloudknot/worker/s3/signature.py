"""AWS Signature Version 4 for S3 requests, by the standard library alone.

See the Amazon S3 API reference, "Authenticating requests: using the Authorization header". A test compares the
signatures with botocore's.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote

from ..wire.buffers import Pieces
from .server import Credentials

UNSIGNED = "UNSIGNED-PAYLOAD"
"""In place of the digest of a body that the signature does not cover."""


def sha256_of(body: Pieces) -> str:
    """Return the digest of joined pieces."""
    digest = hashlib.sha256()
    for piece in body:
        digest.update(piece)
    return digest.hexdigest()


def signed_headers(
    method: str,
    path: str,
    headers: Mapping[str, str],
    digest: str,
    credentials: Credentials,
    region: str,
    now: float | None = None,
    query: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the headers of a request with its signature.

    Parameters
    ----------
    method, path : str
        The path is encoded, as it is sent.
    headers : mapping
        With ``Host``. The signature covers all of them.
    digest : str
        The SHA-256 of the body, or `UNSIGNED`.
    credentials : Credentials
    region : str
    now : float, optional
        The seconds since 1970. Default: the current time.
    query : mapping, optional
        The parameters in the URL.
    """
    timestamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    signed = {**headers, "X-Amz-Date": timestamp, "X-Amz-Content-SHA256": digest}
    if credentials.token:
        signed["X-Amz-Security-Token"] = credentials.token
    lines = sorted((name.lower(), " ".join(value.split())) for name, value in signed.items())
    names = ";".join(name for name, _ in lines)
    canonical = "".join(f"{name}:{value}\n" for name, value in lines)
    pairs = sorted((quote(name, safe="~"), quote(value, safe="~")) for name, value in (query or {}).items())
    parameters = "&".join(f"{name}={value}" for name, value in pairs)
    request = f"{method}\n{path}\n{parameters}\n{canonical}\n{names}\n{digest}"
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
