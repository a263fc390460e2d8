"""AWS Signature Version 4 for one access key: sign a request, or check that one was signed.

Both sides are botocore's own code (`botocore.auth`), so that what any AWS client signs is what is accepted here.
The embedded cloud checks every request with it.

Source: AWS General Reference, "Signature Version 4 signing process".
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
"""Seconds that a presigned URL may be valid (S3 user guide, "Sharing objects with presigned URLs")."""

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
        """Return the key as botocore's signers take it."""
        from botocore.credentials import ReadOnlyCredentials

        return ReadOnlyCredentials(self.access_key, self.secret_key, self.token)


class Body(Protocol):
    """A request's body, as a file."""

    def read(self, size: int = -1, /) -> bytes: ...
    def seek(self, offset: int, /) -> int: ...


@dataclass(frozen=True)
class Request:
    """A request as it came over the wire.

    ``uri`` is the raw path and query, ``headers`` have names in lower case, ``body`` can be read and rewound.
    """

    method: str
    uri: str
    headers: Mapping[str, str]
    body: Body

    @property
    def query(self) -> str:
        return self.uri.partition("?")[2]

    @property
    def token(self) -> str | None:
        """The session token that came with it."""
        found = self.headers.get("x-amz-security-token")
        if found is None and "X-Amz-Security-Token=" in self.query:
            found = dict(parse_qsl(self.query))["X-Amz-Security-Token"]
        return found

    @cached_property
    def body_sha256(self) -> str:
        digest = hashlib.sha256()
        while block := self.body.read(_BLOCK):
            digest.update(block)
        self.body.seek(0)
        return digest.hexdigest()


@dataclass(frozen=True)
class _Claim:
    """What a request says about its own signature."""

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
    """The part of a request that botocore's signer reads."""

    method: str
    url: str
    headers: dict[str, str]
    payload: str
    context: dict[str, str]
    params: None = None


def verify(request: Request, key: AccessKey, now: datetime) -> str | None:
    """Check a request's signature, in its headers or in its query.

    Parameters
    ----------
    request : Request
    key : AccessKey
        The key that it is to be signed with; if that has a session token, the token is to be there, too.
    now : datetime
        The time, with its zone. A signature may be 15 minutes off, a presigned URL as old as it says itself.

    Returns
    -------
    str or None
        None when the signature is good, else AWS's error code: ``MissingAuthenticationToken``,
        ``IncompleteSignature``, ``InvalidClientTokenId``, ``RequestTimeTooSkewed``, ``AccessDenied`` (expired),
        ``SignatureDoesNotMatch`` or ``XAmzContentSHA256Mismatch``.
    """
    try:
        claim = _claim(request)
    except (KeyError, ValueError):
        return "IncompleteSignature"
    if claim is None:
        return "MissingAuthenticationToken"
    token = request.token or ""
    if not hmac.compare_digest(claim.access_key.encode(), key.access_key.encode()):
        return "InvalidClientTokenId"
    if not hmac.compare_digest(token.encode(), (key.token or "").encode()):
        return "InvalidClientTokenId"
    return _time_error(claim, now) or _signature_error(request, claim, key)


def claimed_key(request: Request) -> str | None:
    """The id of the key that a request says it is signed with, unchecked; None when it does not say."""
    header = request.headers.get("authorization")
    if header is not None:
        return header.partition("Credential=")[2].partition("/")[0] or None
    return dict(parse_qsl(request.query)).get("X-Amz-Credential", "").partition("/")[0] or None


def _time_error(claim: _Claim, now: datetime) -> str | None:
    signed_at = claim.signed_at
    if claim.expires is None:
        return "RequestTimeTooSkewed" if abs(now - signed_at) > CLOCK_SKEW else None
    if not 0 < claim.expires <= LONGEST_EXPIRY or now > signed_at + timedelta(seconds=claim.expires):
        return "AccessDenied"
    return "RequestTimeTooSkewed" if signed_at - now > CLOCK_SKEW else None


def _signature_error(request: Request, claim: _Claim, key: AccessKey) -> str | None:
    payload = _payload(request, claim)
    canonical = _canonical(request, claim, payload)
    auth = _verifier(claim.service == "s3")(key, claim.service, claim.region)
    expected = auth.signature(auth.string_to_sign(canonical, auth.canonical_request(canonical)), canonical)
    if "host" not in claim.signed_headers or not hmac.compare_digest(expected, claim.signature):
        return "SignatureDoesNotMatch"
    if _SHA256.fullmatch(payload) and payload != request.body_sha256:
        return "XAmzContentSHA256Mismatch"
    return None


def _payload(request: Request, claim: _Claim) -> str:
    """The line of the canonical request that stands for the body."""
    if claim.expires is not None and claim.service == "s3":
        return _UNSIGNED
    return request.headers.get("x-amz-content-sha256") or request.body_sha256


def _canonical(request: Request, claim: _Claim, payload: str) -> _Canonical:
    path, _, query = request.uri.partition("?")
    if claim.expires is not None:
        query = "&".join(part for part in query.split("&") if not part.startswith("X-Amz-Signature="))
    headers = {name: request.headers.get(name, "") for name in claim.signed_headers}
    # A scheme and host make urlsplit leave a path that begins with two slashes alone.
    url = f"http://host{path}?{query}"
    return _Canonical(request.method, url, headers, payload, {"timestamp": claim.signed_at.strftime(_TIMESTAMP)})


@lru_cache(maxsize=2)
def _verifier(s3: bool) -> Any:
    from botocore.auth import S3SigV4Auth, SigV4Auth

    class Verifier(S3SigV4Auth if s3 else SigV4Auth):  # type: ignore[misc]
        def headers_to_sign(self, request: _Canonical) -> _Headers:
            return _Headers(request.headers)

        def payload(self, request: _Canonical) -> str:
            return request.payload

    return Verifier


class _Headers(dict[str, str]):
    """Headers as botocore's signer asks for them, without the cost of a mail message."""

    def get_all(self, name: str) -> list[str]:
        return [self[name]]


def _claim(request: Request) -> _Claim | None:
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
    return datetime.strptime(timestamp, _TIMESTAMP).replace(tzinfo=UTC)


def _scope(credential: str) -> tuple[str, str, str, str]:
    """Access key, date, region and service of ``key/date/region/service/aws4_request``."""
    access_key, date, region, service, terminator = credential.split("/")
    if terminator != "aws4_request":
        raise ValueError(credential)
    return access_key, date, region, service


def presign(url: str, key: AccessKey, *, service: str, region: str, expires: int = LONGEST_EXPIRY) -> str:
    """A URL that anybody may GET for ``expires`` seconds."""
    from botocore.auth import SigV4QueryAuth
    from botocore.awsrequest import AWSRequest

    request = AWSRequest(method="GET", url=url)
    SigV4QueryAuth(key.for_botocore(), service, region, expires).add_auth(request)
    return str(request.url)


def sign(
    method: str, url: str, key: AccessKey, *, service: str, region: str = "us-east-1", body: bytes = b""
) -> dict[str, str]:
    """The headers that make a request a signed one.

    ``url`` is absolute; the request must be sent with exactly the ``Host`` that the URL names.
    """
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest

    request = AWSRequest(method=method, url=url, data=body)
    SigV4Auth(key.for_botocore(), service, region).add_auth(request)
    return dict(request.headers.items())
