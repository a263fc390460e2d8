"""The answer to one request: files go from the disk to the socket, and an unread body is dropped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from wsgiref.types import WSGIEnvironment

from waitress.task import WSGITask
from waitress.utilities import build_http_date

from cloudknot.local.server.http.bodies import StreamedBody
from cloudknot.local.server.http.parser import LONGEST_DISCARD
from cloudknot.local.wsgi import ADMISSION, FileBody

if TYPE_CHECKING:
    from _typeshed import OptExcInfo


class AnswerTask(WSGITask):  # type: ignore[misc]
    """The answer to one request."""

    close_on_finish: bool

    def get_environment(self) -> WSGIEnvironment:
        environ: WSGIEnvironment = super().get_environment()
        environ[ADMISSION] = self.request.admission
        if isinstance(self.request.body_rcv, StreamedBody):
            self.request.body_rcv.connect(self.channel)
        return environ

    def execute(self) -> None:
        answer: Iterable[bytes] = self.channel.server.application(self.get_environment(), self._start)
        try:
            if isinstance(answer, FileBody):
                self._send_files(answer)
            else:
                for block in answer:
                    if block:
                        self.write(block)
        finally:
            if hasattr(answer, "close"):
                answer.close()
        is_short = self.content_length is not None and self.content_bytes_written != self.content_length
        if self.wrote_header and is_short and self.has_body and self.request.command != "HEAD":
            # The client would take the next answer for the rest of this one.
            self.set_close_on_finish()
        # The client has shown a key or a token of this cloud.
        self.channel.is_trusted = self.channel.is_trusted or self.status.startswith("2")

    def finish(self) -> None:
        super().finish()
        body = self.request.body_rcv
        if isinstance(body, StreamedBody) and not self.close_on_finish:
            body.discard()

    def build_response_header(self) -> bytes:
        body = self.request.body_rcv
        is_last = self.close_on_finish or self.request.connection_close
        if isinstance(body, StreamedBody) and not body.has_rest_below(LONGEST_DISCARD):
            # The next bytes in the connection may be this body.
            is_last = True
        if (self.has_body and self.content_length is None) or self.version != "1.1":
            if is_last:
                self.set_close_on_finish()
            return bytes(super().build_response_header())
        # waitress capitalizes names. Clients of S3 return those of metadata to their users.
        headers = [
            header for header in self.response_headers if self.has_body or header[0].lower() != "content-length"
        ]
        names = {name.lower() for name, _ in headers}
        own = {"Date": build_http_date(self.start_time), "Server": self.channel.server.adj.ident}
        headers += [header for header in own.items() if header[0].lower() not in names]
        if is_last:
            self.close_on_finish = True
            headers.append(("Connection", "close"))
        lines = [f"HTTP/1.1 {self.status}", *[f"{name}: {value}" for name, value in headers], "", ""]
        return "\r\n".join(lines).encode("latin-1")

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None, /) -> object:
        """Take the status and the headers: WSGI's ``start_response``."""
        text = "".join([status, *(part for header in headers for part in header)])
        if "\n" in text or "\r" in text:
            raise ValueError("A header of an answer has more than one line.")
        self.complete, self.status, self.response_headers = True, status, list(headers)
        lengths = [value for name, value in headers if name.lower() == "content-length"]
        self.content_length = int(lengths[0]) if lengths else None
        return self.write

    def _send_files(self, answer: FileBody) -> None:
        length = sum(segment.length for segment in answer.segments)
        if self.content_length != length:
            raise RuntimeError(f"An answer announces {self.content_length} bytes and has {length}.")
        # The header.
        self.write(b"")
        if self.request.command == "HEAD":
            return
        self.channel.flush()
        for segment in answer.segments:
            self.channel.send_file(segment)
            # An object may have thousands of segments. Not all of their files are open at the same time.
            segment.file.close()
        self.content_bytes_written = length
