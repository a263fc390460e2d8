"""Bucket policies, stored but not enforced: a layer in front of moto's S3.

moto enforces a bucket policy but ignores its conditions, so a policy against requests without TLS would refuse every
request. Here requests are signed and travel over loopback, where nobody can intercept them.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import replace
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from cloudknot.local import wsgi
from cloudknot.local.iam.requests.objects import S3Request
from cloudknot.local.iam.requests.received import RECEIVED, received
from cloudknot.local.iam.requests.s3_operations import OPERATIONS


class BucketPolicies:
    """The WSGI application that answers requests for ``/<bucket>?policy``, and forwards all others.

    Parameters
    ----------
    s3 : WSGI application
        moto's S3.
    """

    def __init__(self, s3: WSGIApplication) -> None:
        self._s3 = s3
        self._policies: dict[str, bytes] = {}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = received(environ).target
        assert isinstance(request, S3Request)
        bucket, operation = request.bucket, request.operation.name
        if operation == "DeleteBucket":
            # A bucket of this name that is created later must not inherit the policy.
            self._policies.pop(bucket, None)
        if not operation.endswith("BucketPolicy"):
            return self._s3(environ, start_response)
        if request.method == "PUT" and self._exists(environ, request):
            self._policies[bucket] = environ["wsgi.input"].read()
            return wsgi.send(start_response, b"", status=204)
        if request.method == "DELETE" and self._policies.pop(bucket, None) is not None:
            return wsgi.send(start_response, b"", status=204)
        if request.method == "GET" and bucket in self._policies:
            return wsgi.send(start_response, self._policies[bucket], "application/json")
        if request.method == "GET" and self._exists(environ, request):
            kind, body = wsgi.error_body("s3", "NoSuchBucketPolicy", "The bucket policy does not exist")
            return wsgi.send(start_response, body, kind, 404)
        return self._s3(environ, start_response)

    def _exists(self, environ: WSGIEnvironment, request: S3Request) -> bool:
        """Return whether the bucket exists, by a HEAD request to moto."""
        head = replace(request, method="HEAD", query={}, headers={}, operation=OPERATIONS["bucket", "HEAD", ""])
        changed = {RECEIVED: replace(received(environ), target=head), "REQUEST_METHOD": "HEAD"}
        status, _ = wsgi.ask(self._s3, environ, {**changed, "wsgi.input": io.BytesIO(), "CONTENT_LENGTH": "0"})
        return status.startswith("200")
