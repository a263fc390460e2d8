"""The parser of requests. It checks the head of a request before it accepts the body."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from waitress.adjustments import Adjustments
from waitress.buffers import OverflowableBuffer
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.receiver import FixedStreamReceiver

from cloudknot.local.directory.full_disk import ERRORS
from cloudknot.local.iam.gate import LONGEST_CALL, Admission

# waitress writes the names of received headers in capitals, so no client can send this one.
UNSTORED = "HTTP_cloudknot.unstored"
"""The WSGI variable with the system's error for a request whose body found no space on the disk."""
Admit = Callable[[str, str, Mapping[str, str]], Admission]
"""Checks method, raw URI and headers of a request, by names in lower case."""

LONGEST_DISCARD = 64 * 1024 * 1024
"""Bytes of a refused body that are read and dropped, so that the client gets the answer and no broken connection."""
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Parser(HTTPRequestParser):  # type: ignore[misc]
    """A parser for one request, with the function that admits it.

    The body of a refused request is dropped. The body of a request that proves its signature only as a whole stays in
    memory. Other bodies may be gigabytes, and go to a file.
    """

    admission: Admission
    body_rcv: FixedStreamReceiver | None
    content_length: int

    def __init__(self, adjustments: Adjustments, admit: Admit) -> None:
        super().__init__(adjustments)
        self._admit = admit

    def received(self, data: bytes) -> int:
        try:
            return int(super().received(data))
        except OSError as error:
            if error.errno not in ERRORS or self.body_rcv is None:
                raise
            # A client reads no answer before it has sent its whole body. So the rest is received and dropped.
            self.body_rcv.buf.close()
            self.body_rcv.buf = _Nothing(1)
            self.headers[UNSTORED.removeprefix("HTTP_")] = str(error.errno)
            return int(super().received(data))

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
        elif not self.admission.is_verified:
            # The gate refuses longer ones, so this buffer never becomes a file.
            self.body_rcv = FixedStreamReceiver(self.content_length, OverflowableBuffer(LONGEST_CALL + 1))

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
