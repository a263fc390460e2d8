"""A part of an S3 object as a file, read while the answer arrives. Client and worker read large objects with it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, Protocol, TypedDict, TypeVar, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

T = TypeVar("T", bytes, int)

READ_SIZE = 256 * 1024
"""Bytes of an answer that are read at a time."""
BUFFER_SIZE = 64 * 1024
"""Bytes of the buffer. Longer reads go past it, straight to the memory of the reader."""


class AnswerBody(Protocol):
    """The body of an answer: botocore's, or that of a plain request."""

    def read(self, size: int | None = None, /) -> bytes: ...
    def readinto(self, buffer: memoryview, /) -> int: ...
    def close(self) -> None: ...


class Span(TypedDict, total=False):
    """The argument of GetObject that selects bytes. Empty for all of them."""

    Range: str


def span_of(start: int, end: int | None) -> Span:
    """Return the argument of GetObject for bytes ``start`` to ``end`` (not included)."""
    return {} if start == 0 and end is None else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}


class RangeFile(io.RawIOBase):
    """Bytes ``start`` to ``end`` (not included) of an object. If an answer breaks off, a new request reads on.

    Parameters
    ----------
    request : callable
        Takes a `Span`, sends a GetObject request, and returns the body of the answer.
    persist : callable
        Calls its argument until that succeeds, or raises.
    start, end
        ``end`` is the end of the object by default.
    """

    def __init__(
        self,
        request: Callable[[Span], AnswerBody],
        persist: Callable[[Callable[[], bytes | int]], bytes | int],
        start: int = 0,
        end: int | None = None,
    ) -> None:
        self._request, self._persist, self._position, self._end = request, persist, start, end
        self._body: AnswerBody | None = request(self._span())

    def _span(self) -> Span:
        """Return the bytes that have not been read yet."""
        return span_of(self._position, self._end)

    def buffered(self) -> BinaryIO:
        """Return a buffered file, as unpicklers need it."""
        return cast(BinaryIO, io.BufferedReader(self, BUFFER_SIZE))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")[:READ_SIZE]
        return cast(int, self._persist(lambda: self._read_on(lambda body: body.readinto(view))))

    def readall(self) -> bytes:
        return cast(bytes, self._persist(lambda: self._read_on(lambda body: body.read(None))))

    def _read_on(self, read: Callable[[AnswerBody], T]) -> T:
        if self._body is None:
            self._body = self._request(self._span())
        # The body is dropped before it is read, so that after an error the next try requests the rest anew.
        body, self._body = self._body, None
        data = read(body)
        self._body, self._position = body, self._position + (data if isinstance(data, int) else len(data))
        return data

    def close(self) -> None:
        if self._body is not None:
            self._body.close()
        super().close()
