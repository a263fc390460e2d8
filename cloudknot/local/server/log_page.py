"""The page with a log stream, to which `LocalCloud.log_url` leads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

from cloudknot.aws.batch import LOG_GROUP, LogStream
from cloudknot.local import wsgi
from cloudknot.local.iam.requests.received import OwnRoute, received


class LogPage:
    """The WSGI application that shows a log stream as text.

    Parameters
    ----------
    lines : callable
        Returns the lines of a stream.
    """

    def __init__(self, lines: Callable[[LogStream], Iterable[str]]) -> None:
        self._lines = lines

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        route = received(environ).target
        assert isinstance(route, OwnRoute)
        stream = LogStream(route.query.get("group", LOG_GROUP), route.query.get("name", ""))
        text = "".join(f"{line}\n" for line in self._lines(stream))
        return wsgi.send(start_response, text.encode(), "text/plain; charset=utf-8")
