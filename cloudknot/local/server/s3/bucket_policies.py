"""Bucket policies, stored but not enforced: a layer in front of moto's S3.

moto enforces a bucket policy but ignores its conditions, so a policy against requests without TLS would refuse every
request. Here requests are signed and travel over loopback, where nobody can intercept them.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from cloudknot.local import wsgi


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
        bucket, _, key = environ["PATH_INFO"].lstrip("/").partition("/")
        method, query = environ["REQUEST_METHOD"], environ.get("QUERY_STRING", "")
        # Clients send the query as "policy" or as "policy=".
        if key or query.rstrip("=") not in ("", "policy"):
            return self._s3(environ, start_response)
        if not query:
            if method == "DELETE":
                # A bucket of this name that is created later must not inherit the policy.
                self._policies.pop(bucket, None)
            return self._s3(environ, start_response)
        if method == "PUT" and self._exists(environ):
            self._policies[bucket] = environ["wsgi.input"].read()
            return wsgi.send(start_response, b"", status=204)
        if method == "DELETE" and self._policies.pop(bucket, None) is not None:
            return wsgi.send(start_response, b"", status=204)
        if method == "GET" and bucket in self._policies:
            return wsgi.send(start_response, self._policies[bucket], "application/json")
        if method == "GET" and self._exists(environ):
            kind, body = wsgi.error_body("s3", "NoSuchBucketPolicy", "The bucket policy does not exist")
            return wsgi.send(start_response, body, kind, 404)
        return self._s3(environ, start_response)

    def _exists(self, environ: WSGIEnvironment) -> bool:
        """Return whether the bucket exists, by a HEAD request to moto."""
        path = environ["PATH_INFO"]
        head = {"REQUEST_METHOD": "HEAD", "QUERY_STRING": "", "wsgi.input": io.BytesIO(), "CONTENT_LENGTH": "0"}
        status, _ = wsgi.ask(self._s3, environ, {**head, "RAW_URI": path, "REQUEST_URI": path})
        return status.startswith("200")
