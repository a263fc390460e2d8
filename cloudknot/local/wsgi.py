"""The errors that the embedded cloud answers with, as AWS has them on the wire."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from xml.sax.saxutils import escape


class ClientException(Exception):
    """Batch refuses a request: HTTP 400, code ``ClientException``."""

    def __str__(self) -> str:
        return f"Error executing request, Exception : {self.args[0]}, RequestId: {uuid.uuid4()}"


STATUSES = {
    400: "400 Bad Request",
    403: "403 Forbidden",
    404: "404 Not Found",
    429: "429 Too Many Requests",
    500: "500 Internal Server Error",
    503: "503 Service Unavailable",
}


def refuse(
    environ: Mapping[str, Any], start_response: Callable[..., Any], service: str, status: int, code: str, message: str
) -> Iterable[bytes]:
    """Answer a request with an error, as its service words it."""
    content_type, content = body(service, code, message)
    headers = [("Content-Type", content_type), ("Content-Length", str(len(content))), ("x-amzn-ErrorType", code)]
    start_response(STATUSES[status], headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [content]


def denied_status(service: str) -> int:
    """The HTTP status with which a service denies access: AWS's JSON protocols other than Batch's say 400."""
    return 403 if is_xml(service) or service == "batch" else 400


def is_xml(service: str) -> bool:
    """Whether a service answers in XML."""
    return service in ("s3", "ec2") or service in _QUERY_SERVICES


def body(service: str, code: str, message: str) -> tuple[str, bytes]:
    """Content type and body of an error, in the format that a service's clients parse."""
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


_QUERY_SERVICES = frozenset({"autoscaling", "cloudformation", "elasticloadbalancing", "iam", "sns", "sts"})
