"""Bucket policies, kept but not enforced: in front of moto's S3.

moto enforces a bucket policy without looking at its conditions, so one that refuses requests without TLS would refuse
every request. Here requests come over loopback, which nobody listens in on, and are signed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any

from cloudknot.local import wsgi

WSGIApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class BucketPolicies:
    """Answers the requests for ``/<bucket>?policy``, and hands all others on.

    Parameters
    ----------
    s3 : WSGI application
    """

    def __init__(self, s3: WSGIApplication) -> None:
        self._s3 = s3
        self._policies: dict[str, bytes] = {}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        bucket, _, key = environ["PATH_INFO"].lstrip("/").partition("/")
        method, query = environ["REQUEST_METHOD"], environ.get("QUERY_STRING", "")
        if key or query.rstrip("=") not in ("", "policy"):
            return self._s3(environ, start_response)
        if not query:
            if method == "DELETE":
                self._policies.pop(bucket, None)
            return self._s3(environ, start_response)
        if method == "PUT" and self._exists(environ):
            self._policies[bucket] = environ["wsgi.input"].read()
            return _answer(start_response, "204 No Content")
        if method == "DELETE" and self._policies.pop(bucket, None) is not None:
            return _answer(start_response, "204 No Content")
        if method == "GET" and bucket in self._policies:
            return _answer(start_response, "200 OK", "application/json", self._policies[bucket])
        if method == "GET" and self._exists(environ):
            kind, body = wsgi.body("s3", "NoSuchBucketPolicy", "The bucket policy does not exist")
            return _answer(start_response, "404 Not Found", kind, body)
        return self._s3(environ, start_response)

    def _exists(self, environ: dict[str, Any]) -> bool:
        """Whether there is such a bucket: a HEAD request to moto."""
        statuses: list[str] = []
        asked = {**environ, "REQUEST_METHOD": "HEAD", "QUERY_STRING": "", "wsgi.input": io.BytesIO()}
        asked["RAW_URI"] = asked["REQUEST_URI"] = environ["PATH_INFO"]
        list(self._s3({**asked, "CONTENT_LENGTH": "0"}, lambda status, headers, *_: statuses.append(status)))
        return statuses[0].startswith("200")


def _answer(start_response: Callable[..., Any], status: str, kind: str = "", body: bytes = b"") -> Iterable[bytes]:
    start_response(status, [*([("Content-Type", kind)] if kind else []), ("Content-Length", str(len(body)))])
    return [body]
