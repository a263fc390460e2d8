"""The accesses that a request to S3 needs. Pure, but for the keys of a DeleteObjects request, which are in its body.

Source: Amazon S3 user guide, "Required permissions for Amazon S3 API operations".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote
from xml.etree import ElementTree

from cloudknot.local.iam.policy import Access, Context

_BUCKET = {
    "accelerate": "AccelerateConfiguration",
    "acl": "BucketAcl",
    "cors": "BucketCORS",
    "encryption": "EncryptionConfiguration",
    "lifecycle": "LifecycleConfiguration",
    "location": "BucketLocation",
    "logging": "BucketLogging",
    "notification": "BucketNotification",
    "object-lock": "BucketObjectLockConfiguration",
    "ownershipControls": "BucketOwnershipControls",
    "policy": "BucketPolicy",
    "policyStatus": "BucketPolicyStatus",
    "publicAccessBlock": "BucketPublicAccessBlock",
    "replication": "ReplicationConfiguration",
    "requestPayment": "BucketRequestPayment",
    "tagging": "BucketTagging",
    "versioning": "BucketVersioning",
    "website": "BucketWebsite",
}
"""Subresources of a bucket, as the query names them, and what Get, Put and Delete act on."""
_OWN_DELETE = {"policy": "s3:DeleteBucketPolicy", "website": "s3:DeleteBucketWebsite"}
"""All other subresources of a bucket are deleted by who may put them."""
_LISTS = {"uploads": "s3:ListBucketMultipartUploads", "versions": "s3:ListBucketVersions"}
_OBJECT = {"acl": "ObjectAcl", "tagging": "ObjectTagging", "retention": "ObjectRetention", "legal-hold": "LegalHold"}
_OWN_NAMES = ("127.0.0.1", "localhost")
_CONDITIONS = {"prefix": "s3:prefix", "delimiter": "s3:delimiter", "max-keys": "s3:max-keys"}


def accesses(environ: Mapping[str, Any], common: Context) -> Iterator[Access]:
    """What a path-style request needs. ``common`` are condition keys that every request has."""
    path = environ["REQUEST_URI"].partition("?")[0]
    bucket, _, key = unquote(path.lstrip("/") if path.startswith("//") else path[1:]).partition("/")
    query = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"], keep_blank_values=True).items()}
    method = environ["REQUEST_METHOD"]
    if environ.get("HTTP_HOST", "").rpartition(":")[0] not in _OWN_NAMES:
        # A name before the host's is a bucket, which nothing of cloudknot's asks for here.
        yield Access("s3:VirtualHostedRequest", "*", common)
    elif not bucket:
        yield Access("s3:ListAllMyBuckets", "*", common)
    elif key:
        yield from _of_object(method, f"arn:aws:s3:::{bucket}/{key}", query, environ, common)
    else:
        yield from _of_bucket(method, f"arn:aws:s3:::{bucket}", query, environ, common)


def missing_keys_shown(environ: Mapping[str, Any], common: Context) -> Access | None:
    """What a caller must be allowed to learn that an object does not exist; None when it does not ask for one.

    A look at one object has no ``s3:prefix`` (Amazon S3 API reference, "GetObject", Permissions).
    """
    bucket, _, key = environ["PATH_INFO"].lstrip("/").partition("/")
    asks = key and environ["REQUEST_METHOD"] in ("GET", "HEAD")
    return Access("s3:ListBucket", f"arn:aws:s3:::{bucket}", common) if asks else None


def _of_bucket(
    method: str, arn: str, query: Mapping[str, str], environ: Mapping[str, Any], common: Context
) -> Iterator[Access]:
    part = next((name for name in _BUCKET if name in query), None)
    listed = next((name for name in _LISTS if name in query), None)
    if method == "POST" and "delete" in query:
        for key in _deleted(environ):
            yield Access("s3:DeleteObject", f"{arn}/{key}", common)
    elif part is not None:
        deletes = method == "DELETE" and part in _OWN_DELETE
        verb = "Get" if method in ("GET", "HEAD") else "Put"
        yield Access(_OWN_DELETE[part] if deletes else f"s3:{verb}{_BUCKET[part]}", arn, common)
    elif method in ("GET", "HEAD"):
        asked = {condition: (query[name],) for name, condition in _CONDITIONS.items() if name in query}
        yield Access(_LISTS[listed] if listed else "s3:ListBucket", arn, {**common, **asked})
    else:
        yield Access("s3:CreateBucket" if method == "PUT" else "s3:DeleteBucket", arn, common)


def _of_object(
    method: str, arn: str, query: Mapping[str, str], environ: Mapping[str, Any], common: Context
) -> Iterator[Access]:
    part = next((name for name in _OBJECT if name in query), None)
    version = "Version" if "versionId" in query else ""
    if part is not None:
        verb = {"GET": "Get", "HEAD": "Get", "DELETE": "Delete"}.get(method, "Put")
        yield Access(f"s3:{verb}{_OBJECT[part]}", arn, common)
    elif "uploadId" in query and method in ("GET", "DELETE"):
        action = "s3:ListMultipartUploadParts" if method == "GET" else "s3:AbortMultipartUpload"
        yield Access(action, arn, common)
    elif method in ("GET", "HEAD"):
        yield Access(f"s3:GetObject{version}", arn, common)
    elif method == "DELETE":
        yield Access(f"s3:DeleteObject{version}", arn, common)
    else:
        yield Access("s3:PutObject", arn, common)
        if "HTTP_X_AMZ_COPY_SOURCE" in environ:
            source = unquote(environ["HTTP_X_AMZ_COPY_SOURCE"]).lstrip("/").partition("?")[0]
            yield Access("s3:GetObject", f"arn:aws:s3:::{source}", common)


def _deleted(environ: Mapping[str, Any]) -> list[str]:
    """The keys of a DeleteObjects request; all keys when it cannot be understood."""
    body = environ["wsgi.input"].read()
    environ["wsgi.input"].seek(0)
    try:
        return [element.text or "" for element in ElementTree.fromstring(body).iterfind(".//{*}Object/{*}Key")]
    except ElementTree.ParseError:
        return ["*"]
