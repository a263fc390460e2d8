"""AWS Signature Version 4 for one access key: signs requests, and verifies signatures.

The embedded cloud verifies every request with it. botocore's signer takes five times the CPU, so the verification is
our own. A test compares the signatures with botocore's.

See the AWS General Reference, "Signature Version 4 signing process".
"""

from __future__ import annotations

import hashlib
import hmac
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from cloudknot.local.iam.requests import fields
from cloudknot.local.wsgi import ServiceError

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

CLOCK_SKEW = timedelta(minutes=15)
LONGEST_EXPIRY = 7 * 24 * 3600
"""Seconds. The longest validity of a presigned URL (S3 user guide, "Sharing objects with presigned URLs")."""

DIGEST = "x-amz-content-sha256"
"""The header with the digest of the body, or a word for another way to sign it."""
ALGORITHM = "AWS4-HMAC-SHA256"
_TIME = re.compile(r"[0-9]{8}T[0-9]{6}Z")
SHA256 = re.compile(r"[0-9a-f]{64}")
_SPACES = re.compile(r"[ \t]+")
_NAMES = re.compile(r"[a-z0-9_.;-]+")
# Some clients of S3 sign for the region "US" until S3 names the right one.
_CREDENTIAL = re.compile(r"(\w+)/([0-9]{8})/([A-Za-z0-9-]+)/([a-z0-9-]+)/aws4_request", re.ASCII)
_AUTHORIZATION = re.compile(
    rf"{ALGORITHM} Credential={_CREDENTIAL.pattern}, *"
    rf"SignedHeaders=({_NAMES.pattern}), *Signature=({SHA256.pattern})",
    re.ASCII,
)
_TOKEN = "x-amz-security-token"
_SIGNATURE_FIELDS = frozenset(
    f"X-Amz-{name}"
    for name in ("Algorithm", "Credential", "Date", "Expires", "Security-Token", "Signature", "SignedHeaders")
)
_VERSION_2_REFUSED = (
    "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256. For a presigned URL "
    'of boto3, make the client with config=botocore.config.Config(signature_version="s3v4").'
)
"""S3's message, and what it means for boto3, whose presigned URLs for us-east-1 have a signature of version 2."""
UNSIGNED = "UNSIGNED-PAYLOAD"
EMPTY = hashlib.sha256().hexdigest()
"""The digest of an empty body."""
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


class Readable(Protocol):
    """The body of a request that is read once."""

    def read(self, size: int = -1, /) -> bytes: ...


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
    body: Body = field(default_factory=io.BytesIO)

    @cached_property
    def path(self) -> str:
        """The raw path."""
        return self.uri.partition("?")[0]

    @cached_property
    def query(self) -> dict[str, str]:
        """The fields of the query that belong to the signature, if the signature is in the query."""
        return fields.unique(pair for pair in self._pairs if self._is_presigned and pair[0] in _SIGNATURE_FIELDS)

    @cached_property
    def query_pairs(self) -> list[tuple[str, str]]:
        """All other names and values in the query, in order."""
        return [pair for pair in self._pairs if not (self._is_presigned and pair[0] in _SIGNATURE_FIELDS)]

    @cached_property
    def _pairs(self) -> list[tuple[str, str]]:
        return fields.pairs(self.uri.partition("?")[2])

    @cached_property
    def _is_presigned(self) -> bool:
        return any(name == "X-Amz-Signature" for name, _ in self._pairs)

    @property
    def length(self) -> int:
        """The bytes in the body."""
        return int(self.headers.get("content-length") or 0)

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
class SignedClaim:
    """The unverified parts of a request's signature."""

    access_key: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    signed_at: datetime
    token: str = ""
    expires: int | None = None
    timestamp: str = ""

    @cached_property
    def scope(self) -> str:
        """The day, the region and the service of the key."""
        return f"{self.timestamp[:8]}/{self.region}/{self.service}/aws4_request"


def read_claim(request: Request) -> SignedClaim:
    """Return the parts of a request's signature.

    Raises
    ------
    ServiceError
        The request has no signature, or has one of version 2 or one that is incomplete, or two.
    """
    header = request.headers.get("authorization")
    if header is not None and request.query:
        raise ServiceError("InvalidArgument", "Only one signature is allowed: in the header or in the query.")
    if _is_of_version_2(request, header):
        raise ServiceError("InvalidRequest", _VERSION_2_REFUSED)
    if header is None and not request.query:
        raise ServiceError("MissingAuthenticationToken", "The request has no signature.", 403)
    claim = _query_claim(request.query) if header is None else _header_claim(header, request.headers)
    if claim is None or len(set(claim.signed_headers)) < len(claim.signed_headers):
        raise ServiceError("IncompleteSignature", "The signature is incomplete or malformed.")
    return claim


def _is_of_version_2(request: Request, header: str | None) -> bool:
    return (header or "").startswith("AWS ") or any(name == "AWSAccessKeyId" for name, _ in request.query_pairs)


def claim_error(claim: SignedClaim, key: AccessKey, now: datetime) -> str | None:
    """Return AWS's error code for a claim that does not name the key and its token, or is not valid now."""
    # In constant time: the time of an answer must not show how much of a secret was right.
    if not hmac.compare_digest(claim.access_key.encode(), key.access_key.encode()):
        return "InvalidClientTokenId"
    if not hmac.compare_digest(claim.token.encode(), (key.token or "").encode()):
        return "InvalidClientTokenId"
    return _time_error(claim, now)


def covers_body_by_digest(request: Request, claim: SignedClaim) -> bool:
    """Return whether the signature can be verified before the body has arrived."""
    is_unsigned = claim.expires is not None and claim.service == "s3"
    return is_unsigned or not request.length or bool(request.headers.get(DIGEST))


def signature_error(request: Request, claim: SignedClaim, key: AccessKey) -> str | None:
    """Return AWS's error code for a signature that does not fit the key and the request."""
    text = f"{ALGORITHM}\n{claim.timestamp}\n{claim.scope}\n{_sha256(_canonical(request, claim).encode('latin-1'))}"
    expected = hmac.digest(signing_key(claim, key), text.encode(), "sha256").hex()
    # As AWS does: the signature covers the host and all headers of AWS.
    signed = claim.signed_headers
    is_covered = "host" in signed and all(name in signed for name in request.headers if name.startswith("x-amz-"))
    if not is_covered or not hmac.compare_digest(expected, claim.signature):
        return "SignatureDoesNotMatch"
    return None


def payload(request: Request, claim: SignedClaim) -> str:
    """Return the line for the body in the canonical request."""
    # The signer of a presigned URL for S3 does not know the body, so such a signature never covers it.
    if claim.expires is not None and claim.service == "s3":
        return UNSIGNED
    return request.headers.get(DIGEST) or (request.body_sha256 if request.length else EMPTY)


def signing_key(claim: SignedClaim, key: AccessKey) -> bytes:
    """Return the key of one day, region and service, which AWS derives from a secret key."""
    return _signing_key(key.secret_key, claim.scope)


@lru_cache(maxsize=1024)
def _signing_key(secret: str, scope: str) -> bytes:
    derived = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        derived = hmac.digest(derived, part.encode(), "sha256")
    return derived


def _time_error(claim: SignedClaim, now: datetime) -> str | None:
    """Return AWS's error code for a signature that is too old or from the future."""
    signed_at = claim.signed_at
    if claim.expires is None:
        return "RequestTimeTooSkewed" if abs(now - signed_at) > CLOCK_SKEW else None
    if not 0 < claim.expires <= LONGEST_EXPIRY or now > signed_at + timedelta(seconds=claim.expires):
        # S3's code for an expired URL.
        return "AccessDenied"
    return "RequestTimeTooSkewed" if signed_at - now > CLOCK_SKEW else None


def _canonical(request: Request, claim: SignedClaim) -> str:
    """Return the canonical request: the signed part of a request."""
    path, _, query = request.uri.partition("?")
    if claim.service != "s3":
        from botocore.utils import normalize_url_path

        path = quote(normalize_url_path(path), safe="/~")
    if query:
        # In the order of names, and of values for the same name. A signature in the query cannot cover itself.
        is_signature = claim.expires is not None
        pairs = sorted(part.partition("=") for part in query.split("&"))
        query = "&".join(
            f"{name}={value}" for name, _, value in pairs if not (is_signature and name == "X-Amz-Signature")
        )
    headers = request.headers
    names = sorted(claim.signed_headers)
    lines = "".join([f"{name}:{_single_spaced(headers.get(name, ''))}\n" for name in names])
    return f"{request.method}\n{path}\n{query}\n{lines}\n{';'.join(names)}\n{payload(request, claim)}"


def _single_spaced(value: str) -> str:
    return _SPACES.sub(" ", value) if "  " in value or "\t" in value else value


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _header_claim(header: str, headers: Mapping[str, str]) -> SignedClaim | None:
    # The whole header: a part behind the signature could name another service to another reader.
    match = _AUTHORIZATION.fullmatch(header)
    timestamp = headers.get("x-amz-date", "")
    signed_at = _time(timestamp)
    if match is None or signed_at is None:
        return None
    access_key, date, region, service, names, signature = match.groups()
    signed, token = tuple(names.split(";")), headers.get(_TOKEN, "")
    return SignedClaim(access_key, date, region, service, signed, signature, signed_at, token, None, timestamp)


def _query_claim(query: Mapping[str, str]) -> SignedClaim | None:
    scope = _CREDENTIAL.fullmatch(query.get("X-Amz-Credential", ""))
    timestamp, expires = query.get("X-Amz-Date", ""), query.get("X-Amz-Expires", "")
    signed_at = _time(timestamp)
    names, signature = query.get("X-Amz-SignedHeaders", ""), query.get("X-Amz-Signature", "")
    if scope is None or signed_at is None or query.get("X-Amz-Algorithm") != ALGORITHM:
        return None
    if not expires.isdecimal() or len(expires) > 9 or not _NAMES.fullmatch(names) or not SHA256.fullmatch(signature):
        return None
    access_key, date, region, service = scope.groups()
    token, signed = query.get("X-Amz-Security-Token", ""), tuple(names.split(";"))
    return SignedClaim(access_key, date, region, service, signed, signature, signed_at, token, int(expires), timestamp)


def _time(timestamp: str) -> datetime | None:
    # Ten times as fast as strptime.
    try:
        return datetime.fromisoformat(timestamp).replace(tzinfo=UTC) if _TIME.fullmatch(timestamp) else None
    except ValueError:
        return None


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
