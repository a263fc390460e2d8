"""The index of the inputs: the offset of each element's record, as little-endian 64-bit numbers.

The elements of a later round are stored in the same way. The upper bits of a number are a checksum, which ties it to
its run and position. In format 1 they are zero.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from zlib import crc32

# Entries of fixed size, so that a child can read its part of the index by a byte range.
_OFFSET = struct.Struct("<Q")
OFFSET_SIZE = _OFFSET.size
# 44 bits: an object of S3 has at most 5 TiB (S3 user guide, "Amazon S3 objects overview"). The 20 bits of the checksum
# are enough, because the record at a wrong offset has a checksum of its own.
_BITS = 44
_LOW = (1 << _BITS) - 1


def pack_entry(number: int, position: int, seed: int) -> bytes:
    """Return one entry of an index: the offset of a record, or the index of an element."""
    return _OFFSET.pack(number | _proof(number, position, seed) << _BITS)


def pack_old_entries(numbers: Iterable[int]) -> bytes:
    """Return entries in format 1."""
    return b"".join(map(_OFFSET.pack, numbers))


def unpack_entries(data: bytes, first: int, seed: int | None) -> list[int | None]:
    """Return the numbers in a part of an index, with None for each damaged entry.

    Parameters
    ----------
    data : bytes
    first : int
        The position of its first entry in the index.
    seed : int or None
        None reads format 1.
    """
    entries = (entry for (entry,) in _OFFSET.iter_unpack(data[: len(data) // OFFSET_SIZE * OFFSET_SIZE]))
    if seed is None:
        return list(entries)
    return [
        number if _proof(number := entry & _LOW, position, seed) == entry >> _BITS else None
        for position, entry in enumerate(entries, first)
    ]


def _proof(number: int, position: int, seed: int) -> int:
    return crc32(_OFFSET.pack(number) + _OFFSET.pack(position), seed) >> 12
