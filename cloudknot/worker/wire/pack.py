"""The pack: the envelopes of consecutive elements in one object, and its binary format.

A pack is a header, one record of fixed size for each element, and the payloads one after the other.
Client and worker both import this module. It does no I/O and imports the standard library only.
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
_RECORD = struct.Struct("<BxxxxxxxddQQ")
_END = 4
"""Which of a record's words of 8 bytes tells where the payload ends."""
_MAGIC = b"ckp1"


@dataclass(frozen=True)
class Envelope:
    """One element's outcome on the wire.

    ``payload`` is the pickled value when ``kind`` is ``VALUE``, otherwise a `failure.Failure`. ``wall`` and ``cpu``
    are seconds, ``peak`` is the process's peak memory in bytes. Of a large value, ``pieces`` stand in place of the
    payload until they are stored.
    """

    kind: int
    payload: bytes
    wall: float
    cpu: float
    peak: int
    pieces: Pieces = ()

    @property
    def ok(self) -> bool:
        return self.kind == VALUE


def pack(envelopes: Iterable[Envelope]) -> bytes:
    """Join the envelopes of consecutive elements into one object."""
    items = list(envelopes)
    ends = accumulate(len(item.payload) for item in items)
    records = [_RECORD.pack(e.kind, e.wall, e.cpu, e.peak, end) for e, end in zip(items, ends, strict=True)]
    return b"".join([_HEADER.pack(_MAGIC, len(items)), *records, *(e.payload for e in items)])


def head_size(count: int) -> int:
    """Bytes of a pack of ``count`` elements before the first payload."""
    return _HEADER.size + count * _RECORD.size


def walls(head: bytes) -> list[float]:
    """Wall seconds of the values among a pack's first elements: as many as ``head``, its first bytes, tells of."""
    whole = (len(head) - _HEADER.size) // _RECORD.size
    records = memoryview(head)[_HEADER.size : head_size(whole)]
    return [wall for kind, wall, *_ in _RECORD.iter_unpack(records) if kind == VALUE]


def head_of(envelope: Envelope) -> bytes:
    """What comes before the pieces of a pack that has nothing but them."""
    record = (envelope.kind, envelope.wall, envelope.cpu, envelope.peak, size_of(envelope.pieces))
    return _HEADER.pack(_MAGIC, 1) + _RECORD.pack(*record)


class Pack(Sequence[Envelope]):
    """What `pack` made, read back one envelope at a time.

    The first `head_size` bytes alone tell everything but the payloads.
    """

    def __init__(self, data: bytes) -> None:
        magic, self._count = _HEADER.unpack_from(data)
        if magic != _MAGIC:
            raise ValueError("this is not a pack of cloudknot results")
        self._data = data
        self._payloads = head_size(self._count)

    @property
    def kinds(self) -> bytes:
        """The kind of every envelope, one byte each."""
        return self._data[_HEADER.size : self._payloads : _RECORD.size]

    def span(self, position: int) -> tuple[int, int]:
        """Where a payload begins and ends in the pack."""
        start = self._record(position - 1)[-1] if position else 0
        return self._payloads + start, self._payloads + self._record(position)[-1]

    def ends(self) -> array[int]:
        """Where each payload ends, counted from where the first one begins."""
        words = array("Q", self._data[_HEADER.size : self._payloads])
        if sys.byteorder == "big":
            words.byteswap()
        return words[_END :: _RECORD.size // words.itemsize]

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
            raise IndexError(f"element {position} of a pack of {len(self)}")
        kind, wall, cpu, peak, end = self._record(position)
        start = self._record(position - 1)[-1] if position else 0
        return Envelope(kind, self._data[self._payloads + start : self._payloads + end], wall, cpu, peak)

    def _record(self, position: int) -> tuple[int, float, float, int, int]:
        return _RECORD.unpack_from(self._data, _HEADER.size + position * _RECORD.size)
