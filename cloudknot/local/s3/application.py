"""S3Application: Amazon S3 as a WSGI application in front of an object store."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from wsgiref.types import StartResponse, WSGIEnvironment

from cloudknot.local.directory.state import ACCOUNT, REGION
from cloudknot.local.iam.requests.objects import S3Request
from cloudknot.local.iam.requests.received import received
from cloudknot.local.s3.errors import S3Error
from cloudknot.local.s3.protocol.answers import Reply, error_reply
from cloudknot.local.s3.protocol.buckets import Buckets
from cloudknot.local.s3.protocol.configurations import Configurations
from cloudknot.local.s3.protocol.incoming import Incoming
from cloudknot.local.s3.protocol.listing import Listings
from cloudknot.local.s3.protocol.multipart import Multipart
from cloudknot.local.s3.protocol.objects import Objects
from cloudknot.local.s3.store import ObjectStore
from cloudknot.local.wsgi import ServiceError
from cloudknot.worker.s3.owners import HEADER, SOURCE_HEADER

LONGEST_KEY = 1024
"""Bytes (Amazon S3 user guide, "Naming Amazon S3 objects")."""
_ACCOUNT = re.compile(r"[0-9]{12}")
Operate = Callable[[S3Request, Incoming], Reply]
"""Answers an operation."""


class S3Application:
    """The WSGI application that answers requests to S3 after their one reading.

    Parameters
    ----------
    store : ObjectStore
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._operations = _operations(store)
        self._configurations = Configurations(store)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = received(environ).target
        assert isinstance(request, S3Request)
        try:
            reply = self._answer(request, Incoming(environ))
        except ServiceError as error:
            reply = error_reply(error, f"/{request.bucket}/{request.key}" if request.bucket else "/")
        return reply.send(start_response, request.method == "HEAD")

    def bucket_owner(self, bucket: str) -> str:
        """Return the account that owns a bucket, or an empty string if the bucket does not exist."""
        try:
            return self._store.bucket(bucket).owner
        except S3Error:
            return ""

    def _answer(self, request: S3Request, body: Incoming) -> Reply:
        key, headers = request.key, request.headers
        # No character has more than four bytes.
        if len(key) * 4 > LONGEST_KEY and len(key.encode()) > LONGEST_KEY:
            raise S3Error("KeyTooLongError", message="Your key is too long")
        if HEADER in headers:
            self._check_owner(request.bucket, headers[HEADER])
        if request.source is not None and SOURCE_HEADER in headers:
            self._check_owner(request.source[0], headers[SOURCE_HEADER])
        if request.operation.configuration:
            return self._configurations.answer(request, body)
        return self._operations[request.operation.name](request, body)

    def _check_owner(self, bucket: str, expected: str) -> None:
        """Raise an error if a bucket has another owner than its client expects.

        See the Amazon S3 user guide, "Verifying bucket ownership with bucket owner condition".
        """
        if not _ACCOUNT.fullmatch(expected):
            message = "The expected bucket owner must be an account ID"
            raise S3Error("InvalidBucketOwnerAWSAccountID", message=message)
        # A bucket that does not exist is reported as such, whoever is expected.
        if self.bucket_owner(bucket) not in ("", expected):
            raise S3Error("AccessDenied", bucket, "Access Denied", 403)


def _operations(store: ObjectStore) -> Mapping[str, Operate]:
    """Return the functions that answer the operations, by name."""
    buckets, objects, listing = Buckets(store, ACCOUNT, REGION), Objects(store), Listings(store)
    multipart = Multipart(store, objects)
    return {
        "AbortMultipartUpload": multipart.abort,
        "CompleteMultipartUpload": multipart.complete,
        "CreateBucket": buckets.create,
        "CreateMultipartUpload": multipart.create,
        "DeleteBucket": buckets.delete,
        "DeleteObject": objects.delete,
        "DeleteObjectTagging": objects.delete_tags,
        "DeleteObjects": objects.delete_several,
        "GetBucketLocation": buckets.location,
        "GetObject": objects.get,
        "GetObjectAcl": objects.get_acl,
        "GetObjectAttributes": objects.attributes,
        "GetObjectTagging": objects.get_tags,
        "HeadBucket": buckets.head,
        "HeadObject": objects.get,
        "ListBuckets": buckets.list,
        "ListMultipartUploads": listing.uploads,
        "ListObjectVersions": listing.versions,
        "ListObjects": listing.objects,
        "ListObjectsV2": listing.objects_v2,
        "ListParts": multipart.list_parts,
        "PutObject": objects.put,
        "PutObjectAcl": objects.put_acl,
        "PutObjectTagging": objects.put_tags,
        "UploadPart": multipart.put_part,
    }
