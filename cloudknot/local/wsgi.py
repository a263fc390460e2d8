"""WSGI helpers of the embedded cloud: answer a request, and write errors in AWS's wire formats."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, BinaryIO
from wsgiref.types import StartResponse, WSGIEnvironment
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from _typeshed import OptExcInfo

ADMISSION = "cloudknot.admission"
"""The WSGI variable that holds the result of the checks on the head of a request."""
BODY_LENGTH = "cloudknot.body_length"
"""The WSGI variable for the bytes in the body of a request, without the marks of AWS's chunks."""
Answer = Mapping[str, object]
"""A JSON object as the content of an answer."""

STATUSES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
"""The status lines by status."""
_QUERY_SERVICES = frozenset({"autoscaling", "cloudformation", "elasticloadbalancing", "iam", "sns", "sts"})
BLOCK = 1 << 20
"""Bytes of a file that are read at a time."""


@dataclass(frozen=True)
class Segment:
    """A range of an open file."""

    file: BinaryIO | io.RawIOBase
    offset: int
    length: int


class FileBody:
    """The body of an answer from ranges of files. The HTTP server has the kernel copy them to the socket.

    Parameters
    ----------
    segments : sequence of Segment
        In order. `close` closes their files.
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.segments = segments

    def __iter__(self) -> Iterator[bytes]:
        for segment in self.segments:
            segment.file.seek(segment.offset)
            left = segment.length
            while left and (block := segment.file.read(min(left, BLOCK))):
                left -= len(block)
                yield block

    def close(self) -> None:
        for segment in self.segments:
            segment.file.close()


class ServiceError(Exception):
    """The refusal of a request: AWS's code, a message and the HTTP status.

    S3 names the right ``region`` to a client that signed for another one.
    """

    def __init__(self, code: str, message: str, status: int = 400, region: str = "") -> None:
        super().__init__(message)
        self.code, self.status, self.region = code, status, region


class ClientException(ServiceError):
    """A refusal by Batch."""

    def __init__(self, message: str) -> None:
        super().__init__("ClientException", message)

    def __str__(self) -> str:
        # Batch's own format for this error.
        return f"Error executing request, Exception : {self.args[0]}, RequestId: {uuid.uuid4()}"


class RecordedAnswer:
    """A ``start_response`` that keeps the status and headers of an answer and sends nothing."""

    def __init__(self) -> None:
        self.status = ""
        self.headers: list[tuple[str, str]] = []

    def __call__(
        self, status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None, /
    ) -> Callable[[bytes], object]:
        self.status, self.headers = status, headers
        # WSGI's old way to write a body; the applications here return theirs, so nothing is written to it.
        return lambda data: None

    def pass_on(self, start_response: StartResponse) -> None:
        """Send the recorded status and headers to the client."""
        start_response(self.status, self.headers)


def full_body(answer: Iterable[bytes]) -> bytes:
    """Return the full body of an answer, and close the answer."""
    try:
        return b"".join(answer)
    finally:
        if hasattr(answer, "close"):
            answer.close()


def send(
    start_response: StartResponse,
    body: bytes,
    content_type: str = "",
    status: int = 200,
    headers: Iterable[tuple[str, str]] = (),
) -> Iterable[bytes]:
    """Answer a request with a body."""
    content_types = [("Content-Type", content_type)] if content_type else []
    lengths = [("Content-Length", str(len(body))), ("x-amzn-RequestId", str(uuid.uuid4()))]
    start_response(STATUSES[status], [*content_types, *lengths, *headers])
    return [body]


def send_json(start_response: StartResponse, answer: Answer, status: int = 200) -> Iterable[bytes]:
    """Answer a request with a JSON object."""
    return send(start_response, json.dumps(answer).encode(), "application/json", status)


def refuse(
    environ: WSGIEnvironment,
    start_response: StartResponse,
    service: str,
    error: ServiceError,
    headers: Iterable[tuple[str, str]] = (),
) -> Iterable[bytes]:
    """Answer a request with an error, in the format of its service."""
    content_type, content = error_body(service, error)
    # The header is for answers to HEAD.
    regions = [("x-amz-bucket-region", error.region)] if error.region else []
    all_headers = [("x-amzn-ErrorType", error.code), *regions, *headers]
    body = send(start_response, content, content_type, error.status, all_headers)
    # An answer to HEAD has no body: the client would take its bytes for the start of the next answer.
    return [] if environ["REQUEST_METHOD"] == "HEAD" else body


def denied_status(service: str) -> int:
    """Return the HTTP status for denied access to a service."""
    # Batch's protocol is REST. AWS's JSON protocols answer 400 to every error of the client, to denied access as well.
    return 403 if is_xml(service) or service == "batch" else 400


def is_xml(service: str) -> bool:
    """Return whether a service's answers are XML."""
    return service in ("s3", "ec2") or service in _QUERY_SERVICES


def error_body(service: str, error: ServiceError) -> tuple[str, bytes]:
    """Return the content type and the body of an error, in the format that clients of the service parse."""
    if not is_xml(service):
        return "application/json", json.dumps({"__type": error.code, "message": str(error)}).encode()
    region = f"<Region>{error.region}</Region>" if error.region else ""
    text = f"<Error><Code>{error.code}</Code><Message>{escape(str(error))}</Message>{region}</Error>"
    if service == "ec2":
        text = f"<Response><Errors>{text}</Errors></Response>"
    elif service != "s3":
        text = f"<ErrorResponse>{text}</ErrorResponse>"
    return "text/xml", text.encode()
