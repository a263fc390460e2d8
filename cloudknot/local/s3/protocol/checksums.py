"""Checksums of objects, as clients send them in headers or behind the body.

The standard library has neither CRC32C nor CRC64NVME. ``awscrt`` computes them at the speed of memory. Clients that
send them mostly have it, since botocore needs it for them. Without it, the tables here compute some megabytes a
second.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Protocol

from cloudknot.local.s3.errors import S3Error

PREFIX = "x-amz-checksum-"
COMPOSITE, FULL = "COMPOSITE", "FULL_OBJECT"
_CRCS = {"CRC32": (32, 0xEDB88320), "CRC32C": (32, 0x82F63B78), "CRC64NVME": (64, 0x9A6C9329AC4BC9B5)}
"""Bits and reversed polynomial."""
CYCLIC = frozenset(_CRCS)
"""The algorithms whose checksums of parts can be combined to that of the whole object."""
ALGORITHMS = (*_CRCS, "SHA1", "SHA256")
Checksum = tuple[str, str]
"""The name of the algorithm, and the checksum in base64. That of parts has their number behind a hyphen."""


class Hash(Protocol):
    """An object that computes a checksum block by block."""

    def update(self, block: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


_HASHES: Mapping[str, Callable[[], Hash]] = {
    "SHA1": partial(hashlib.sha1, usedforsecurity=False),
    "SHA256": hashlib.sha256,
}


class Crc:
    """A cyclic redundancy check, by the name of its algorithm."""

    def __init__(self, algorithm: str) -> None:
        self._bytes = _CRCS[algorithm][0] // 8
        self._step = _step(algorithm)
        self._value = 0

    def update(self, block: bytes, /) -> None:
        self._value = self._step(block, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._bytes, "big")


def new_hash(algorithm: str) -> Hash:
    """Return an object that computes a checksum."""
    return Crc(algorithm) if algorithm in _CRCS else _HASHES[algorithm]()


def encoded(digest: bytes) -> str:
    """Return a digest in base64."""
    return base64.b64encode(digest).decode()


def announced(headers: Mapping[str, str]) -> tuple[str, str | None] | None:
    """Return the algorithm and the checksum that a request announces. It may follow the body, and is then None.

    Raises
    ------
    S3Error
        There are several checksums, or one that S3 does not know.
    """
    sent = [(name, headers[PREFIX + name.lower()]) for name in ALGORITHMS if PREFIX + name.lower() in headers]
    trailers = [name.strip().lower() for name in headers.get("x-amz-trailer", "").split(",") if name.strip()]
    later = [name for name in ALGORITHMS if PREFIX + name.lower() in trailers]
    if len(sent) + len(later) > 1 or len(later) < len(trailers):
        message = "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
        raise S3Error("InvalidRequest", message=message)
    if later:
        return later[0], None
    return sent[0] if sent else None


def check_form(algorithm: str, value: str) -> None:
    """Raise an error for a text that is no checksum of an algorithm."""
    try:
        length = len(base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError):
        length = -1
    if length != len(new_hash(algorithm).digest()):
        raise S3Error("InvalidRequest", message=f"Value for {PREFIX}{algorithm.lower()} header is invalid.")


def type_of(checksum: Checksum) -> str:
    """Return S3's type of a checksum."""
    return COMPOSITE if "-" in checksum[1] else FULL


def composite(algorithm: str, parts: Sequence[str]) -> str:
    """Return the checksum of the checksums of parts."""
    whole = new_hash(algorithm)
    for part in parts:
        whole.update(base64.b64decode(part))
    return f"{encoded(whole.digest())}-{len(parts)}"


def combined(algorithm: str, parts: Sequence[tuple[str, int]]) -> str:
    """Return the checksum of an object from the checksums and sizes of its parts, for a cyclic one."""
    bits, polynomial = _CRCS[algorithm]
    value = 0
    for checksum, size in parts:
        value = _product(value, _power(8 * size, bits, polynomial), bits, polynomial)
        value ^= int.from_bytes(base64.b64decode(checksum), "big")
    return encoded(value.to_bytes(bits // 8, "big"))


def _product(first: int, second: int, bits: int, polynomial: int) -> int:
    """Return the product of two reversed polynomials over GF(2), modulo a third one."""
    product = 0
    for bit in range(bits - 1, -1, -1):
        if first >> bit & 1:
            product ^= second
        second = (second >> 1) ^ (polynomial if second & 1 else 0)
    return product


@lru_cache(maxsize=256)
def _power(exponent: int, bits: int, polynomial: int) -> int:
    """Return x to the power of an exponent, as a reversed polynomial."""
    # In reversed polynomials, the highest bit is 1, and the one below it is x.
    result, square = 1 << (bits - 1), 1 << (bits - 2)
    while exponent:
        if exponent & 1:
            result = _product(result, square, bits, polynomial)
        square = _product(square, square, bits, polynomial)
        exponent >>= 1
    return result


@lru_cache(maxsize=8)
def _step(algorithm: str) -> Callable[[bytes, int], int]:
    """Return the function that continues a checksum with a block."""
    if algorithm == "CRC32":
        return zlib.crc32
    try:
        from awscrt import checksums
    except ImportError:
        return partial(table_step, algorithm)
    step: Callable[[bytes, int], int] = getattr(checksums, algorithm.lower())
    return step


def table_step(algorithm: str, block: bytes, value: int) -> int:
    """Continue a checksum with a block, without a library."""
    bits, _ = _CRCS[algorithm]
    table, ones = _table(algorithm), (1 << bits) - 1
    value ^= ones
    for byte in block:
        value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ ones


@lru_cache(maxsize=8)
def _table(algorithm: str) -> list[int]:
    _, polynomial = _CRCS[algorithm]
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (polynomial if value & 1 else 0)
        table.append(value)
    return table
