"""Numbers of requests to the embedded cloud and of bytes received and sent, by operation.

They measure the cost of a map, including its jobs. AWS offers no such numbers: it shows only the bill.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING
from wsgiref.types import StartResponse, WSGIEnvironment

from cloudknot.local.iam.requests.objects import S3Request
from cloudknot.local.iam.requests.received import received
from cloudknot.worker.s3.plain_requests import WORKER_AGENT

if TYPE_CHECKING:
    from _typeshed import OptExcInfo

Counts = dict[str, dict[str, tuple[int, int, int]]]


class Counters:
    """The counts of requests from workers, and of all other requests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[bool, str], list[int]] = defaultdict(lambda: [0, 0, 0])

    def counting(self, environ: WSGIEnvironment, start_response: StartResponse, service: str) -> StartResponse:
        """Return a ``start_response`` that counts the request when it is answered."""
        from_worker = WORKER_AGENT in environ.get("HTTP_USER_AGENT", "")
        name = f"{service}:{operation(environ)}"
        length = int(environ.get("CONTENT_LENGTH") or 0)

        def counting_start_response(
            status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None, /
        ) -> Callable[[bytes], object]:
            sent = next((int(value) for key, value in headers if key.lower() == "content-length"), 0)
            with self._lock:
                count = self._counts[from_worker, name]
                count[0] += 1
                count[1] += length
                # An answer to HEAD announces a length, but has no body.
                count[2] += 0 if environ["REQUEST_METHOD"] == "HEAD" else sent
            return start_response(status, headers, exc_info)

        return counting_start_response

    def counts(self) -> Counts:
        """Return, for ``"workers"`` and ``"others"``, the requests, bytes received and bytes sent by operation."""
        with self._lock:
            counts = sorted(self._counts.items())
            return {
                sender: {name: (n, i, o) for (from_worker, name), (n, i, o) in counts if from_worker is is_worker}
                for sender, is_worker in (("workers", True), ("others", False))
            }


def operation(environ: WSGIEnvironment) -> str:
    """Return AWS's name of a request's operation."""
    target = received(environ).target
    if isinstance(target, S3Request):
        return target.operation.name
    header = environ.get("HTTP_X_AMZ_TARGET")
    return str(header).rpartition(".")[2] if header else environ["PATH_INFO"].rpartition("/")[2] or "POST"
