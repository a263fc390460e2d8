"""Decoding of a request to S3 into bucket, key, operation and arguments."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree import ElementTree

from cloudknot.local.iam.requests import fields
from cloudknot.local.iam.requests.s3_operations import OPERATIONS, SELECTORS, Operation
from cloudknot.local.iam.signing import Request
from cloudknot.local.wsgi import ServiceError

COPY_SOURCE = "x-amz-copy-source"
MOST_DELETIONS = 1000
"""Objects in a request of DeleteObjects (Amazon S3 API reference, "DeleteObjects")."""
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_ENCODED_SLASH = re.compile("%2f", re.I)
_NUMBERS = ("max-buckets", "max-keys", "max-parts", "max-uploads", "part-number-marker", "partNumber")
_NEEDED = {"UploadPart": ("partNumber",)}
_LEVELS = {"object": "an object", "bucket": "a bucket", "service": "all buckets"}
_NAMED = frozenset(
    [
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-md5",
        "expires",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-unmodified-since",
        "range",
    ]
)
_UNNAMED = frozenset({"x-amz-date", "x-amz-security-token", "x-amz-user-agent"})
"""S3 reads the headers in the first set, and those that begin with ``x-amz-`` but are not in the second one."""


@dataclass(frozen=True)
class Deletion:
    """A key, and perhaps a version, in a request that deletes several objects."""

    key: str
    version: str = ""


@dataclass(frozen=True)
class S3Request:
    """A request to S3. Bucket and key are empty where the operation has none.

    ``headers`` holds those that S3 reads, by names in lower case. ``source`` is the bucket, the key and the version
    from which a copy is made. ``deletions`` are the objects that DeleteObjects deletes, and with ``is_quiet`` its
    answer leaves out the deleted ones.
    """

    method: str
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    operation: Operation
    content_type: str = ""
    source: tuple[str, str, str] | None = None
    deletions: tuple[Deletion, ...] = ()
    is_quiet: bool = False


def read_s3_request(request: Request, body: bytes | None) -> S3Request:
    """Return the S3 operation in a request. ``body`` is that of DeleteObjects.

    Raises
    ------
    ServiceError
        The request has several readings, or no service here understands it.
    """
    bucket, key = _place(request.path)
    query = fields.unique(request.query_pairs)
    # AWS's clients name the operation once more, for their own logs.
    query.pop("x-id", None)
    operation = _operation(request.method, bucket, key, query)
    headers = {
        name: value
        for name, value in request.headers.items()
        if name in _NAMED or (name.startswith("x-amz-") and name not in _UNNAMED)
    }
    source = None
    if COPY_SOURCE in headers:
        if operation.name not in ("PutObject", "UploadPart"):
            raise ServiceError("InvalidRequest", f"{operation.name} has no header {COPY_SOURCE}.")
        source = _source(headers[COPY_SOURCE])
    deletions, is_quiet = _deletions(body or b"") if operation.name == "DeleteObjects" else ((), False)
    content_type = request.headers.get("content-type", "")
    return S3Request(request.method, bucket, key, query, headers, operation, content_type, source, deletions, is_quiet)


def deletes_several(request: Request) -> bool:
    """Return whether the request names its objects in the body."""
    return request.method == "POST" and any(name == "delete" for name, _ in request.query_pairs)


def _place(path: str) -> tuple[str, str]:
    """Return the bucket and the key in a raw path."""
    if _ENCODED_SLASH.search(path):
        raise ServiceError("InvalidURI", "A slash in a path must not be encoded.")
    bucket, _, key = path[1:].partition("/")
    if (bucket or key or path != "/") and not _BUCKET.fullmatch(bucket):
        raise ServiceError("InvalidBucketName", f"{bucket!r} is not the name of a bucket.")
    key = fields.decoded(key)
    if "\0" in key:
        raise ServiceError("InvalidURI", "A key must not contain a zero byte.")
    return bucket, key


def _operation(method: str, bucket: str, key: str, query: Mapping[str, str]) -> Operation:
    level = "object" if key else "bucket" if bucket else "service"
    selectors = [name for name in query if name in SELECTORS]
    operation = OPERATIONS.get((level, method, "".join(selectors))) if len(selectors) < 2 else None
    if operation is None:
        named = " and ".join(selectors) or "no operation"
        message = f"S3 has no {method} of {_LEVELS[level]} with {named} in the query."
        raise ServiceError("MethodNotAllowed", message, 405)
    needed = {*_NEEDED.get(operation.name, ()), *({"uploadId"} & query.keys())}
    if missing := sorted(name for name in needed if not query.get(name)):
        raise ServiceError("InvalidArgument", f"{operation.name} needs a value for {', '.join(missing)}.")
    if unknown := sorted(query.keys() - operation.arguments):
        raise ServiceError("InvalidArgument", f"{operation.name} has no argument {', '.join(unknown)}.")
    if query.get("list-type", "2") != "2":
        raise ServiceError("InvalidArgument", "The only type of listing is 2.")
    _check_values(query)
    return operation


def _check_values(query: Mapping[str, str]) -> None:
    for name in _NUMBERS:
        if name in query and not (query[name].isdecimal() and len(query[name]) < 10):
            raise ServiceError("InvalidArgument", f"{name} must be a number, not {query[name]!r}.")
    if "continuation-token" in query:
        try:
            base64.b64decode(query["continuation-token"], validate=True).decode()
        except (binascii.Error, ValueError) as error:
            raise ServiceError("InvalidArgument", "The continuation token provided is incorrect") from error


def _source(header: str) -> tuple[str, str, str]:
    """Return bucket, key and version of the object that a copy reads."""
    path, _, query = header.removeprefix("/").partition("?")
    bucket, key = _place(f"/{path}")
    named = fields.unique(fields.pairs(query))
    if not key or named.keys() - {"versionId"}:
        raise ServiceError("InvalidArgument", f"{COPY_SOURCE} must be a bucket and a key.")
    return bucket, key, named.get("versionId", "")


def _deletions(body: bytes) -> tuple[tuple[Deletion, ...], bool]:
    """Return the objects in the body of DeleteObjects, and whether it asks for a quiet answer."""
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError as error:
        raise ServiceError("MalformedXML", "The body is no XML.") from error
    deletions, is_quiet = [], False
    for entry in root:
        if _tag(entry) == "Object":
            named = fields.unique((_tag(part), part.text or "") for part in entry)
            # Conditions on the deleted object are not supported, so a request with one is refused.
            if not named.get("Key") or named.keys() - {"Key", "VersionId"}:
                raise ServiceError("MalformedXML", "An Object must have one Key, and may have a VersionId.")
            deletions.append(Deletion(named["Key"], named.get("VersionId", "")))
        elif _tag(entry) == "Quiet":
            is_quiet = entry.text == "true"
        else:
            raise ServiceError("MalformedXML", f"Delete has no element {_tag(entry)!r}.")
    if not 0 < len(deletions) <= MOST_DELETIONS:
        raise ServiceError("MalformedXML", f"A request deletes between 1 and {MOST_DELETIONS} objects.")
    return tuple(deletions), is_quiet


def _tag(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]
