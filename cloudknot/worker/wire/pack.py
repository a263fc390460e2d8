"""The pack: the envelopes of consecutive elements in one object, and its binary format.

A pack is a header, one entry of fixed size for each element, and the payloads one after the other. The header names
the run, the gap and the number of entries, the round, the attempt and the Python that stored it. Header and entries
have one checksum. Each entry has the checksum of its payload, so a range request can read one result. A single large
payload, which is the last one, has a table before it instead, see `seal`.
Client and worker both import this module. It does no I/O and imports only the standard library.
"""

from __future__ import annotations

import math
import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import BinaryIO, overload
from zlib import crc32

from .buffers import Pieces, ReceivedPickle, size_of
from .by_value import PYTHON
from .failure import ABSENT, DAMAGED, UNREADABLE, VALUE
from .keys import Location
from .seal import (
    CHECKSUM,
    FORMAT,
    LARGE,
    TOO_SHORT,
    WRONG_CHECKSUM,
    DamagedError,
    NewerFormatError,
    checksum,
    received,
    stream_head,
    stream_head_size,
    unsealed,
    verified,
)

# Magic, format, Python, attempt, round, first element, size of the gap, number of entries, run, checksum of all
# payloads.
_HEADER = struct.Struct("<6sBBBxHIQII40sI")
_COUNT = 8
"""Position of the number of entries among the members of the header."""
_CHECKSUM = struct.Struct("<I")
# The checksum is in bytes that format 1 left empty. An entry is a whole number of words of 8 bytes, so that
# `Pack.ends` can read it as an array.
_ENTRY = struct.Struct("<BxxxIddQQ")
_END_WORD = 4
"""Position of the payload's end among an entry's words of 8 bytes."""
_MAGIC = b"CKPACK"
_BEGIN = _HEADER.size + _CHECKSUM.size
"""Start of the first entry."""
# Format 1: magic and number of elements. Both magics differ in all letters, so damage cannot turn one into the other.
_OLD_HEADER = struct.Struct("<4sI")
_OLD_MAGIC = b"ckp1"


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


@dataclass(frozen=True)
class Origin:
    """The place of a pack: its run, its elements and round, and the attempt of the job that stored it (0: unknown)."""

    run_id: str
    location: Location
    attempt: int = 0


NO_OUTCOME = Envelope(ABSENT, b"", 0.0, 0.0, 0)
"""The entry of an element that failed in this attempt, if another attempt follows."""


def pack(envelopes: Iterable[Envelope], origin: Origin) -> bytes:
    """Return the pack of the envelopes of consecutive elements."""
    return b"".join(pack_pieces(envelopes, origin))


def pack_pieces(envelopes: Iterable[Envelope], origin: Origin) -> Pieces:
    """Return the pack of the envelopes of consecutive elements, without a copy of a single large payload."""
    # All entries come before the payloads, so that a short read shows which elements failed and how long they took.
    items = list(envelopes)
    if items and not any(item.payload for item in items[:-1]):
        return [head_of(items, origin, [items[-1].payload]), items[-1].payload]
    ends = accumulate(len(item.payload) for item in items)
    entries = b"".join(
        _ENTRY.pack(e.kind, crc32(e.payload), e.wall, e.cpu, e.peak, end) for e, end in zip(items, ends, strict=True)
    )
    payloads = b"".join(e.payload for e in items)
    return [_header(origin, entries, crc32(payloads)), entries, payloads]


def _header(origin: Origin, entries: bytes, all_payloads: int) -> bytes:
    """Return the header of a pack with its checksum, which covers the entries too."""
    run_id, location = origin.run_id.encode(), origin.location
    if len(run_id) > 40:
        raise ValueError(f"The run id {origin.run_id!r} is longer than 40 bytes.")
    python = map(int, PYTHON.split("."))
    place = min(origin.attempt, 0xFFFF), location.round, location.first, location.number
    header = _HEADER.pack(_MAGIC, FORMAT, *python, *place, len(entries) // _ENTRY.size, run_id, all_payloads)
    return header + _CHECKSUM.pack(crc32(entries, crc32(header)))


def head_size(count: int) -> int:
    """Return the bytes before the first payload in a pack of ``count`` elements. Older packs have fewer."""
    return _BEGIN + count * _ENTRY.size


def needed_for_head(begin: bytes, location: Location) -> int:
    """Return the bytes of the head of the pack that begins with these bytes. Damaged bytes give another number."""
    count = (
        _HEADER.unpack_from(begin)[_COUNT] if begin.startswith(_MAGIC) and len(begin) >= _BEGIN else location.number
    )
    return head_size(min(count, location.number))


def wall_seconds(head: bytes) -> list[float]:
    """Return the wall seconds of the values in the first bytes of a pack. Damaged bytes give other times."""
    begin = _OLD_HEADER.size if head.startswith(_OLD_MAGIC) else _BEGIN
    complete = max(0, len(head) - begin) // _ENTRY.size
    # The bytes may go beyond the head.
    if head.startswith(_MAGIC) and complete:
        complete = min(complete, _HEADER.unpack_from(head)[_COUNT])
    entries = memoryview(head)[begin : begin + complete * _ENTRY.size]
    walls = [wall for kind, _, wall, *_ in _ENTRY.iter_unpack(entries) if kind == VALUE]
    return [wall for wall in walls if 0 <= wall < math.inf]


def head_of(envelopes: Sequence[Envelope], origin: Origin, pieces: Pieces = ()) -> bytes:
    """Return the bytes of a pack to store before the pieces of its last envelope. The others have no payload."""
    envelope = envelopes[-1]
    pieces = pieces or envelope.pieces
    large = size_of(pieces) > LARGE - CHECKSUM
    table = stream_head(pieces, 0) if large else b""
    proof = crc32(table) if large else checksum(pieces)
    size = len(table) + size_of(pieces)
    entries = [_ENTRY.pack(e.kind, 0, e.wall, e.cpu, e.peak, 0) for e in envelopes[:-1]]
    entries.append(_ENTRY.pack(envelope.kind, proof, envelope.wall, envelope.cpu, envelope.peak, size))
    # The blocks of a large payload have checksums, so all payloads together need none.
    return _header(origin, b"".join(entries), 0 if large else proof) + b"".join(entries) + table


class Pack(Sequence[Envelope]):
    """A stored pack, read one envelope at a time.

    Parameters
    ----------
    data : bytes
        The pack. Its first `head_size` bytes are enough for everything but payloads.
    origin : Origin
        The place at which the pack was found. Its attempt does not count.
    version : int
        The format of the run. Runs of format 1 may have packs of format 1.

    Attributes
    ----------
    python : str
        The Python that stored the pack, such as ``"3.11"``. Empty in format 1.
    attempt : int
        The attempt that stored the pack. 0 in format 1.

    Raises
    ------
    DamagedError
        The pack is damaged, or is one of another place.
    NewerFormatError
        A newer cloudknot stored the pack.
    """

    def __init__(self, data: bytes, origin: Origin, version: int = FORMAT) -> None:
        self._data, self.is_sealed = data, not data.startswith(_OLD_MAGIC)
        self._begin = _BEGIN if self.is_sealed else _OLD_HEADER.size
        self.python, self.attempt, self._all_payloads = "", 0, 0
        self._set_count(origin.location.number)
        if self.is_sealed:
            self._read_header(origin)
        else:
            self._read_old_header(version)

    def _set_count(self, count: int) -> None:
        self._count, self._payloads = count, self._begin + count * _ENTRY.size

    def _read_header(self, origin: Origin) -> None:
        data, location = self._data, origin.location
        if not data.startswith(_MAGIC):
            raise DamagedError("it is not a pack of cloudknot results" if data else TOO_SHORT)
        if len(data) < _BEGIN:
            raise DamagedError(TOO_SHORT)
        _, version, major, minor, self.attempt, *place, count, run_id, self._all_payloads = _HEADER.unpack_from(data)
        if version > FORMAT:
            raise NewerFormatError(version)
        if (run := run_id.rstrip(b"\0").decode(errors="replace")) != origin.run_id:
            raise DamagedError(f"it belongs to the run {run}")
        if place != [location.round, location.first, location.number] or count > location.number:
            raise DamagedError("it belongs to other elements")
        self._set_count(count)
        if len(data) < self._payloads:
            raise DamagedError(TOO_SHORT)
        (stored,) = _CHECKSUM.unpack_from(data, _HEADER.size)
        if crc32(memoryview(data)[_BEGIN : self._payloads], crc32(memoryview(data)[: _HEADER.size])) != stored:
            raise DamagedError(WRONG_CHECKSUM)
        self.python = f"{major}.{minor}"

    def _read_old_header(self, version: int) -> None:
        data = self._data
        if version > 1:
            raise DamagedError("it belongs to a run of an earlier version")
        if len(data) < self._payloads:
            raise DamagedError(TOO_SHORT)
        if _OLD_HEADER.unpack_from(data)[1] != self._count:
            raise DamagedError("it belongs to other elements")
        if any(start > end for start, end in pairwise([0, *self.ends()])) or max(self.kinds) > UNREADABLE:
            raise DamagedError("its list of results is wrong")

    @property
    def kinds(self) -> bytes:
        """The kind of every envelope, one byte each, as it was stored."""
        return self._data[self._begin : self._payloads : _ENTRY.size]

    def verified_kinds(self) -> bytes:
        """Return the kinds, with `DAMAGED` for each damaged payload. The data must be the whole pack."""
        payloads = memoryview(self._data)[self._payloads :]
        # The usual case: one checksum for all payloads, since millions of small ones would take longer.
        if self.is_sealed and self._count > 1 and not self.is_stream and crc32(payloads) == self._all_payloads:
            return self.kinds
        kinds = bytearray(self.kinds)
        for position in range(self._count):
            try:
                self.payload(position, self._data[slice(*self.span(position))])
            except DamagedError:
                kinds[position] = DAMAGED
        return bytes(kinds)

    @property
    def begin(self) -> int:
        """The start of the first record."""
        return self._payloads

    def span(self, position: int) -> tuple[int, int]:
        """Return the start and the end of a record in the pack."""
        start = self._entry(position - 1)[-1] if position else 0
        return self._payloads + start, self._payloads + self._entry(position)[-1]

    def payload(self, position: int, record: bytes) -> memoryview:
        """Return the payload from the bytes that `span` names. Raises `DamagedError` if they are not its bytes."""
        view, (start, end) = memoryview(record), self.span(position)
        if len(view) != end - start:
            raise DamagedError(TOO_SHORT)
        if self.is_stream and position == self._count - 1:
            self._check(view[: stream_head_size(len(view))], position)
            return unsealed(view, 0)
        if self.is_sealed:
            self._check(view, position)
        return view

    def _check(self, proven: memoryview, position: int) -> None:
        if crc32(proven) != self._entry(position)[1]:
            raise DamagedError(WRONG_CHECKSUM)

    @property
    def is_stream(self) -> bool:
        """Whether the pack has a single large payload, that of its last entry, with a table before it."""
        if not (self.is_sealed and self._count and self._entry(self._count - 1)[-1] > LARGE):
            return False
        return self._count == 1 or self._entry(self._count - 2)[-1] == 0

    def stream(self, file: BinaryIO) -> BinaryIO:
        """Return the only payload as a file that compares checksums while it is read.

        ``file`` is at the start of the record.
        """
        return verified(file, self._entry(self._count - 1)[-1], 0) if self.is_stream else file

    def receive(self, file: BinaryIO) -> ReceivedPickle:
        """Read the only payload, which is small enough for one checksum, from a file at its start.

        Raises `DamagedError` if it is not the payload that was stored.
        """
        start, end = self.span(0)
        with file:
            pickled, proof = received(file, end - start, 0)
        if proof != self._entry(0)[1]:
            raise DamagedError(WRONG_CHECKSUM)
        return pickled

    def ends(self) -> array[int]:
        """Return the end of each record, counted from the start of the first one."""
        words = array("Q", self._data[self._begin : self._payloads])
        if sys.byteorder == "big":
            words.byteswap()
        return words[_END_WORD :: _ENTRY.size // words.itemsize]

    def peaks(self) -> list[int]:
        """Return the peak memory of the process at the end of each element, in bytes."""
        return [self._entry(position)[4] for position in range(len(self))]

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
        kind, _, wall, cpu, peak, _ = self._entry(position)
        payload = self.payload(position, self._data[slice(*self.span(position))])
        return Envelope(kind, bytes(payload), wall, cpu, peak)

    def _entry(self, position: int) -> tuple[int, int, float, float, int, int]:
        return _ENTRY.unpack_from(self._data, self._begin + position * _ENTRY.size)
