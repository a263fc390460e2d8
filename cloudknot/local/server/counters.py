"""How many requests the embedded cloud was asked, and how many bytes went in and out, by operation.

What a map costs in requests and bytes can be counted here, those of its jobs too, where on AWS there is only the bill.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING
from wsgiref.types import StartResponse, WSGIEnvironment

from cloudknot.worker.s3.plain_requests import WORKER_AGENT

if TYPE_CHECKING:
    from _typeshed import OptExcInfo

Counts = dict[str, dict[str, tuple[int, int, int]]]

_OF_S3 = (
    # Method, what the query holds, name: the first that fits counts.
    ("GET", "list-type=", "ListObjectsV2"),
    ("GET", "", "GetObject"),
    ("HEAD", "", "HeadObject"),
    ("PUT", "partNumber=", "UploadPart"),
    ("PUT", "", "PutObject"),
    ("POST", "uploads", "CreateMultipartUpload"),
    ("POST", "uploadId=", "CompleteMultipartUpload"),
    ("POST", "delete", "DeleteObjects"),
    ("DELETE", "uploadId=", "AbortMultipartUpload"),
)


class Counters:
    """Counts requests: those of the workers, and all others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[bool, str], list[int]] = defaultdict(lambda: [0, 0, 0])

    def counting(self, environ: WSGIEnvironment, start_response: StartResponse, service: str) -> StartResponse:
        """``start_response``, which counts the request when it is answered."""
        of_job = WORKER_AGENT in environ.get("HTTP_USER_AGENT", "")
        name = f"{service}:{operation(environ, service)}"
        received = int(environ.get("CONTENT_LENGTH") or 0)

        def counted(
            status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None, /
        ) -> Callable[[bytes], object]:
            sent = next((int(value) for key, value in headers if key.lower() == "content-length"), 0)
            with self._lock:
                count = self._counts[of_job, name]
                count[0] += 1
                count[1] += received
                count[2] += 0 if environ["REQUEST_METHOD"] == "HEAD" else sent
            return start_response(status, headers, exc_info)

        return counted

    def counts(self) -> Counts:
        """Of ``"workers"`` and ``"others"``: by operation, the requests, the bytes received and the bytes sent."""
        with self._lock:
            return {
                who: {name: (n, i, o) for (of_job, name), (n, i, o) in sorted(self._counts.items()) if of_job is its}
                for who, its in (("workers", True), ("others", False))
            }


def operation(environ: WSGIEnvironment, service: str) -> str:
    """AWS's name of an operation as far as a request tells it without its body."""
    method, path, query = environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", "")
    if service == "s3":
        found = (name for its, holds, name in _OF_S3 if its == method and holds in query)
        return next(found, method) if path.strip("/").count("/") or "list-type=" in query else f"{method} bucket"
    target = environ.get("HTTP_X_AMZ_TARGET")
    return str(target).rpartition(".")[2] if target else path.rpartition("/")[2] or method
