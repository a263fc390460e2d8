"""The errors that the embedded cloud answers with, as AWS has them on the wire."""

from __future__ import annotations

import json
import uuid


class ClientException(Exception):
    """Batch refuses a request: HTTP 400, code ``ClientException``."""

    def __str__(self) -> str:
        return f"Error executing request, Exception : {self.args[0]}, RequestId: {uuid.uuid4()}"


def is_xml(service: str) -> bool:
    """Whether a service answers in XML."""
    return service in ("s3", "ec2") or service in _QUERY_SERVICES


def body(service: str, code: str, message: str) -> tuple[str, bytes]:
    """Content type and body of an error, in the format that a service's clients parse."""
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
