"""The HTTP server: waitress, on loopback only."""

from __future__ import annotations

from typing import Any
from wsgiref.types import WSGIApplication

THREADS = 16
MAX_CONNECTIONS = 2000
MAX_BODY = 5 * 1024**3
"""Bytes; the largest object of one S3 PUT."""


def http_server(application: WSGIApplication, port: int) -> Any:
    """A server that listens already, and answers when it is run."""
    from waitress.server import create_server

    server = create_server(
        application,
        host="127.0.0.1",
        port=port,
        threads=THREADS,
        connection_limit=MAX_CONNECTIONS,
        max_request_body_size=MAX_BODY,
        channel_timeout=600,
        asyncore_use_poll=True,
        ident="cloudknot",
    )
    server.channel_class = _channel()
    return server


def _channel() -> type:
    """waitress's channel, which otherwise waits for ever for the body of a request that announces an empty one.

    boto3 asks whether it may go on (``Expect: 100-continue``) also before it stores an empty object.
    """
    from waitress.channel import HTTPChannel
    from waitress.parser import HTTPRequestParser

    class Parser(HTTPRequestParser):  # type: ignore[misc]
        def parse_header(self, header: bytes) -> None:
            super().parse_header(header)
            if self.body_rcv is None:
                self.expect_continue = False

    class Channel(HTTPChannel):  # type: ignore[misc]
        parser_class = Parser

    return Channel
