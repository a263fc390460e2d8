"""The HTTP server: waitress, on loopback only."""

from __future__ import annotations

import resource
from typing import Any
from wsgiref.types import WSGIApplication

from waitress.server import TcpWSGIServer

from cloudknot.local.server.http.connections import Channel, Limits, least_useful
from cloudknot.local.server.http.parser import Admit

THREADS = 16
MAX_CONNECTIONS = 2000
OTHER_FILES = 200
"""Descriptors that the process needs besides its connections: files of objects, and the sockets of fork servers."""
MAX_BODY = 5 * 1024**3
"""Bytes. The largest object that one PUT to S3 may store."""


def http_server(application: WSGIApplication, admit: Admit, port: int, limits: Limits | None = None) -> Any:
    """Return a server that already listens, and answers once its ``run`` is called.

    ``admit`` checks the head of each request before the body is accepted.
    """
    # moto's own server is a development server. waitress keeps connections open, bounds its threads, and passes on the
    # request line exactly as sent, without which no signature can be verified.
    bounds = limits or Limits(_connections())

    class LoopbackServer(TcpWSGIServer):  # type: ignore[misc]
        def channel_class(self, *arguments: Any, **choices: Any) -> Channel:
            return Channel(admit, *arguments, **choices)

        def handle_accept(self) -> None:
            # Otherwise, clients that never finish a request could take all connections.
            if len(self.active_channels) >= bounds.connections:
                channel = least_useful(self.active_channels.values())
                if channel is not None:
                    channel.handle_close()
            super().handle_accept()

        def maintenance(self, now: float) -> None:
            for channel in list(self.active_channels.values()):
                if channel.is_overdue(now, bounds):
                    channel.will_close = True

    return LoopbackServer(
        application,
        # Loopback only: a caller who can submit a job can run code as the user of this process.
        host="127.0.0.1",
        port=port,
        threads=THREADS,
        # More than the bound: `handle_accept` must be called to make room for a new one.
        connection_limit=bounds.connections + OTHER_FILES // 2,
        max_request_body_size=MAX_BODY,
        cleanup_interval=bounds.check,
        # select() cannot watch descriptors above 1,023, and each connection needs one.
        asyncore_use_poll=True,
        # Answers are in memory already. A copy in a temporary file would fail on a full disk.
        outbuf_overflow=MAX_BODY,
        ident="cloudknot",
    )


def _connections() -> int:
    """Return the number of connections for which this process has descriptors."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(16, min(MAX_CONNECTIONS, allowed - OTHER_FILES))
