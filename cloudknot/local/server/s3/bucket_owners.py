"""The owners of buckets: a layer in front of moto's S3, which ignores the expected owner in a request.

See the Amazon S3 user guide, "Verifying bucket ownership with bucket owner condition".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from cloudknot.local import wsgi
from cloudknot.local.directory.state import ACCOUNT
from cloudknot.local.iam.requests.objects import S3Request
from cloudknot.local.iam.requests.received import received
from cloudknot.worker.s3.owners import HEADER, SOURCE_HEADER

_IN_ACCOUNT = "HTTP_X_CLOUDKNOT_ACCOUNT"
_others: dict[str, str] = {}
"""The other accounts that own buckets, by bucket."""


class OwnerCheck:
    """The WSGI application that refuses requests for a bucket of another owner than they expect.

    With the header ``x-cloudknot-account``, the cloud's owner creates a bucket in another account. It is open to all
    accounts, as that of an attacker would be.

    Parameters
    ----------
    s3 : WSGI application
        moto's S3.
    """

    def __init__(self, s3: WSGIApplication) -> None:
        self._s3 = s3

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = received(environ).target
        assert isinstance(request, S3Request)
        source = request.source[0] if request.source else ""
        for header, bucket in ((HEADER, request.bucket), (SOURCE_HEADER, source)):
            expected = request.headers.get(header)
            if expected is None:
                continue
            if not re.fullmatch(r"\d{12}", expected):
                code, text = "InvalidBucketOwnerAWSAccountID", "The expected bucket owner must be an account ID"
                return wsgi.refuse(environ, start_response, "s3", 400, code, text)
            # A bucket that does not exist is reported as such, whoever is expected.
            if owner_of(bucket) not in ("", expected):
                return wsgi.refuse(environ, start_response, "s3", 403, "AccessDenied", "Access Denied")
        if request.operation.name == "DeleteBucket":
            _others.pop(request.bucket, None)
        account = environ.get(_IN_ACCOUNT)
        if request.operation.name == "CreateBucket" and not owner_of(request.bucket):
            _others.pop(request.bucket, None)
            if account and environ["cloudknot.principal"] is None:
                _others[request.bucket] = account
        return self._s3(environ, start_response)


def owner_of(bucket: str) -> str:
    """Return the account that owns a bucket, or an empty string if the bucket does not exist."""
    from moto.s3.models import s3_backends

    return _others.get(bucket, ACCOUNT) if bucket in s3_backends[ACCOUNT]["aws"].buckets else ""
