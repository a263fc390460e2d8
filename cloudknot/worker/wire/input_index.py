"""The index of the inputs: the offset of each element's pickle, as little-endian 64-bit numbers."""

from __future__ import annotations

import struct

# Entries of fixed size, so that a child can read its part of the index by a byte range.
_OFFSET = struct.Struct("<Q")
OFFSET_SIZE = _OFFSET.size


def pack_offset(offset: int) -> bytes:
    """Return one entry of the index: the start of an element's pickle."""
    return _OFFSET.pack(offset)


def unpack_offsets(data: bytes) -> list[int]:
    """Return the offsets in a part of the index."""
    return [offset for (offset,) in _OFFSET.iter_unpack(data)]
