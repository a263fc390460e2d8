"""The parser of requests. It checks the head of a request before it accepts the body."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from waitress.adjustments import Adjustments
from waitress.buffers import OverflowableBuffer
from waitress.parser import HTTPRequestParser, ParsingError, unquote_bytes_to_wsgi
from waitress.receiver import FixedStreamReceiver

from cloudknot.local.iam.gate import Admission
from cloudknot.local.server.http.bodies import StreamedBody

Admit = Callable[[str, str, Mapping[str, str]], Admission]
"""Checks method, raw URI and headers of a request, by names in lower case."""

LARGE = 64 * 1024
"""Bytes. A longer object is not read before the request is answered."""
LONGEST_DISCARD = 64 * 1024 * 1024
"""Bytes of a refused body that are read and dropped, so that the client gets the answer and no broken connection."""
_CONTROL = re.compile(r"[\0-\x08\n-\x1f\x7f]")
_START = re.compile(r"([!#$%&'*+.^_`|~0-9A-Z-]+) ([!-~\x80-\xff]+) HTTP/(1\.[01])")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LENGTH = re.compile(r"[0-9]{1,18}")


class Parser(HTTPRequestParser):  # type: ignore[misc]
    """A parser for one request, with the function that admits it.

    The body of a refused request is dropped. A large object in an admitted request stays in the socket, for the thread
    that answers the request. All other bodies are small, and come to memory.
    """

    admission: Admission
    body_rcv: FixedStreamReceiver | StreamedBody | None
    content_length: int
    completed: bool
    query: str

    def __init__(self, adjustments: Adjustments, admit: Admit) -> None:
        super().__init__(adjustments)
        self._admit = admit

    def received(self, data: bytes) -> int:
        consumed = int(super().received(data))
        if isinstance(self.body_rcv, StreamedBody) and not self.completed:
            consumed += self.body_rcv.start(data[consumed:])
            self.completed = True
        return consumed

    def parse_header(self, header_plus: bytes) -> None:
        # waitress's own parser takes three times the CPU, and joins repeated headers.
        headers = self._parse_lines(header_plus.decode("latin-1"))
        self.admission = self._admit(self.command, self.request_uri, headers)
        if self.content_length == 0:
            # boto3 sends the header before an empty object as well. waitress would then wait for a body forever.
            self.expect_continue = False
        elif self.admission.refusal is not None:
            self._refuse_body()
        elif self.admission.has_object and self.content_length > LARGE:
            self.body_rcv, self.expect_continue = StreamedBody(self.content_length, self.expect_continue), False
        else:
            buffer = OverflowableBuffer(self.adj.inbuf_overflow)
            self.body_rcv = FixedStreamReceiver(self.content_length, buffer)

    def _parse_lines(self, head: str) -> dict[str, str]:
        """Set waitress's attributes, and return the headers by names in lower case."""
        text = head.replace("\r\n", "")
        if not (text.isascii() and text.isprintable()) and _CONTROL.search(text):
            raise ParsingError("A head contains a control character.")
        start, *lines = head.rstrip("\r\n").split("\r\n")
        match = _START.fullmatch(start)
        if match is None:
            raise ParsingError("The first line is malformed.")
        self.command, self.request_uri, self.version = match.groups()
        path, _, self.query = self.request_uri.partition("?")
        self.path = unquote_bytes_to_wsgi(path) if "%" in path else path
        self.url_scheme = self.adj.url_scheme
        headers = _headers(lines)
        self.headers = {_wsgi_name(name): value for name, value in headers.items()}
        connection, length = headers.get("connection", "").lower(), headers.get("content-length", "0")
        is_newest = self.version == "1.1"
        self.connection_close = connection == "close" if is_newest else connection != "keep-alive"
        self.expect_continue = is_newest and headers.get("expect", "").lower() == "100-continue"
        if not _LENGTH.fullmatch(length):
            raise ParsingError("Content-Length is invalid.")
        self.content_length = int(length)
        return headers

    def _refuse_body(self) -> None:
        """Do not store the body of a refused request."""
        if self.expect_continue or self.content_length > LONGEST_DISCARD:
            # The answer comes first. The connection ends, since the next bytes in it may still be this body.
            self.body_rcv, self.content_length, self.expect_continue = None, 0, False
            self.connection_close = True
        else:
            self.body_rcv = FixedStreamReceiver(self.content_length, _Nothing(1))
        self.headers["CONTENT_LENGTH"] = "0"


class _Nothing(OverflowableBuffer):  # type: ignore[misc]
    """A buffer that drops everything."""

    def append(self, data: bytes) -> None:
        pass


def _headers(lines: list[str]) -> dict[str, str]:
    """Return headers by names in lower case. Refuse those that two readers could take for different ones."""
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        # A folded line begins with a space. A name with one before the colon is another name to some readers.
        if not colon or not _NAME.fullmatch(name):
            raise ParsingError("A header is malformed.")
        name = name.lower().replace("_", "-")
        if name in headers:
            raise ParsingError("A header is repeated.")
        headers[name] = value.strip(" \t")
    if "transfer-encoding" in headers:
        raise ParsingError("Transfer-Encoding is not supported. Send Content-Length.")
    return headers


@lru_cache(maxsize=512)
def _wsgi_name(name: str) -> str:
    return name.upper().replace("-", "_")
