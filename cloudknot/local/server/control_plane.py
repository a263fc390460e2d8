"""Calls of the server process to its own services, in AWS's protocols, as WSGI requests without a socket."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from wsgiref.types import WSGIApplication
from xml.etree import ElementTree

from cloudknot.aws.batch import LogStream, log_lines
from cloudknot.errors import CloudError, ResourceDoesNotExistException, ResourceExistsException
from cloudknot.local.iam.signing import AccessKey, sign

if TYPE_CHECKING:
    from werkzeug.test import TestResponse

_JSON = {"Content-Type": "application/x-amz-json-1.1"}
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_LOGS = "Logs_20140328"
_VERSIONS = {"iam": "2010-05-08", "sts": "2011-06-15"}
_ERRORS = {
    "ResourceAlreadyExistsException": ResourceExistsException,
    "ResourceNotFoundException": ResourceDoesNotExistException,
}


class ControlPlane:
    """A client of Batch, CloudWatch Logs, IAM, STS and S3 in a WSGI application that serves AWS's APIs.

    Parameters
    ----------
    application : WSGI application
    key : AccessKey
        The key that signs the calls.
    endpoint : str
        The URL of the application.
    region : str
    """

    def __init__(self, application: WSGIApplication, key: AccessKey, endpoint: str, region: str) -> None:
        from werkzeug.test import Client

        # No socket: an answer often needs such a call. When answers occupy all threads of the server, a call over a
        # socket would wait forever for a free thread.
        self._client = Client(application, use_cookies=False)
        self._key, self._endpoint, self._region = key, endpoint, region

    def batch(self, operation: str, **arguments: object) -> Any:
        """Call Batch, for example ``batch("DescribeJobQueues", jobQueues=["q"])``."""
        return self._call("batch", operation, f"/v1/{operation.lower()}", {}, arguments)

    def logs(self, operation: str, **arguments: object) -> Any:
        """Call CloudWatch Logs, for example ``logs("PutLogEvents", logGroupName=...)``."""
        return self._call("logs", operation, "/", {"X-Amz-Target": f"{_LOGS}.{operation}"}, arguments)

    def query(self, service: str, action: str, **arguments: str) -> ElementTree.Element:
        """Call a service with AWS's query protocol, for example ``query("iam", "GetRole", RoleName="r")``."""
        form = {"Action": action, "Version": _VERSIONS[service], **arguments}
        answer = self._post(service, "/", urlencode(form).encode(), _FORM)
        content = ElementTree.fromstring(answer.get_data())
        if answer.status_code >= 400:
            code, message = (content.findtext(f".//{{*}}{name}") or "" for name in ("Code", "Message"))
            raise CloudError(f"{service}:{action} was refused: {code}: {message}", code=code)
        return content

    def log_lines(self, stream: LogStream) -> Iterator[str]:
        """Yield the lines stored so far in a job's log stream. A stream that does not exist has none."""
        get_log_events: Any = partial(self.logs, "GetLogEvents")
        yield from log_lines(get_log_events, stream)

    def _call(
        self, service: str, operation: str, path: str, headers: Mapping[str, str], arguments: Mapping[str, object]
    ) -> Any:
        answer = self._post(service, path, json.dumps(arguments).encode(), {**headers, **_JSON})
        content = json.loads(answer.get_data() or b"{}")
        if answer.status_code >= 400:
            # moto gives the code in the body, with a namespace before "#"; Batch gives it in a header.
            code = str(content.get("__type", "")).rpartition("#")[2] or answer.headers.get("x-amzn-ErrorType", "")
            name = f"{service}:{operation}"
            message = f"{name} was refused: {code}: {content.get('message', '')}"
            raise _ERRORS.get(code, CloudError)(message, code=code, operation=name)
        return content

    def stored(self, path: str) -> bytes:
        """Return the S3 object at a path, ``/bucket/key``."""
        signed = sign("GET", self._endpoint + path, self._key, service="s3", region=self._region)
        # S3 requires the digest of the body in a header. The other services do not.
        content = hashlib.sha256(b"").hexdigest()
        answer = self._client.get(
            path,
            base_url=self._endpoint,
            headers={**signed, "X-Amz-Content-SHA256": content},
            environ_overrides={"RAW_URI": path},
        )
        if answer.status_code >= 400:
            raise CloudError(f"s3:GetObject of {path} was refused: {answer.status_code}")
        return bytes(answer.get_data())

    def _post(self, service: str, path: str, body: bytes, headers: Mapping[str, str]) -> TestResponse:
        signed = sign("POST", self._endpoint + path, self._key, service=service, region=self._region, body=body)
        return self._client.post(
            path,
            base_url=self._endpoint,
            data=body,
            headers={**signed, **headers},
            environ_overrides={"RAW_URI": path},
        )
