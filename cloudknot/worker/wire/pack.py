"""The pack: the envelopes of consecutive elements in one object, and its binary format.

A pack is a header, one entry of fixed size for each element, and the payloads one after the other.
Client and worker both import this module. It does no I/O and imports only the standard library.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import overload

from .buffers import Pieces, size_of
from .failure import VALUE

_HEADER = struct.Struct("<4sI")
# The padding aligns an entry to words of 8 bytes, so that `Pack.ends` can read it as an array.
_ENTRY = struct.Struct("<BxxxxxxxddQQ")
_END_WORD = 4
"""Position of the payload's end among an entry's words of 8 bytes."""
_MAGIC = b"ckp1"


@dataclass(frozen=True)
class Envelope:
    """The outcome of one element, as it is stored.

    Attributes
    ----------
    kind : int
        ``VALUE``, or the kind of the failure.
    payload : bytes
        The pickled value, or a stored `failure.Failure`.
    wall, cpu : float
        Seconds.
    peak : int
        Peak memory of the process in bytes.
    pieces : Pieces
        The pickle of a large value, in place of the payload, until it is stored.
    """

    kind: int
    payload: bytes
    wall: float
    cpu: float
    peak: int
    pieces: Pieces = ()

    @property
    def ok(self) -> bool:
        """Whether the outcome is a value."""
        return self.kind == VALUE


def pack(envelopes: Iterable[Envelope]) -> bytes:
    """Return the pack of the envelopes of consecutive elements."""
    # All entries come before the payloads, so that a short read shows which elements failed and how long they took.
    items = list(envelopes)
    ends = accumulate(len(item.payload) for item in items)
    entries = [_ENTRY.pack(e.kind, e.wall, e.cpu, e.peak, end) for e, end in zip(items, ends, strict=True)]
    return b"".join([_HEADER.pack(_MAGIC, len(items)), *entries, *(e.payload for e in items)])


def head_size(count: int) -> int:
    """Return the bytes before the first payload in a pack of ``count`` elements."""
    return _HEADER.size + count * _ENTRY.size


def wall_seconds(head: bytes) -> list[float]:
    """Return the wall seconds of the values in the first bytes of a pack."""
    complete = (len(head) - _HEADER.size) // _ENTRY.size
    entries = memoryview(head)[_HEADER.size : head_size(complete)]
    return [wall for kind, wall, *_ in _ENTRY.iter_unpack(entries) if kind == VALUE]


def head_of(envelope: Envelope) -> bytes:
    """Return the head of a pack with one envelope, to store before its pieces."""
    entry = (envelope.kind, envelope.wall, envelope.cpu, envelope.peak, size_of(envelope.pieces))
    return _HEADER.pack(_MAGIC, 1) + _ENTRY.pack(*entry)


class Pack(Sequence[Envelope]):
    """A stored pack, read one envelope at a time.

    Parameters
    ----------
    data : bytes
        The pack. Its first `head_size` bytes are enough for everything but payloads.
    """

    def __init__(self, data: bytes) -> None:
        magic, self._count = _HEADER.unpack_from(data)
        if magic != _MAGIC:
            raise ValueError("This object is not a pack of cloudknot outcomes.")
        self._data = data
        self._payloads = head_size(self._count)

    @property
    def kinds(self) -> bytes:
        """The kind of every envelope, one byte each."""
        return self._data[_HEADER.size : self._payloads : _ENTRY.size]

    def span(self, position: int) -> tuple[int, int]:
        """Return the start and the end of a payload in the pack."""
        start = self._entry(position - 1)[-1] if position else 0
        return self._payloads + start, self._payloads + self._entry(position)[-1]

    def ends(self) -> array[int]:
        """Return the end of each payload, counted from the start of the first one."""
        words = array("Q", self._data[_HEADER.size : self._payloads])
        if sys.byteorder == "big":
            words.byteswap()
        return words[_END_WORD :: _ENTRY.size // words.itemsize]

    def __len__(self) -> int:
        return int(self._count)

    @overload
    def __getitem__(self, position: int) -> Envelope: ...
    @overload
    def __getitem__(self, position: slice) -> list[Envelope]: ...
    def __getitem__(self, position: int | slice) -> Envelope | list[Envelope]:
        if isinstance(position, slice):
            return [self[i] for i in range(*position.indices(len(self)))]
        if not 0 <= position < len(self):
            raise IndexError(f"Position {position} is outside a pack of {len(self)} elements.")
        kind, wall, cpu, peak, end = self._entry(position)
        start = self._entry(position - 1)[-1] if position else 0
        return Envelope(kind, self._data[self._payloads + start : self._payloads + end], wall, cpu, peak)

    def _entry(self, position: int) -> tuple[int, float, float, int, int]:
        return _ENTRY.unpack_from(self._data, _HEADER.size + position * _ENTRY.size)
