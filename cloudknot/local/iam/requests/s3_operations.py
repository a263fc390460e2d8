"""The operations of S3 by method and query, with the action that each needs.

Only operations that the embedded cloud answers are listed. Every other name in a query is refused.

Sources: Amazon S3 API reference; Service Authorization Reference, "Actions, resources, and condition keys for Amazon
S3".
"""

# botocore's model of S3 would give the methods and queries, but not the actions. Loading it takes 0.1 s, in which a
# new cloud could answer a hundred requests.

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_PAGE = "delimiter encoding-type max-keys prefix"
_BUCKETS = "bucket-region continuation-token max-buckets prefix"
_V2 = f"continuation-token fetch-owner start-after {_PAGE}"
_UPLOADS = "delimiter encoding-type key-marker max-uploads prefix upload-id-marker"
_VERSIONS = f"key-marker version-id-marker {_PAGE}"
_ANSWER_HEADERS = "cache-control content-disposition content-encoding content-language content-type expires"
_READ = "partNumber versionId " + " ".join(f"response-{name}" for name in _ANSWER_HEADERS.split())
_TABLE = f"""
    service GET     -          ListBuckets             ListAllMyBuckets            {_BUCKETS}
    bucket  HEAD    -          HeadBucket              ListBucket
    bucket  GET     -          ListObjects             ListBucket                  marker {_PAGE}
    bucket  GET     list-type  ListObjectsV2           ListBucket                  {_V2}
    bucket  GET     uploads    ListMultipartUploads    ListBucketMultipartUploads  {_UPLOADS}
    bucket  GET     versions   ListObjectVersions      ListBucketVersions          {_VERSIONS}
    bucket  PUT     -          CreateBucket            CreateBucket
    bucket  DELETE  -          DeleteBucket            DeleteBucket
    bucket  POST    delete     DeleteObjects           DeleteObject
    bucket  DELETE  policy     DeleteBucketPolicy      DeleteBucketPolicy
    bucket  GET     location   GetBucketLocation       GetBucketLocation
    object  HEAD    -          HeadObject              GetObject                   {_READ}
    object  GET     -          GetObject               GetObject                   {_READ}
    object  GET     acl        GetObjectAcl            GetObjectAcl                versionId
    object  GET     tagging    GetObjectTagging        GetObjectTagging            versionId
    object  GET     attributes GetObjectAttributes     GetObjectAttributes         versionId
    object  GET     uploadId   ListParts               ListMultipartUploadParts    max-parts part-number-marker
    object  PUT     -          PutObject               PutObject
    object  PUT     uploadId   UploadPart              PutObject                   partNumber
    object  PUT     acl        PutObjectAcl            PutObjectAcl                versionId
    object  PUT     tagging    PutObjectTagging        PutObjectTagging            versionId
    object  DELETE  -          DeleteObject            DeleteObject                versionId
    object  DELETE  tagging    DeleteObjectTagging     DeleteObjectTagging         versionId
    object  DELETE  uploadId   AbortMultipartUpload    AbortMultipartUpload
    object  POST    uploads    CreateMultipartUpload   PutObject
    object  POST    uploadId   CompleteMultipartUpload PutObject
"""
_CONFIGURATIONS = """
    acl               BucketAcl               GET PUT
    cors              BucketCORS              GET PUT DELETE
    encryption        EncryptionConfiguration GET PUT DELETE
    lifecycle         LifecycleConfiguration  GET PUT DELETE
    ownershipControls BucketOwnershipControls GET PUT DELETE
    policy            BucketPolicy            GET PUT
    publicAccessBlock BucketPublicAccessBlock GET PUT DELETE
    tagging           BucketTagging           GET PUT DELETE
    versioning        BucketVersioning        GET PUT
"""
"""Configurations of a bucket: the name in the query, that in actions after ``Get`` and ``Put``, and the methods."""
_VERSIONED = {
    "GetObject": "GetObjectVersion",
    "GetObjectAcl": "GetObjectVersionAcl",
    "GetObjectAttributes": "GetObjectVersionAttributes",
    "GetObjectTagging": "GetObjectVersionTagging",
    "PutObjectAcl": "PutObjectVersionAcl",
    "PutObjectTagging": "PutObjectVersionTagging",
    "DeleteObject": "DeleteObjectVersion",
    "DeleteObjectTagging": "DeleteObjectVersionTagging",
}
"""The actions on a named version of an object."""


@dataclass(frozen=True)
class Operation:
    """An operation of S3: its name, the action in policies, and the names that its query may have.

    ``configuration`` is the name of a bucket's configuration in the query, for operations on one.
    """

    name: str
    action: str
    arguments: frozenset[str]
    configuration: str = ""

    def action_for(self, query: Mapping[str, str]) -> str:
        """Return the action that a request with this query needs."""
        return f"s3:{_VERSIONED.get(self.action, self.action) if 'versionId' in query else self.action}"


def _rows() -> Iterator[tuple[tuple[str, str, str], Operation]]:
    for line in _TABLE.strip().splitlines():
        level, method, selector, name, action, *arguments = line.split()
        selector = selector.strip("-")
        kind = "policy" if selector == "policy" else ""
        yield (level, method, selector), Operation(name, action, frozenset({*arguments, selector} - {""}), kind)
    for line in _CONFIGURATIONS.strip().splitlines():
        selector, name, *methods = line.split()
        for method in methods:
            # Only the deletion of a policy has an action of its own.
            verb = "Get" if method == "GET" else "Put"
            operation = Operation(f"{method.title()}{name}", f"{verb}{name}", frozenset({selector}), selector)
            yield ("bucket", method, selector), operation


OPERATIONS: Mapping[tuple[str, str, str], Operation] = dict(_rows())
"""By level, method and the name in the query that selects the operation, empty if none does."""
SELECTORS = frozenset(selector for _, _, selector in OPERATIONS if selector)
"""The names in a query that select an operation."""
