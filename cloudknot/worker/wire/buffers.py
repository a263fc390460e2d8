"""Pickles whose large parts are never copied: neither joined when written, nor held twice when read.

What is pickled is a list of pieces. Large ``bytes`` are pieces of their own, and so are the buffers of arrays, which
pickle protocol 5 hands out of band (PEP 574). With such buffers, a pickle is preceded by their sizes and followed by
them; without, it is a pickle like any other. The client imports this module, too.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any, BinaryIO

Buffer = bytes | bytearray | memoryview
Pieces = Sequence[Buffer]

LEAST = 64 * 1024
"""Bytes of the smallest buffer that is taken out of band."""
MAGIC = b"ckb1"
_COUNT = struct.Struct("<4sI")
_SIZE = struct.Struct("<Q")


class Unreadable(BaseException):
    """What was stored could not be read, also not after trying for long. It passes through what unpickles."""


class Unreachable(Unreadable):
    """S3 has not answered for as long as a request is repeated."""


class PieceFile:
    """What to pickle into: a file, and the buffer callback that goes with it."""

    def __init__(self) -> None:
        self._written: list[Buffer] = []
        self._buffers: list[memoryview] = []

    def write(self, data: Buffer) -> int:
        self._written.append(data)
        return len(data)

    def take(self, buffer: pickle.PickleBuffer) -> bool:
        """The callback: whether the pickler is to write this buffer itself."""
        try:
            view = buffer.raw()
        except BufferError:
            return True
        if view.nbytes < LEAST:
            return True
        self._buffers.append(view)
        return False

    def pieces(self) -> Pieces:
        """What was pickled; in one piece if it is small. Buffers are those of the pickled objects themselves."""
        if not self._buffers:
            return self._written if size_of(self._written) >= LEAST else [b"".join(self._written)]
        sizes = [size_of(self._written), *(view.nbytes for view in self._buffers)]
        head = _COUNT.pack(MAGIC, len(self._buffers)) + b"".join(map(_SIZE.pack, sizes))
        return [head, *self._written, *self._buffers]


def size_of(pieces: Iterable[Buffer]) -> int:
    """Bytes in all."""
    return sum(memoryview(piece).nbytes for piece in pieces)


def loads(data: Buffer, unpickle: Callable[..., object] = pickle.loads) -> Any:
    """Unpickle what a `PieceFile` gave, joined. ``unpickle`` takes what `pickle.loads` does."""
    if data[:4] != MAGIC:
        return unpickle(data)
    view = memoryview(data)
    _, count = _COUNT.unpack_from(view)
    begin = _COUNT.size + (count + 1) * _SIZE.size
    sizes = (size for (size,) in _SIZE.iter_unpack(view[_COUNT.size : begin]))
    first, *rest = (view[start:end] for start, end in pairwise(accumulate(sizes, initial=begin)))
    # Of their own, so that arrays can be written to and do not hold what else is in ``data``.
    return unpickle(first, buffers=map(bytearray, rest))


def load(file: BinaryIO, unpickler: Callable[..., pickle.Unpickler] = pickle.Unpickler) -> Any:
    """`loads` from a buffered file: what is large is read straight into the object that it becomes."""
    if file.peek(4)[:4] != MAGIC:  # type: ignore[attr-defined]
        return unpickler(file).load()
    _, count = _COUNT.unpack(_exactly(file, _COUNT.size))
    first, *rest = (_SIZE.unpack(_exactly(file, _SIZE.size))[0] for _ in range(count + 1))
    return unpickler(io.BytesIO(_exactly(file, first)), buffers=_read(file, rest)).load()


def _read(file: BinaryIO, sizes: Iterable[int]) -> Iterator[bytearray]:
    """The buffers, as the unpickler asks for them, which it does in their order."""
    for size in sizes:
        buffer = bytearray(size)
        if file.readinto(buffer) != size:  # type: ignore[attr-defined]
            raise EOFError("the pickle's buffers end early")
        yield buffer


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise EOFError("the pickle ends early")
    return data


class Parts:
    """Cuts what is written into parts of given sizes, so that no more than one part is held."""

    def __init__(self, size: Callable[[int], int]) -> None:
        self._size, self._number = size, 0
        self._held = bytearray()

    def cut(self, data: Buffer) -> Iterator[bytearray]:
        """Take ``data``, and give the parts that are now full."""
        view = memoryview(data).cast("B")
        while view:
            room = self._size(self._number) - len(self._held)
            self._held += view[:room]
            view = view[room:]
            if len(self._held) == self._size(self._number):
                full, self._held = self._held, bytearray()
                self._number += 1
                yield full

    def rest(self) -> bytearray:
        """What is left at the end."""
        rest, self._held = self._held, bytearray()
        return rest
