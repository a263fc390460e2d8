"""The properties of objects in the headers of requests and answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

from cloudknot.local.iam.requests.objects import S3Request
from cloudknot.local.s3.errors import S3Error
from cloudknot.local.s3.protocol.answers import canonical_id, http_time
from cloudknot.local.s3.protocol.checksums import PREFIX, Checksum, type_of
from cloudknot.local.s3.protocol.documents import checked_tags, parsed
from cloudknot.local.s3.records import ObjectVersion, Properties

METADATA = "x-amz-meta-"
SOURCE_VERSION = "x-amz-copy-source-version-id"
DEFAULT_TYPE = "binary/octet-stream"
MOST_TAGS = 10
_LONGEST_METADATA = 2048
"""Bytes of names and values (Amazon S3 user guide, "Working with object metadata")."""
_STORED = ("cache-control", "content-disposition", "content-encoding", "content-language", "expires")
COPY_HEADERS = (
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-storage-class",
    "x-amz-website-redirect-location",
)
"""Properties that a copy has only if its request names them."""
_REFUSED = (
    "x-amz-object-lock",
    "x-amz-server-side-encryption-customer",
    "x-amz-write-offset-bytes",
)
"""The beginnings of headers that ask for something which the embedded cloud does not do."""
_ACLS = frozenset({"", "private", "bucket-owner-full-control", "bucket-owner-read"})
"""The canned ACLs that give rights to the owner only. Buckets have no others by default."""
_RESPONSE = "response-"
_STORAGE_CLASS = re.compile("[A-Z_]+")


def stored_properties(request: S3Request, checksum: Checksum | None = None) -> Properties:
    """Return the properties that a request gives to an object."""
    headers = request.headers
    found = {name: headers[name] for name in _STORED if name in headers}
    for name, value in headers.items():
        if not name.startswith("x-amz-"):
            continue
        if name.startswith(METADATA) or name in COPY_HEADERS:
            found[name] = value
        elif name.startswith(_REFUSED):
            message = f"A header you provided implies functionality that is not implemented: {name}"
            raise S3Error("NotImplemented", message=message, status=501)
    check_acl(request)
    storage = found.get("x-amz-storage-class", "STANDARD")
    if not _STORAGE_CLASS.fullmatch(storage):
        raise S3Error("InvalidStorageClass", message="The storage class you specified is not valid")
    if storage == "STANDARD":
        found.pop("x-amz-storage-class", None)
    if "content-encoding" in found:
        # The encoding of the transfer is no property of the object.
        encodings = [name.strip() for name in found.pop("content-encoding").split(",")]
        if kept := ",".join(name for name in encodings if name != "aws-chunked"):
            found["content-encoding"] = kept
    if request.content_type:
        found["content-type"] = request.content_type
    _check_metadata(found)
    return Properties(found, header_tags(headers), checksum)


def check_acl(request: S3Request, document: bytes = b"", owner: str = "") -> None:
    """Raise an error if a request gives rights to others than the owner of the bucket.

    ``document`` is the body with a list of grants, and ``owner`` the number of the owner's account.
    """
    grants = any(name.startswith("x-amz-grant-") for name in request.headers)
    if document:
        own = {(canonical_id(owner), "FULL_CONTROL")}
        found = parsed(document, {"AccessControlPolicy"}).iter("Grant")
        grants = {(grant.findtext("Grantee/ID"), grant.findtext("Permission")) for grant in found} != own
    if grants or request.headers.get("x-amz-acl", "") not in _ACLS:
        raise S3Error("AccessControlListNotSupported", message="The bucket does not allow ACLs")


def _check_metadata(found: Mapping[str, str]) -> None:
    size = sum(len(name) - len(METADATA) + len(found[name]) for name in found if name.startswith(METADATA))
    if size > _LONGEST_METADATA:
        raise S3Error("MetadataTooLarge", message="Your metadata headers exceed the maximum allowed metadata size")


def header_tags(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the tags in the header ``x-amz-tagging``."""
    text = headers.get("x-amz-tagging")
    if not text:
        return {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True)
    except ValueError as error:
        raise S3Error("InvalidArgument", message="The header 'x-amz-tagging' shall be encoded as UTF-8.") from error
    return checked_tags(pairs, MOST_TAGS)


def object_headers(version: ObjectVersion, query: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    """Return the headers of an object. ``query`` may replace some of them."""
    stored = version.properties.headers
    found = [
        ("Last-Modified", http_time(int(version.modified))),
        ("ETag", f'"{version.etag}"'),
        ("Accept-Ranges", "bytes"),
        ("Content-Type", stored.get("content-type", DEFAULT_TYPE)),
    ]
    found += [(name, value) for name, value in stored.items() if name != "content-type"]
    found += version_headers(version)
    if version.properties.tags:
        found.append(("x-amz-tagging-count", str(len(version.properties.tags))))
    if query:
        replaced = {name[len(_RESPONSE) :]: value for name, value in query.items() if name.startswith(_RESPONSE)}
        found = [(name, value) for name, value in found if name.lower() not in replaced] + list(replaced.items())
    return found


def version_headers(version: ObjectVersion, name: str = "x-amz-version-id") -> list[tuple[str, str]]:
    """Return the header that names a version, if its bucket keeps versions or did."""
    return [(name, version.version)] if version.is_versioned else []


def checksum_headers(checksum: Checksum | None) -> list[tuple[str, str]]:
    """Return the headers of a checksum."""
    if checksum is None:
        return []
    return [(PREFIX + checksum[0].lower(), checksum[1]), (PREFIX + "type", type_of(checksum))]


def encryption_headers(properties: Properties) -> list[tuple[str, str]]:
    """Return the headers about encryption that the request for an object asked for."""
    return [(name, value) for name, value in properties.headers.items() if name.startswith("x-amz-server-side")]


def checksum_members(checksum: Checksum | None) -> dict[str, object]:
    """Return the elements of a checksum in a document."""
    return {} if checksum is None else {f"Checksum{checksum[0]}": checksum[1], "ChecksumType": type_of(checksum)}
