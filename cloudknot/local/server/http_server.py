"""The HTTP server: waitress, on loopback only."""

from __future__ import annotations

import io
from typing import Any
from wsgiref.types import WSGIApplication

from cloudknot.local import wsgi
from cloudknot.local.runners.full_disk import ERRORS

# waitress writes the names of received headers in capitals, so no client can send this one.
UNSTORED = "HTTP_cloudknot.unstored"
"""The WSGI variable with the system's error for a request whose body found no space on the disk."""
THREADS = 16
MAX_CONNECTIONS = 2000
MAX_BODY = 5 * 1024**3
"""Bytes. The largest object that one PUT to S3 may store."""


def http_server(application: WSGIApplication, port: int) -> Any:
    """Return a server that already listens, and answers once its ``run`` is called."""
    # moto's own server is a development server. waitress keeps connections open, bounds its threads, and passes on the
    # request line exactly as sent, without which no signature can be verified.
    from waitress.server import create_server

    server = create_server(
        application,
        # Loopback only: a caller who can submit a job can run code as the user of this process.
        host="127.0.0.1",
        port=port,
        threads=THREADS,
        connection_limit=MAX_CONNECTIONS,
        max_request_body_size=MAX_BODY,
        channel_timeout=600,
        # select() cannot watch descriptors above 1,023, and each connection needs one.
        asyncore_use_poll=True,
        # Answers are in memory already. A copy in a temporary file would fail on a full disk.
        outbuf_overflow=MAX_BODY,
        ident="cloudknot",
    )
    server.channel_class = _channel()
    return server


def _channel() -> type:
    """Return waitress's channel class, with the changes to its parser and task that this server needs."""
    from waitress.channel import ClientDisconnected, HTTPChannel
    from waitress.parser import HTTPRequestParser
    from waitress.task import WSGITask

    class Parser(HTTPRequestParser):  # type: ignore[misc]
        def parse_header(self, header: bytes) -> None:
            super().parse_header(header)
            # boto3 sends the header before an empty object as well. waitress would then wait for a body forever.
            if self.body_rcv is None:
                self.expect_continue = False

        def received(self, data: bytes) -> int:
            try:
                return int(super().received(data))
            except OSError as error:
                if error.errno not in ERRORS or not hasattr(self.body_rcv, "buf"):
                    raise
                # A client reads no answer before it has sent its whole body. So the rest is received and dropped.
                self.body_rcv.buf.close()
                self.body_rcv.buf = _Nothing()
                self.headers[UNSTORED.removeprefix("HTTP_")] = str(error.errno)
                return int(super().received(data))

    class AnswerTask(WSGITask):  # type: ignore[misc]
        def write(self, data: bytes) -> None:
            part: wsgi.PartOfAnswer | None = self.environ.get(wsgi.PART_OF_ANSWER)
            if part is None:
                super().write(data)
                return
            self.wrote_header = True
            self.channel.write_soon(part(self.build_response_header(), data, self.channel.socket))
            # This ends the request, and the channel closes the connection after it has sent these bytes.
            raise ClientDisconnected

    class Channel(HTTPChannel):  # type: ignore[misc]
        parser_class, task_class = Parser, AnswerTask

    return Channel


class _Nothing:
    """A buffer that drops everything, in place of one of waitress."""

    def append(self, data: bytes) -> None:
        """Drop some bytes."""

    def close(self) -> None:
        """Free nothing."""

    def __len__(self) -> int:
        return 0

    def getfile(self) -> io.BytesIO:
        """Return an empty file."""
        return io.BytesIO()
