"""The body of an upload to S3 in AWS's own chunks, each of which may be signed.

See the Amazon S3 API reference, "Signature Calculations for the Authorization Header: Transferring Payload in Multiple
Chunks" and its page about trailing headers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from cloudknot.local.iam.chunk_signatures import ChunkSignatures
from cloudknot.local.iam.signing import Readable
from cloudknot.local.wsgi import ServiceError

LONGEST_LINE = 4096
"""Bytes in a line between two chunks, or in a trailer."""
MOST_TRAILERS = 16
SIGNATURE = "x-amz-trailer-signature"
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,12})(?:;chunk-signature=([0-9a-f]{64}))?")
_TRAILER = re.compile(rb"([A-Za-z0-9-]+):[ \t]*([!-~]*)[ \t]*")
_AHEAD = 1 << 16
"""Bytes that are read at a time to find the end of a line."""


class ChunkedBody:
    """A body that is decoded, and compared with its signatures, while it is read.

    Parameters
    ----------
    source : Readable
        The bytes as they arrive, with chunks.
    length : int
        Bytes in the decoded body, as the client has announced.
    signatures : ChunkSignatures or None
        Checks the chunks. None if they are not signed.
    announced : collection of str
        The names of the trailers that the client has announced, in lower case.
    """

    def __init__(
        self, source: Readable, length: int, signatures: ChunkSignatures | None, announced: frozenset[str]
    ) -> None:
        self._source, self._left = source, length
        self._signatures, self._announced = signatures, announced
        self._ahead = b""
        self._in_chunk, self._chunk_signature = 0, ""
        self._has_ended = False
        self.trailers: Mapping[str, str] = {}
        """The trailers by names in lower case, after the end of the body."""

    def read(self, size: int = -1, /) -> bytes:
        """Return ``size`` bytes, or fewer at the end of the body.

        Raises
        ------
        ServiceError
            The chunks are malformed, do not have the announced length, or do not have their signatures.
        """
        wanted = self._left if size < 0 else min(size, self._left)
        pieces = []
        while wanted:
            if not self._in_chunk:
                self._start_chunk()
            piece = self._take(min(wanted, self._in_chunk))
            pieces.append(piece)
            wanted -= len(piece)
            self._left -= len(piece)
            self._in_chunk -= len(piece)
            if self._signatures is not None:
                self._signatures.add(piece)
            if not self._in_chunk:
                self._end_chunk()
        if not self._left and not self._has_ended:
            self._end()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _start_chunk(self) -> None:
        self._in_chunk, self._chunk_signature = self._chunk_line()
        if not 0 < self._in_chunk <= self._left:
            raise _wrong_length()

    def _end_chunk(self) -> None:
        if self._take(2) != b"\r\n":
            raise _malformed()
        if self._signatures is not None:
            self._signatures.check_chunk(self._chunk_signature)

    def _end(self) -> None:
        """Read the last chunk, which is empty, and the trailers."""
        self._has_ended = True
        size, signature = self._chunk_line()
        if size:
            raise _wrong_length()
        if self._signatures is not None:
            self._signatures.check_chunk(signature)
        lines = []
        while line := self._line():
            lines.append(line)
            if len(lines) > MOST_TRAILERS:
                raise _malformed()
        if self._ahead or self._source.read(1):
            raise _wrong_length()
        trailers = _parsed(lines)
        trailer_signature = trailers.pop(SIGNATURE, "")
        if trailers.keys() != self._announced:
            raise ServiceError("MalformedTrailerError", "The trailers are not those in the header x-amz-trailer.")
        if self._signatures is not None and trailers:
            self._signatures.check_trailers(trailers, trailer_signature)
        self.trailers = trailers

    def _chunk_line(self) -> tuple[int, str]:
        """Return the size and the signature in the line before a chunk."""
        match = _SIZE.fullmatch(self._line())
        if match is None or (match[2] is not None) != (self._signatures is not None):
            raise _malformed()
        return int(match[1], 16), (match[2] or b"").decode()

    def _line(self) -> bytes:
        end = self._ahead.find(b"\r\n")
        while end < 0:
            block = self._source.read(_AHEAD) if len(self._ahead) < LONGEST_LINE else b""
            if not block:
                raise _malformed()
            self._ahead += block
            end = self._ahead.find(b"\r\n")
        line, self._ahead = self._ahead[:end], self._ahead[end + 2 :]
        return line

    def _take(self, size: int) -> bytes:
        """Return ``size`` bytes of a chunk."""
        start, self._ahead = self._ahead[:size], self._ahead[size:]
        rest = self._source.read(size - len(start)) if len(start) < size else b""
        if len(start) + len(rest) < size:
            raise _wrong_length()
        return start + rest if start else rest


def _parsed(lines: list[bytes]) -> dict[str, str]:
    """Return trailers by names in lower case."""
    trailers: dict[str, str] = {}
    for line in lines:
        # Some clients end each trailer with a line feed, too.
        match = _TRAILER.fullmatch(line.rstrip(b"\n"))
        if match is None or (name := match[1].decode().lower()) in trailers:
            raise ServiceError("MalformedTrailerError", "A trailer is malformed or repeated.")
        trailers[name] = match[2].decode()
    return trailers


def _malformed() -> ServiceError:
    return ServiceError("InvalidRequest", "The chunks of the body are malformed.")


def _wrong_length() -> ServiceError:
    message = "You did not provide the number of bytes specified by the x-amz-decoded-content-length HTTP header"
    return ServiceError("IncompleteBody", message)
