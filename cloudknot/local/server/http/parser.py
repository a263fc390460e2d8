"""The parser of requests. It checks the head of a request before it accepts the body."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from waitress.adjustments import Adjustments
from waitress.buffers import OverflowableBuffer
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.receiver import FixedStreamReceiver

from cloudknot.local.iam.gate import Admission
from cloudknot.local.server.http.bodies import StreamedBody

Admit = Callable[[str, str, Mapping[str, str]], Admission]
"""Checks method, raw URI and headers of a request, by names in lower case."""

LARGE = 64 * 1024
"""Bytes. A longer object is not read before the request is answered."""
LONGEST_DISCARD = 64 * 1024 * 1024
"""Bytes of a refused body that are read and dropped, so that the client gets the answer and no broken connection."""
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Parser(HTTPRequestParser):  # type: ignore[misc]
    """A parser for one request, with the function that admits it.

    The body of a refused request is dropped. A large object in an admitted request stays in the socket, for the thread
    that answers the request. All other bodies are small, and come to memory.
    """

    admission: Admission
    body_rcv: FixedStreamReceiver | StreamedBody | None
    content_length: int
    completed: bool

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
        _check_lines(header_plus)
        super().parse_header(header_plus)
        headers = {name.lower().replace("_", "-"): value for name, value in self.headers.items()}
        self.admission = self._admit(self.command, self.request_uri, headers)
        # boto3 sends the header before an empty object as well. waitress would then wait for a body forever.
        if self.body_rcv is None:
            self.expect_continue = False
        elif self.admission.refusal is not None:
            self._refuse_body()
        elif self.admission.has_object and self.content_length > LARGE:
            self.body_rcv, self.expect_continue = StreamedBody(self.content_length, self.expect_continue), False

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


def _check_lines(head: bytes) -> None:
    """Refuse headers that two readers could take for different ones."""
    names = set()
    for line in head.split(b"\r\n")[1:]:
        name, colon, _ = line.partition(b":")
        if not line:
            continue
        # A folded line begins with a space. A name with one before the colon is another name to some readers.
        if not colon or not _NAME.fullmatch(name):
            raise ParsingError("A header is malformed.")
        name = name.lower().replace(b"_", b"-")
        if name in names:
            raise ParsingError("A header is repeated.")
        if name == b"transfer-encoding":
            raise ParsingError("Transfer-Encoding is not supported. Send Content-Length.")
        names.add(name)
