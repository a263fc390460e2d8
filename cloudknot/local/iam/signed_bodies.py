"""The forms in which a request to S3 sends and signs its body."""

from __future__ import annotations

from collections.abc import Mapping

from cloudknot.local.iam.chunk_signatures import ChunkSignatures
from cloudknot.local.iam.chunked_body import ChunkedBody
from cloudknot.local.iam.plain_body import MESSAGE, MISMATCH, PlainBody
from cloudknot.local.iam.signing import (
    DIGEST,
    EMPTY,
    SHA256,
    UNSIGNED,
    AccessKey,
    Readable,
    Request,
    SignedClaim,
    payload,
)
from cloudknot.local.wsgi import ServiceError

_CHUNKS: Mapping[str, tuple[bool, bool]] = {
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD": (True, False),
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER": (True, True),
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER": (False, True),
}
"""Whether chunks are signed, and whether trailers follow, by the value of the header with the digest."""
_LENGTH = "x-amz-decoded-content-length"
_TRAILER = "x-amz-trailer"


def check_body(request: Request, claim: SignedClaim) -> None:
    """Refuse a request whose head describes its body in no form of AWS."""
    form, is_presigned = request.headers[DIGEST], claim.expires is not None
    if SHA256.fullmatch(form):
        if not request.length and form != EMPTY and not is_presigned:
            raise ServiceError(MISMATCH, MESSAGE)
    elif claim.service != "s3" or (form in _CHUNKS and is_presigned) or form not in (UNSIGNED, *_CHUNKS):
        message = f"{DIGEST} must be {UNSIGNED}, {', '.join(_CHUNKS)}, or a valid sha256 value."
        raise ServiceError("InvalidArgument", message)
    elif form in _CHUNKS:
        length = request.headers.get(_LENGTH, "")
        is_named = length.isascii() and length.isdecimal() and len(length) < 15
        if not (request.length and is_named):
            # Chunks have a last one without data, so even an empty object has a body.
            missing = "Content-Length" if is_named else _LENGTH
            raise ServiceError("MissingContentLength", f"You must provide the {missing} HTTP header.", 411)
        if bool(_trailers(request)) != _CHUNKS[form][1]:
            raise ServiceError("InvalidRequest", f"The header {_TRAILER} does not fit to {form}.")


def body_length(request: Request) -> int:
    """Return the bytes in the decoded body of a checked request."""
    return int(request.headers[_LENGTH]) if request.headers.get(DIGEST) in _CHUNKS else request.length


def signed_body(request: Request, claim: SignedClaim, key: AccessKey, source: Readable) -> PlainBody | ChunkedBody:
    """Return the body of a checked request. It is verified while it is read."""
    form = payload(request, claim)
    if form not in _CHUNKS:
        return PlainBody(source, request.length, form if form != UNSIGNED else None)
    signatures = ChunkSignatures(claim, key) if _CHUNKS[form][0] else None
    return ChunkedBody(source, body_length(request), signatures, _trailers(request))


def _trailers(request: Request) -> frozenset[str]:
    """Return the names of the announced trailers."""
    names = (name.strip().lower() for name in request.headers.get(_TRAILER, "").split(","))
    return frozenset(filter(None, names))
