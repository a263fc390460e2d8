"""AWS Signature Version 4 for one access key: signs requests, and verifies signatures.

The embedded cloud verifies every request with it. Both directions use botocore's own code (`botocore.auth`), so the
cloud accepts exactly the signatures that AWS clients produce.

See the AWS General Reference, "Signature Version 4 signing process".
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

CLOCK_SKEW = timedelta(minutes=15)
LONGEST_EXPIRY = 7 * 24 * 3600
"""Seconds. The longest validity of a presigned URL (S3 user guide, "Sharing objects with presigned URLs")."""

_ALGORITHM = "AWS4-HMAC-SHA256"
_TIMESTAMP = "%Y%m%dT%H%M%SZ"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UNSIGNED = "UNSIGNED-PAYLOAD"
_BLOCK = 1 << 20


@dataclass(frozen=True)
class AccessKey:
    """An AWS access key."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)

    def for_botocore(self) -> ReadOnlyCredentials:
        """Return the key in the type that botocore's signers take."""
        from botocore.credentials import ReadOnlyCredentials

        return ReadOnlyCredentials(self.access_key, self.secret_key, self.token)


class Body(Protocol):
    """The body of a request, as a file."""

    def read(self, size: int = -1, /) -> bytes: ...
    def seek(self, offset: int, /) -> int: ...


@dataclass(frozen=True)
class Request:
    """A request in the form in which it arrived.

    Attributes
    ----------
    method : str
    uri : str
        The raw path and query.
    headers : mapping
        By names in lower case.
    body : Body
        A file that can be rewound.
    """

    method: str
    uri: str
    headers: Mapping[str, str]
    body: Body

    @property
    def query(self) -> str:
        """The raw query."""
        return self.uri.partition("?")[2]

    @property
    def token(self) -> str | None:
        """The session token in the headers or the query."""
        token = self.headers.get("x-amz-security-token")
        if token is None and "X-Amz-Security-Token=" in self.query:
            token = dict(parse_qsl(self.query))["X-Amz-Security-Token"]
        return token

    @cached_property
    def body_sha256(self) -> str:
        """The SHA-256 of the body, read in blocks because a body may be gigabytes."""
        # The application reads the body again, so it is rewound.
        digest = hashlib.sha256()
        while block := self.body.read(_BLOCK):
            digest.update(block)
        self.body.seek(0)
        return digest.hexdigest()


@dataclass(frozen=True)
class _Claim:
    """The unverified parts of a request's signature."""

    access_key: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    signed_at: datetime
    expires: int | None = None


@dataclass
class _Canonical:
    """The attributes of a request that botocore's signer reads."""

    method: str
    url: str
    headers: dict[str, str]
    payload: str
    context: dict[str, str]
    params: None = None


def verify(request: Request, key: AccessKey, now: datetime) -> str | None:
    """Verify the signature in a request's headers or query.

    Parameters
    ----------
    request : Request
    key : AccessKey
        The expected key. If it has a session token, the request must have the token as well.
    now : datetime
        The time, with its zone. A signature may differ by 15 minutes. A presigned URL has its own validity.

    Returns
    -------
    str or None
        None for a valid signature, else AWS's error code: ``MissingAuthenticationToken``, ``IncompleteSignature``,
        ``InvalidClientTokenId``, ``RequestTimeTooSkewed``, ``AccessDenied`` (expired), ``SignatureDoesNotMatch`` or
        ``XAmzContentSHA256Mismatch``.
    """
    try:
        claim = _claim(request)
    except (KeyError, ValueError):
        return "IncompleteSignature"
    if claim is None:
        return "MissingAuthenticationToken"
    token = request.token or ""
    # In constant time: the time of an answer must not show how much of a secret was right.
    if not hmac.compare_digest(claim.access_key.encode(), key.access_key.encode()):
        return "InvalidClientTokenId"
    if not hmac.compare_digest(token.encode(), (key.token or "").encode()):
        return "InvalidClientTokenId"
    return _time_error(claim, now) or _signature_error(request, claim, key)


def claimed_key(request: Request) -> str | None:
    """Return the key id in a request's signature, unverified, or None if it has none."""
    header = request.headers.get("authorization")
    if header is not None:
        return header.partition("Credential=")[2].partition("/")[0] or None
    return dict(parse_qsl(request.query)).get("X-Amz-Credential", "").partition("/")[0] or None


def _time_error(claim: _Claim, now: datetime) -> str | None:
    """Return AWS's error code for a signature that is too old or from the future."""
    signed_at = claim.signed_at
    if claim.expires is None:
        return "RequestTimeTooSkewed" if abs(now - signed_at) > CLOCK_SKEW else None
    if not 0 < claim.expires <= LONGEST_EXPIRY or now > signed_at + timedelta(seconds=claim.expires):
        # S3's code for an expired URL.
        return "AccessDenied"
    return "RequestTimeTooSkewed" if signed_at - now > CLOCK_SKEW else None


def _signature_error(request: Request, claim: _Claim, key: AccessKey) -> str | None:
    """Return AWS's error code for a signature that does not fit the key or the body."""
    payload = _payload(request, claim)
    canonical = _canonical(request, claim, payload)
    auth = _verifier(claim.service == "s3")(key, claim.service, claim.region)
    expected = auth.signature(auth.string_to_sign(canonical, auth.canonical_request(canonical)), canonical)
    # AWS requires a signed host too.
    if "host" not in claim.signed_headers or not hmac.compare_digest(expected, claim.signature):
        return "SignatureDoesNotMatch"
    # S3 clients may sign a header with the digest of the body. A valid signature then proves nothing about the body.
    if _SHA256.fullmatch(payload) and payload != request.body_sha256:
        return "XAmzContentSHA256Mismatch"
    return None


def _payload(request: Request, claim: _Claim) -> str:
    """Return the line for the body in the canonical request."""
    # The signer of a presigned URL for S3 does not know the body, so such a signature never covers it.
    if claim.expires is not None and claim.service == "s3":
        return _UNSIGNED
    return request.headers.get("x-amz-content-sha256") or request.body_sha256


def _canonical(request: Request, claim: _Claim, payload: str) -> _Canonical:
    """Return the signed part of a request."""
    path, _, query = request.uri.partition("?")
    # A signature in the query cannot cover itself.
    if claim.expires is not None:
        query = "&".join(part for part in query.split("&") if not part.startswith("X-Amz-Signature="))
    headers = {name: request.headers.get(name, "") for name in claim.signed_headers}
    # With a scheme and host, urlsplit does not mistake the start of a path with two slashes for a host.
    url = f"http://host{path}?{query}"
    return _Canonical(request.method, url, headers, payload, {"timestamp": claim.signed_at.strftime(_TIMESTAMP)})


@lru_cache(maxsize=2)
def _verifier(s3: bool) -> Any:
    """Return botocore's signer, changed to take headers and body digest from the request instead of setting them."""
    from botocore.auth import S3SigV4Auth, SigV4Auth

    class Verifier(S3SigV4Auth if s3 else SigV4Auth):  # type: ignore[misc]
        def headers_to_sign(self, request: _Canonical) -> _Headers:
            return _Headers(request.headers)

        def payload(self, request: _Canonical) -> str:
            return request.payload

    return Verifier


class _Headers(dict[str, str]):
    """Headers with the one method that botocore's signer needs, cheaper than its own mail message."""

    def get_all(self, name: str) -> list[str]:
        return [self[name]]


def _claim(request: Request) -> _Claim | None:
    """Return the parts of a request's signature, or None if it has none."""
    header = request.headers.get("authorization")
    if header is not None:
        return _header_claim(header, request.headers)
    if "X-Amz-Signature=" in request.query:
        return _query_claim(dict(parse_qsl(request.query, keep_blank_values=True)))
    return None


def _header_claim(header: str, headers: Mapping[str, str]) -> _Claim:
    algorithm, _, rest = header.partition(" ")
    if algorithm != _ALGORITHM:
        raise ValueError(algorithm)
    parts = dict(part.strip().split("=", 1) for part in rest.split(","))
    return _Claim(
        *_scope(parts["Credential"]),
        signed_headers=tuple(parts["SignedHeaders"].split(";")),
        signature=parts["Signature"],
        signed_at=_time(headers["x-amz-date"]),
    )


def _query_claim(query: Mapping[str, str]) -> _Claim:
    if query["X-Amz-Algorithm"] != _ALGORITHM:
        raise ValueError(query["X-Amz-Algorithm"])
    return _Claim(
        *_scope(query["X-Amz-Credential"]),
        signed_headers=tuple(query["X-Amz-SignedHeaders"].split(";")),
        signature=query["X-Amz-Signature"],
        signed_at=_time(query["X-Amz-Date"]),
        expires=int(query["X-Amz-Expires"]),
    )


def _time(timestamp: str) -> datetime:
    # Ten times as fast as strptime. The signature covers the form `_TIMESTAMP`, so any other form fails there.
    return datetime.fromisoformat(timestamp).replace(tzinfo=UTC)


def _scope(credential: str) -> tuple[str, str, str, str]:
    """Split ``key/date/region/service/aws4_request`` into access key, date, region and service."""
    access_key, date, region, service, terminator = credential.split("/")
    if terminator != "aws4_request":
        raise ValueError(credential)
    return access_key, date, region, service


def presign(url: str, key: AccessKey, *, service: str, region: str, expires: int = LONGEST_EXPIRY) -> str:
    """Return a URL that anybody can GET for ``expires`` seconds."""
    from botocore.auth import SigV4QueryAuth
    from botocore.awsrequest import AWSRequest

    request = AWSRequest(method="GET", url=url)
    SigV4QueryAuth(key.for_botocore(), service, region, expires).add_auth(request)
    return str(request.url)


def sign(
    method: str, url: str, key: AccessKey, *, service: str, region: str = "us-east-1", body: bytes = b""
) -> dict[str, str]:
    """Return the headers of a signed request.

    ``url`` is absolute. The request must be sent with exactly the ``Host`` in it.
    """
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest

    request = AWSRequest(method=method, url=url, data=body)
    SigV4Auth(key.for_botocore(), service, region).add_auth(request)
    return dict(request.headers.items())
