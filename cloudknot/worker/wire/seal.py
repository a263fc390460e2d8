"""Seals: checksums that prove stored data before it is unpickled.

A small record is its payload and a checksum. A large record, which is unpickled while it arrives, is a table with the
checksum of each block, and then the payload. A seed ties the checksum to the place of the record, such as the element
of a run. So a record at the place of another one is refused, too. The client imports this module too.
"""

# CRC-32 takes 0.3 ms for each MB, and a cryptographic hash 0.6 to 2 ms. Seals detect accidents. They do not protect
# against people who may write to the bucket, because those could write a seal as well.

from __future__ import annotations

import io
import sys
from array import array
from collections.abc import Iterable
from typing import BinaryIO, cast
from zlib import crc32

from .buffers import Buffer, Pieces, ReceivedPickle, receive, size_of

FORMAT = 2
"""The format of stored data that this version writes. Format 1 had no seals."""
LARGE = 8 * 1024 * 1024
"""Bytes of the largest record with one checksum. A larger one has a table."""
BLOCK = 256 * 1024
"""Bytes of a block. No byte of a block is used before its checksum was compared."""
CHECKSUM = 4
"""Bytes of a checksum, little-endian."""
# No pickle begins with this byte, so a reader of format 1 fails.
_STREAM = b"\xffCKS"


class UnusableError(Exception):
    """Stored data that must not be unpickled.

    The message is a clause about the data: "is damaged: its checksum is wrong".
    """


class DamagedError(UnusableError):
    """Stored data that differ from the data that were written, or that belong to another place."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"is damaged: {reason}")


class NewerFormatError(UnusableError):
    """Stored data in a format of a newer cloudknot."""

    def __init__(self, version: int) -> None:
        super().__init__(f"has the format {version} of a newer cloudknot, and this one reads formats up to {FORMAT}")


WRONG_CHECKSUM = "its checksum is wrong"
TOO_SHORT = "it ends too early"


def seed_of(place: str) -> int:
    """Return the seed for records at a place, such as ``"20261124T065124884127-a905db/inputs"``."""
    return crc32(place.encode())


def numbered(seed: int, number: int) -> int:
    """Return the seed for the record with a number at the place of ``seed``."""
    return crc32(number.to_bytes(8, "little"), seed)


def sealed(payload: Pieces, seed: int) -> Pieces:
    """Return a record as pieces. The pieces of the payload are not copied."""
    if size_of(payload) + CHECKSUM > LARGE:
        return [stream_head(payload, seed), *payload]
    return [*payload, checksum(payload, seed).to_bytes(CHECKSUM, "little")]


def sealed_size(size: int) -> int:
    """Return the bytes of a record with ``size`` bytes of payload."""
    if size + CHECKSUM > LARGE:
        return len(_STREAM) + CHECKSUM * (1 + -(-size // BLOCK)) + size
    return size + CHECKSUM


def checksum(pieces: Iterable[Buffer], seed: int = 0) -> int:
    """Return the checksum of joined pieces."""
    for piece in pieces:
        seed = crc32(piece, seed)
    return seed


def unsealed(record: Buffer, seed: int) -> memoryview:
    """Return the payload of a record.

    Raises
    ------
    DamagedError
        The record is not the one that was written at this place.
    """
    view = memoryview(record)
    if len(view) > LARGE:
        return _unsealed_blocks(view, seed)
    if len(view) < CHECKSUM:
        raise DamagedError(TOO_SHORT)
    payload, stored = view[:-CHECKSUM], int.from_bytes(view[-CHECKSUM:], "little")
    if crc32(payload, seed) != stored:
        raise DamagedError(WRONG_CHECKSUM)
    return payload


def received(file: BinaryIO, size: int, seed: int) -> tuple[ReceivedPickle, int]:
    """Read a pickle of ``size`` bytes from a buffered file. Return it with its checksum, which the caller compares.

    Each byte is read once, into the memory where it stays. Raises `DamagedError` if the pickle is incomplete.
    """
    proof = seed

    def read(length: int) -> bytearray:
        nonlocal proof
        data = bytearray(length)
        with memoryview(data) as view:
            for start in range(0, length, BLOCK):
                block = view[start : start + BLOCK]
                if file.readinto(block) != len(block):  # type: ignore[attr-defined]
                    raise DamagedError(TOO_SHORT)
                # While the block is in the cache of the processor.
                proof = crc32(block, proof)
        return data

    try:
        return receive(read, size), proof
    except ValueError as error:
        raise DamagedError(WRONG_CHECKSUM) from error


def stream_head(payload: Iterable[Buffer], seed: int) -> bytes:
    """Return the bytes before the payload of a large record."""
    head = _STREAM + _little_endian(_table(payload)).tobytes()
    return head + crc32(head, seed).to_bytes(CHECKSUM, "little")


def stream_head_size(size: int) -> int:
    """Return the bytes before the payload in a large record of ``size`` bytes."""
    fixed = len(_STREAM) + CHECKSUM
    return fixed + CHECKSUM * -(-(size - fixed) // (BLOCK + CHECKSUM))


def _table(payload: Iterable[Buffer]) -> array[int]:
    """Return the checksum of each block."""
    table, current, room = array("I"), 0, BLOCK
    for piece in payload:
        view = memoryview(piece).cast("B")
        while view:
            part, view = view[:room], view[room:]
            current, room = crc32(part, current), room - len(part)
            if not room:
                table.append(current)
                current, room = 0, BLOCK
    if room < BLOCK:
        table.append(current)
    return table


def _little_endian(numbers: array[int]) -> array[int]:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _read_table(head: Buffer, seed: int) -> array[int]:
    view = memoryview(head)
    if view[: len(_STREAM)] != _STREAM or crc32(view[:-CHECKSUM], seed) != int.from_bytes(view[-CHECKSUM:], "little"):
        raise DamagedError(WRONG_CHECKSUM)
    table = array("I")
    table.frombytes(view[len(_STREAM) : -CHECKSUM])
    return _little_endian(table)


def _unsealed_blocks(record: memoryview, seed: int) -> memoryview:
    head = stream_head_size(len(record))
    payload = record[head:]
    for number, stored in enumerate(_read_table(record[:head], seed)):
        if crc32(payload[number * BLOCK : (number + 1) * BLOCK]) != stored:
            raise DamagedError(WRONG_CHECKSUM)
    return payload


def verified(file: BinaryIO, size: int, seed: int) -> BinaryIO:
    """Return the payload of a large record as a file that compares each block before it returns a byte of it.

    Parameters
    ----------
    file : file
        A buffered file at the start of the record.
    size : int
        Bytes of the record.
    seed : int

    Raises
    ------
    DamagedError
        The table is not the one that was written at this place. Reading raises it for a block.
    """
    head = file.read(stream_head_size(size))
    if len(head) < stream_head_size(size):
        raise DamagedError(TOO_SHORT)
    blocks = _Blocks(file, _read_table(head, seed), size - len(head))
    return cast(BinaryIO, io.BufferedReader(blocks, BLOCK))


class _Blocks(io.RawIOBase):
    """The blocks of a large record as a file."""

    def __init__(self, file: BinaryIO, table: array[int], size: int) -> None:
        self._file, self._table, self._left = file, iter(table), size
        self._block = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer)).cast("B")
        length = min(BLOCK, self._left)
        if not self._block and len(view) >= length:
            # The usual case: without a copy. The caller drops the bytes if this raises.
            self._fill(view[:length])
            return length
        if not self._block:
            self._block = memoryview(bytearray(length))
            self._fill(self._block)
        part, self._block = self._block[: len(view)], self._block[len(view) :]
        view[: len(part)] = part
        return len(part)

    def _fill(self, block: memoryview) -> None:
        """Read the next block."""
        if not block:
            return
        if self._file.readinto(block) != len(block):  # type: ignore[attr-defined]
            raise DamagedError(TOO_SHORT)
        if crc32(block) != next(self._table, None):
            raise DamagedError(WRONG_CHECKSUM)
        self._left -= len(block)

    def close(self) -> None:
        self._file.close()
        super().close()
