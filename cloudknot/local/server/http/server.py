"""The HTTP server: waitress, on loopback only."""

from __future__ import annotations

import resource
from typing import Any
from wsgiref.types import WSGIApplication

from waitress.adjustments import Adjustments
from waitress.server import TcpWSGIServer

from cloudknot.local.iam.gate import LONGEST_CALL
from cloudknot.local.server.http.connections import Channel, Limits, least_useful
from cloudknot.local.server.http.parser import LARGE, Admit
from cloudknot.local.server.http.threads import Threads
from cloudknot.local.server.http.watched import Watched

THREADS = 16
MAX_CONNECTIONS = 2000
OTHER_FILES = 200
"""Descriptors that the process needs besides its connections: files of objects, and the sockets of fork servers."""
WAIT = 1.0
"""Seconds between two looks at the limits of connections."""
MAX_BODY = 5 * 1024**3
"""Bytes. The largest object that one PUT to S3 may store."""


class LoopbackServer(TcpWSGIServer):  # type: ignore[misc]
    """waitress's server with a check of heads, and with limits for connections."""

    channel_class = Channel

    def __init__(self, application: WSGIApplication, admit: Admit, limits: Limits, **adjustments: Any) -> None:
        self.admit, self.limits = admit, limits
        self._watched = Watched()
        super().__init__(application, self._watched, dispatcher=Threads(THREADS), adj=Adjustments(**adjustments))

    def run(self) -> None:
        try:
            while self._watched:
                self.serve_once(WAIT)
        except (SystemExit, KeyboardInterrupt):
            self.task_dispatcher.shutdown()

    def serve_once(self, timeout: float) -> None:
        """Wait for events on the connections for some seconds, and handle them."""
        # The next check of all connections is due, or room for one more connection.
        self._watched.note(self._fileno)
        self._watched.wait(timeout)

    def handle_accept(self) -> None:
        # Otherwise, clients that never finish a request could take all connections.
        if len(self.active_channels) >= self.limits.connections:
            channel = least_useful(self.active_channels.values())
            if channel is not None:
                channel.drop()
        super().handle_accept()

    def maintenance(self, now: float) -> None:
        for channel in list(self.active_channels.values()):
            if channel.is_overdue(now, self.limits):
                channel.will_close = True
                self._watched.note(channel._fileno)
        self.task_dispatcher.shrink()


def http_server(application: WSGIApplication, admit: Admit, port: int, limits: Limits | None = None) -> LoopbackServer:
    """Return a server that already listens, and answers once its ``run`` is called.

    ``admit`` checks the head of each request before the body is accepted.
    """
    # waitress keeps connections open, bounds its threads, and passes on the request line exactly as sent. No signature
    # could be verified otherwise.
    bounds = limits or Limits(_connections())
    return LoopbackServer(
        application,
        admit,
        bounds,
        # Loopback only: a caller who can submit a job can run code as the user of this process.
        host="127.0.0.1",
        port=port,
        # More than the bound: `handle_accept` must be called to make room for a new one.
        connection_limit=bounds.connections + OTHER_FILES // 2,
        max_request_body_size=MAX_BODY,
        cleanup_interval=bounds.check,
        recv_bytes=LARGE,
        # Bodies and answers that are no files are in memory already. A copy in a temporary file would fail on a full
        # disk. The gate refuses longer bodies than this.
        inbuf_overflow=LONGEST_CALL + 1,
        outbuf_overflow=MAX_BODY,
        # There is no proxy, and no header of one is read.
        clear_untrusted_proxy_headers=False,
        ident="cloudknot",
    )


def _connections() -> int:
    """Return the number of connections for which this process has descriptors."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(16, min(MAX_CONNECTIONS, allowed - OTHER_FILES))
