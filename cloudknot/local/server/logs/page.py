"""The page with a log stream, to which `LocalCloud.log_url` leads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from cloudknot.aws.batch import LOG_GROUP, LogStream, log_pages
from cloudknot.local import wsgi
from cloudknot.local.iam.requests.received import OwnRoute, received
from cloudknot.local.server.logs.api import Logs
from cloudknot.local.wsgi import ServiceError


class LogPage:
    """The WSGI application that shows a log stream as text.

    Parameters
    ----------
    logs : Logs
    """

    def __init__(self, logs: Logs) -> None:
        self._logs = logs

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        route = received(environ).target
        assert isinstance(route, OwnRoute)
        stream = LogStream(route.query.get("group", LOG_GROUP), route.query.get("name", ""))
        names = {"logGroupName": stream.group, "logStreamName": stream.name}
        start_response(wsgi.STATUSES[200], [("Content-Type", "text/plain; charset=utf-8")])
        try:
            self._logs.respond("GetLogEvents", {**names, "limit": 1})
        except ServiceError:
            # A job that has printed nothing has no stream.
            return []
        # Page by page: a log may be larger than the memory of this process.
        return ("".join(f"{line}\n" for line in lines).encode() for lines, _ in log_pages(self._read, stream))

    def _read(self, **arguments: object) -> Any:
        return self._logs.respond("GetLogEvents", arguments)
