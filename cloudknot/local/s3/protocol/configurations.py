"""Configurations: documents about a bucket. They are stored as they arrive.

Lifecycle rules and versioning take effect. Bucket policies, CORS rules, encryption and blocks of public access do not.
Every request here is signed with a key of this cloud, and comes over loopback, where nobody can intercept it. A
policy against requests without TLS, such as the one that cloudknot gives its buckets, would refuse every request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from cloudknot.local.iam.requests.objects import S3Request
from cloudknot.local.s3.errors import S3Error
from cloudknot.local.s3.protocol.answers import Reply, canonical_id, document, text_reply
from cloudknot.local.s3.protocol.documents import malformed, parsed, tags_in
from cloudknot.local.s3.protocol.incoming import Incoming
from cloudknot.local.s3.protocol.properties import check_acl
from cloudknot.local.s3.store import ObjectStore

_XSI = "http://www.w3.org/2001/XMLSchema-instance"


@dataclass(frozen=True)
class ConfigurationKind:
    """A kind of configuration: the root of its document, the status for storing it, and the answer without one.

    ``missing`` is the code and the message of an error, or, with an empty code, the content of a default document.
    """

    root: str
    status: int
    missing: tuple[str, str]


_DEFAULT_ENCRYPTION = (
    "<Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm>"
    "</ApplyServerSideEncryptionByDefault><BucketKeyEnabled>false</BucketKeyEnabled></Rule>"
)
_BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
_KINDS: Mapping[str, ConfigurationKind] = {
    "cors": ConfigurationKind(
        "CORSConfiguration", 200, ("NoSuchCORSConfiguration", "The CORS configuration does not exist")
    ),
    # The defaults of new buckets (Amazon S3 user guide, "General purpose buckets overview").
    "encryption": ConfigurationKind("ServerSideEncryptionConfiguration", 200, ("", _DEFAULT_ENCRYPTION)),
    "lifecycle": ConfigurationKind(
        "LifecycleConfiguration",
        200,
        ("NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist"),
    ),
    "ownershipControls": ConfigurationKind(
        "OwnershipControls", 200, ("", "<Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule>")
    ),
    "policy": ConfigurationKind("", 204, ("NoSuchBucketPolicy", "The bucket policy does not exist")),
    "publicAccessBlock": ConfigurationKind(
        "PublicAccessBlockConfiguration", 200, ("", "".join(f"<{name}>true</{name}>" for name in _BLOCKS))
    ),
    "tagging": ConfigurationKind("Tagging", 204, ("NoSuchTagSet", "The TagSet does not exist")),
}


class Configurations:
    """The operations on the configurations of buckets.

    Parameters
    ----------
    store : ObjectStore
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def answer(self, request: S3Request, body: Incoming) -> Reply:
        """Answer a request for a configuration."""
        name, bucket = request.operation.configuration, self._store.bucket(request.bucket)
        if name == "acl":
            if request.method == "GET":
                return text_reply(access_control_list(bucket.owner))
            check_acl(request, body.document(), bucket.owner)
            return Reply()
        if name == "versioning":
            return self._set_versioning(request, body) if request.method == "PUT" else _versioning(bucket.versioning)
        if request.method == "GET":
            return self._get(request.bucket, name)
        if request.method == "DELETE":
            self._store.set_configuration(request.bucket, name, None)
            return Reply(204)
        content = body.document()
        _check(name, content)
        self._store.set_configuration(request.bucket, name, content)
        return Reply(_KINDS[name].status)

    def _get(self, bucket: str, name: str) -> Reply:
        content, kind = self._store.configuration(bucket, name), _KINDS[name]
        if content is not None:
            content_type = "application/xml" if kind.root else "application/json"
            return Reply(200, [("Content-Type", content_type)], content)
        code, text = kind.missing
        if code:
            raise S3Error(code, bucket, text, 404)
        return text_reply(f"{document(kind.root)}{text}</{kind.root}>")

    def _set_versioning(self, request: S3Request, body: Incoming) -> Reply:
        root = parsed(body.document(), {"VersioningConfiguration"})
        status = root.findtext("Status")
        if status not in ("Enabled", "Suspended"):
            raise S3Error(
                "IllegalVersioningConfigurationException", request.bucket, "The Versioning element is missing"
            )
        if root.findtext("MfaDelete", "Disabled") != "Disabled":
            raise S3Error("NotImplemented", request.bucket, "MFA delete is not implemented", 501)
        self._store.set_versioning(request.bucket, status)
        return Reply()


def access_control_list(owner: str) -> str:
    """Return the list of grants of a bucket or object: everything for its owner."""
    number, root = canonical_id(owner), "AccessControlPolicy"
    grantee = f'<Grantee xmlns:xsi="{_XSI}" xsi:type="CanonicalUser"><ID>{number}</ID></Grantee>'
    grant = f"<Grant>{grantee}<Permission>FULL_CONTROL</Permission></Grant>"
    return f"{document(root)}<Owner><ID>{number}</ID></Owner><AccessControlList>{grant}</AccessControlList></{root}>"


def _versioning(status: str) -> Reply:
    root = "VersioningConfiguration"
    return text_reply(f"{document(root)}{f'<Status>{status}</Status>' if status else ''}</{root}>")


def _check(name: str, content: bytes) -> None:
    """Raise an error for a document that is none of this kind."""
    if name == "tagging":
        tags_in(content)
    elif name == "policy":
        try:
            policy = json.loads(content)
        except ValueError:
            policy = None
        if not isinstance(policy, dict):
            raise S3Error("MalformedPolicy", message="Policies must be valid JSON and the first byte must be '{'")
    elif not len(parsed(content, {_KINDS[name].root})):
        raise malformed("the document is empty")
