"""The body of a request, read from its connection by the thread that answers the request."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Protocol

from cloudknot.local.wsgi import BLOCK


class BodyConnection(Protocol):
    """The connection that a body arrives on."""

    def receive_into(self, buffer: memoryview) -> int:
        """Wait for bytes, and return their number, at least one."""
        ...

    def request_body(self) -> None:
        """Ask a client that waits for it to send the body."""
        ...


class StreamedBody:
    """A body that stays in the socket until it is read.

    Parameters
    ----------
    length : int
        Bytes in the body.
    is_awaited : bool
        Whether the client sends the body only when the server asks for it.
    """

    def __init__(self, length: int, is_awaited: bool) -> None:
        self._left, self._is_awaited = length, is_awaited
        # The bytes that came together with the head.
        self._first = b""
        self._source: BodyConnection | None = None
        self._buffer = memoryview(b"")

    def connect(self, source: BodyConnection) -> None:
        """Set the connection to read from."""
        self._source = source

    def start(self, data: bytes) -> int:
        """Take the bytes that came together with the head, and return their number."""
        self._first = data[: self._left]
        return len(self._first)

    def has_rest_below(self, limit: int) -> bool:
        """Return whether the client sends the rest of the body without being asked, and at most ``limit`` bytes."""
        return not self._left or (not self._is_awaited and self._left <= limit)

    def read(self, size: int = -1, /) -> bytes:
        """Return ``size`` bytes, or fewer at the end of the body."""
        wanted = self._left if size < 0 else min(size, self._left)
        return self._block(wanted) if wanted <= BLOCK else b"".join(self._blocks(wanted))

    def discard(self) -> None:
        """Read the rest and drop it."""
        for _ in self._blocks(self._left):
            pass

    def _blocks(self, wanted: int) -> Iterator[bytes]:
        while wanted:
            block = self._block(min(wanted, BLOCK))
            wanted -= len(block)
            yield block

    def _block(self, wanted: int) -> bytes:
        """Return a block of at most `BLOCK` bytes."""
        assert self._source is not None
        if wanted and self._is_awaited:
            self._source.request_body()
            self._is_awaited = False
        first, self._first = self._first[:wanted], self._first[wanted:]
        end = wanted - len(first)
        if len(self._buffer) < end:
            # A page of this memory exists once bytes have arrived in it, so a stalled client takes none.
            self._buffer = memoryview(mmap.mmap(-1, min(BLOCK, self._left)))
        filled = 0
        while filled < end:
            filled += self._source.receive_into(self._buffer[filled:end])
        self._left -= wanted
        return b"".join((first, self._buffer[:end]))

    # The parser of waitress has these methods of its own bodies called.
    def getfile(self) -> StreamedBody:
        """Return the body as a file."""
        return self

    def getbuf(self) -> StreamedBody:
        """Return the body as an object with ``close``."""
        return self

    def close(self) -> None:
        """Do nothing: the rest of the body is dropped together with the connection."""
