"""A part of an object in S3 as a file that is read as it comes. Client and worker both read large objects so."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, TypedDict, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from botocore.response import StreamingBody

READ_SIZE = 256 * 1024
"""Bytes of an answer that are read at a time."""


class Span(TypedDict, total=False):
    """The argument of GetObject that says which bytes; none for all of them."""

    Range: str


def span_of(start: int, end: int | None) -> Span:
    """Return the argument of GetObject for bytes ``start`` to ``end`` (not included)."""
    return {} if start == 0 and end is None else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}


class RangeFile(io.RawIOBase):
    """Bytes ``start`` to ``end`` (not included) of an object. Where an answer breaks off, another one goes on.

    Parameters
    ----------
    ask : callable
        Takes the arguments of GetObject that say which bytes, and gives the body of the answer.
    persist : callable
        Calls what it is given until it succeeds, or raises.
    start, end
        Without ``end``, to the end of the object.
    """

    def __init__(
        self,
        ask: Callable[[Span], StreamingBody],
        persist: Callable[[Callable[[], bytes]], bytes],
        start: int = 0,
        end: int | None = None,
    ) -> None:
        self._ask, self._persist, self._position, self._end = ask, persist, start, end
        self._body: StreamingBody | None = ask(self._span())

    def _span(self) -> Span:
        """The bytes that have not been read."""
        return span_of(self._position, self._end)

    def buffered(self) -> BinaryIO:
        """The file as unpicklers want it."""
        return cast(BinaryIO, io.BufferedReader(self, READ_SIZE))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self._read(min(len(view), READ_SIZE))
        view[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return self._read(None)

    def _read(self, size: int | None) -> bytes:
        return self._persist(lambda: self._read_on(size))

    def _read_on(self, size: int | None) -> bytes:
        if self._body is None:
            self._body = self._ask(self._span())
        body, self._body = self._body, None
        data = body.read(size)
        self._body, self._position = body, self._position + len(data)
        return data

    def close(self) -> None:
        if self._body is not None:
            self._body.close()
        super().close()
