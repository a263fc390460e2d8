"""WSGI in the embedded cloud: reading requests, answering them, and errors as AWS has them on the wire.

An application that stands in front of another either hands a request on, or asks the one behind with `ask`.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from _typeshed import OptExcInfo

Answer = Mapping[str, object]
"""A JSON object to be sent."""

STATUSES = {
    200: "200 OK",
    204: "204 No Content",
    400: "400 Bad Request",
    403: "403 Forbidden",
    404: "404 Not Found",
    429: "429 Too Many Requests",
    500: "500 Internal Server Error",
    503: "503 Service Unavailable",
}
_QUERY_SERVICES = frozenset({"autoscaling", "cloudformation", "elasticloadbalancing", "iam", "sns", "sts"})


class ClientException(Exception):
    """Batch refuses a request: HTTP 400, code ``ClientException``."""

    def __str__(self) -> str:
        return f"Error executing request, Exception : {self.args[0]}, RequestId: {uuid.uuid4()}"


class Recorded:
    """A ``start_response`` that keeps status and headers of an answer and sends nothing."""

    def __init__(self) -> None:
        self.status = ""
        self._headers: list[tuple[str, str]] = []

    def __call__(
        self, status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None, /
    ) -> Callable[[bytes], object]:
        self.status, self._headers = status, headers
        return lambda data: None

    def pass_on(self, start_response: StartResponse) -> None:
        """Begin the answer after all."""
        start_response(self.status, self._headers)


def ask(application: WSGIApplication, environ: WSGIEnvironment, changes: Mapping[str, object]) -> tuple[str, bytes]:
    """Return status and body with which an application answers a request that is changed in some variables."""
    recorded = Recorded()
    body = whole(application({**environ, **changes}, recorded))
    return recorded.status, body


def ask_json(
    application: WSGIApplication, environ: WSGIEnvironment, changes: Mapping[str, object]
) -> tuple[str, dict[str, Any]]:
    """Return status and JSON object with which an application answers a request that is changed in some variables."""
    status, body = ask(application, environ, changes)
    return status, json.loads(body or b"{}")


def whole(answer: Iterable[bytes]) -> bytes:
    """Return the whole body of an answer."""
    try:
        return b"".join(answer)
    finally:
        if hasattr(answer, "close"):
            answer.close()


def body_of(environ: WSGIEnvironment) -> bytes:
    """Return the body of a request, which can be read again."""
    body: bytes = environ["wsgi.input"].read()
    environ["wsgi.input"].seek(0)
    return body


def form_of(body: bytes) -> dict[str, str]:
    """Return the form in the body of a request of AWS's query protocol."""
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def scope_of(environ: WSGIEnvironment) -> list[str]:
    """Return the parts of the scope that a request is signed for: the key's id, date, region, service."""
    credential = str(environ.get("HTTP_AUTHORIZATION", "")).partition("Credential=")[2].partition(",")[0]
    if not credential:
        credential = dict(parse_qsl(str(environ["QUERY_STRING"]))).get("X-Amz-Credential", "")
    return credential.split("/")


def service_of(environ: WSGIEnvironment) -> str:
    """Return the service that a request is signed for; S3 when the request does not name one."""
    scope = scope_of(environ)
    return scope[3] if len(scope) == 5 else "s3"


def send(
    start_response: StartResponse,
    body: bytes,
    content_type: str = "",
    status: int = 200,
    headers: Iterable[tuple[str, str]] = (),
) -> Iterable[bytes]:
    """Answer a request with a body."""
    kind = [("Content-Type", content_type)] if content_type else []
    start_response(STATUSES[status], [*kind, ("Content-Length", str(len(body))), *headers])
    return [body]


def send_json(
    start_response: StartResponse, answer: Answer, status: int = 200, content_type: str = "application/json"
) -> Iterable[bytes]:
    """Answer a request with a JSON object."""
    return send(start_response, json.dumps(answer).encode(), content_type, status)


def refuse(
    environ: WSGIEnvironment, start_response: StartResponse, service: str, status: int, code: str, message: str
) -> Iterable[bytes]:
    """Answer a request with an error, as its service words it."""
    content_type, content = error_body(service, code, message)
    body = send(start_response, content, content_type, status, [("x-amzn-ErrorType", code)])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else body


def refuse_client(start_response: StartResponse, error: ClientException) -> Iterable[bytes]:
    """Answer a request with an error of Batch."""
    body = json.dumps({"message": str(error)}).encode()
    return send(start_response, body, "application/json", 400, [("x-amzn-ErrorType", "ClientException")])


def denied_status(service: str) -> int:
    """Return the HTTP status with which a service denies access: AWS's JSON protocols other than Batch's say 400."""
    return 403 if is_xml(service) or service == "batch" else 400


def is_xml(service: str) -> bool:
    """Return whether a service answers in XML."""
    return service in ("s3", "ec2") or service in _QUERY_SERVICES


def error_body(service: str, code: str, message: str) -> tuple[str, bytes]:
    """Return content type and body of an error, in the format that a service's clients parse."""
    if is_xml(service):
        message = escape(message)
    if service == "s3":
        text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    elif service == "ec2":
        text = f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors></Response>"
    elif service in _QUERY_SERVICES:
        text = f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
    else:
        return "application/json", json.dumps({"__type": code, "message": message}).encode()
    return "text/xml", text.encode()
