"""Calls of the server process to its own services, as WSGI requests without a socket and without a signature."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any
from wsgiref.types import WSGIApplication
from xml.etree import ElementTree

from cloudknot.aws.batch import LogStream, log_lines
from cloudknot.errors import CloudError, ResourceDoesNotExistException, ResourceExistsException
from cloudknot.local.iam.requests.received import own_call
from cloudknot.local.iam.signing import AccessKey
from cloudknot.local.wsgi import RecordedAnswer, ask, full_body

_ERRORS = {
    "ResourceAlreadyExistsException": ResourceExistsException,
    "ResourceNotFoundException": ResourceDoesNotExistException,
}


class ControlPlane:
    """A client of Batch, CloudWatch Logs, IAM and STS in a WSGI application that serves AWS's APIs.

    Parameters
    ----------
    application : WSGI application
    key : AccessKey
        The key of the caller.
    """

    def __init__(self, application: WSGIApplication, key: AccessKey) -> None:
        # No socket: an answer often needs such a call. When answers occupy all threads of the server, a call over a
        # socket would wait forever for a free thread.
        self._application, self._key = application, key.access_key

    def batch(self, operation: str, **arguments: object) -> Any:
        """Call Batch, for example ``batch("DescribeJobQueues", jobQueues=["q"])``."""
        return self._call("batch", operation, arguments)

    def logs(self, operation: str, **arguments: object) -> Any:
        """Call CloudWatch Logs, for example ``logs("PutLogEvents", logGroupName=...)``."""
        return self._call("logs", operation, arguments)

    def query(self, service: str, action: str, **arguments: str) -> ElementTree.Element:
        """Call a service with AWS's query protocol, for example ``query("iam", "GetRole", RoleName="r")``."""
        status, body = ask(self._application, own_call(self._key, service, action, arguments), {})
        content = ElementTree.fromstring(body)
        if not status.startswith("2"):
            code, message = (content.findtext(f".//{{*}}{name}") or "" for name in ("Code", "Message"))
            raise CloudError(f"{service}:{action} was refused: {code}: {message}", code=code)
        return content

    def log_lines(self, stream: LogStream) -> Iterator[str]:
        """Yield the lines stored so far in a job's log stream. A stream that does not exist has none."""
        get_log_events: Any = partial(self.logs, "GetLogEvents")
        yield from log_lines(get_log_events, stream)

    def _call(self, service: str, operation: str, arguments: Mapping[str, object]) -> Any:
        answer = RecordedAnswer()
        body = full_body(self._application(own_call(self._key, service, operation, arguments), answer))
        content = json.loads(body or b"{}")
        if not answer.status.startswith("2"):
            # moto gives the code in the body, with a namespace before "#"; Batch gives it in a header.
            code = str(content.get("__type", "")).rpartition("#")[2] or answer.header("x-amzn-ErrorType")
            name = f"{service}:{operation}"
            message = f"{name} was refused: {code}: {content.get('message', '')}"
            raise _ERRORS.get(code, CloudError)(message, code=code, operation=name)
        return content
