"""Pickle large values without copies: they are neither joined for writing nor held twice for reading.

A pickle here is a list of pieces. Large ``bytes`` are pieces of their own, and so are the buffers of arrays, which
pickle protocol 5 hands out of band (PEP 574). A pickle with such buffers begins with their sizes, and they follow it.
A pickle without them has the usual format. The client imports this module too.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, BinaryIO

Buffer = bytes | bytearray | memoryview
Pieces = Sequence[Buffer]

OUT_OF_BAND_SIZE = 64 * 1024
"""Bytes of the smallest buffer that is stored out of band."""
# A plain pickle begins with the byte 0x80, so these bytes distinguish both formats.
MAGIC = b"ckb1"
_COUNT = struct.Struct("<4sI")
_SIZE = struct.Struct("<Q")


class Unreadable(BaseException):
    """A stored object could not be read, even after retries."""

    # Not an Exception, so that user code that unpickles cannot catch it and take it for its own error.


class Unreachable(Unreadable):
    """S3 could not be reached within the time limit for retries."""


class PieceFile:
    """A file to pickle into that collects pieces, with the buffer callback for its pickler."""

    def __init__(self) -> None:
        self._written: list[Buffer] = []
        self._buffers: list[memoryview] = []

    def write(self, data: Buffer) -> int:
        """Keep a piece of the pickle, without a copy."""
        self._written.append(data)
        return len(data)

    def take(self, buffer: pickle.PickleBuffer) -> bool:
        """Return whether the pickler should write a buffer in band. The ``buffer_callback`` of the pickler."""
        try:
            view = buffer.raw()
        except BufferError:
            # The buffer is not contiguous, so it cannot be stored as it is.
            return True
        if view.nbytes < OUT_OF_BAND_SIZE:
            return True
        self._buffers.append(view)
        return False

    def pieces(self) -> Pieces:
        """Return the pickle as pieces, or as one piece if it is small.

        Its buffers share the memory of the pickled objects.
        """
        if not self._buffers:
            return self._written if size_of(self._written) >= OUT_OF_BAND_SIZE else [b"".join(self._written)]
        sizes = [size_of(self._written), *(view.nbytes for view in self._buffers)]
        head = _COUNT.pack(MAGIC, len(self._buffers)) + b"".join(map(_SIZE.pack, sizes))
        return [head, *self._written, *self._buffers]


def size_of(pieces: Iterable[Buffer]) -> int:
    """Return the total number of bytes."""
    return sum(memoryview(piece).nbytes for piece in pieces)


@dataclass(frozen=True)
class ReceivedPickle:
    """A pickle whose large buffers lie in memory of their own, ready to become those of the unpickled objects."""

    pickled: bytes
    buffers: Sequence[bytearray]


def receive(read: Callable[[int], bytearray], size: int) -> ReceivedPickle:
    """Read the joined pieces of a `PieceFile`, ``size`` bytes in all. ``read`` returns the next bytes of a length.

    Raises ValueError if the pieces have another size.
    """
    head = read(min(_COUNT.size, size))
    if head[:4] != MAGIC or len(head) < _COUNT.size:
        return ReceivedPickle(bytes(head + read(size - len(head))), ())
    _, count = _COUNT.unpack(head)
    left = size - len(head) - (count + 1) * _SIZE.size
    # Damaged sizes must not allocate more memory than there are bytes.
    sizes = [number for (number,) in _SIZE.iter_unpack(read((count + 1) * _SIZE.size))] if left >= 0 else []
    if not sizes or sum(sizes) != left:
        raise ValueError("The pieces of a pickle have another size.")
    return ReceivedPickle(bytes(read(sizes[0])), [read(number) for number in sizes[1:]])


def loads(data: Buffer | ReceivedPickle, unpickle: Callable[..., object] = pickle.loads) -> Any:
    """Unpickle the joined pieces of a `PieceFile`. ``unpickle`` takes the arguments of `pickle.loads`."""
    if isinstance(data, ReceivedPickle):
        return unpickle(data.pickled, buffers=data.buffers)
    if data[:4] != MAGIC:
        return unpickle(data)
    view = memoryview(data)
    _, count = _COUNT.unpack_from(view)
    begin = _COUNT.size + (count + 1) * _SIZE.size
    sizes = (size for (size,) in _SIZE.iter_unpack(view[_COUNT.size : begin]))
    first, *rest = (view[start:end] for start, end in pairwise(accumulate(sizes, initial=begin)))
    # Each buffer is copied, so that arrays are writable and do not keep the rest of ``data`` in memory.
    return unpickle(first, buffers=map(bytearray, rest))


def load(file: BinaryIO, unpickler: Callable[..., pickle.Unpickler] = pickle.Unpickler) -> Any:
    """Unpickle as `loads` does, from a buffered file. Large buffers are read straight into their objects."""
    if file.peek(4)[:4] != MAGIC:  # type: ignore[attr-defined]
        return unpickler(file).load()
    _, count = _COUNT.unpack(_read_exactly(file, _COUNT.size))
    first, *rest = (_SIZE.unpack(_read_exactly(file, _SIZE.size))[0] for _ in range(count + 1))
    return unpickler(io.BytesIO(_read_exactly(file, first)), buffers=_read_buffers(file, rest)).load()


def _read_buffers(file: BinaryIO, sizes: Iterable[int]) -> Iterator[bytearray]:
    """Yield the buffers one by one."""
    # The unpickler asks for buffers in their stored order, so each can be read on demand.
    for size in sizes:
        buffer = bytearray(size)
        if file.readinto(buffer) != size:  # type: ignore[attr-defined]
            raise EOFError("The pickle is incomplete: its buffers end too early.")
        yield buffer


def _read_exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise EOFError("The pickle is incomplete: it ends too early.")
    return data


class Parts:
    """The parts of given sizes that a stream of bytes is cut into. Of what is copied, only one part is in memory.

    Parameters
    ----------
    size : callable
        Returns the bytes of a part by its number, from 0.
    """

    def __init__(self, size: Callable[[int], int]) -> None:
        self._size, self._number = size, 0
        self._pieces: list[Buffer] = []
        self._filled = 0

    def cut(self, data: Buffer, *, is_lasting: bool) -> Iterator[Pieces]:
        """Add ``data``, and yield each part that is now full. Data that last are not copied if they are large."""
        view = memoryview(data).cast("B")
        while view:
            size = self._size(self._number)
            piece, view = view[: size - self._filled], view[size - self._filled :]
            self._add(piece, is_lasting)
            if self._filled == size:
                self._number += 1
                yield self.rest()

    def _add(self, piece: memoryview, is_lasting: bool) -> None:
        self._filled += len(piece)
        if is_lasting and len(piece) >= OUT_OF_BAND_SIZE:
            self._pieces.append(piece)
            return
        # Small pieces are joined, because each would take a system call and a packet.
        last = self._pieces[-1] if self._pieces else None
        if isinstance(last, bytearray):
            last += piece
        else:
            self._pieces.append(bytearray(piece))

    def rest(self) -> Pieces:
        """Return the last part, which may be empty."""
        rest, self._pieces, self._filled = self._pieces, [], 0
        return rest
