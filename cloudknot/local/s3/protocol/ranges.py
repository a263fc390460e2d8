"""Ranges of an object: the header ``Range``, a part of a multipart upload, and the range that a copy reads."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cloudknot.local.s3.errors import S3Error

_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)")
Span = tuple[int, int]
"""The first byte, and the one after the last byte."""


def span_of(header: str, size: int) -> Span | None:
    """Return the span of a header ``Range``, or None for one that S3 ignores: several ranges, or no range at all.

    Raises
    ------
    S3Error
        The range begins behind the end of the object.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None or not (match[1] or match[2]) or (match[1] and match[2] and int(match[2]) < int(match[1])):
        return None
    if not match[1]:
        start, end = max(size - int(match[2]), 0), size
    else:
        start, end = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
    if start >= size or start == end:
        raise S3Error("InvalidRange", header, "The requested range is not satisfiable", 416)
    return start, end


def part_span(number: int, parts: Sequence[int], size: int) -> Span:
    """Return the span of a part. An object that was stored as a whole has one part."""
    sizes = parts or (size,)
    if not 1 <= number <= len(sizes):
        raise S3Error("InvalidPartNumber", str(number), "The requested partnumber is not satisfiable", 416)
    start = sum(sizes[: number - 1])
    return start, start + sizes[number - 1]


def copied_span(header: str | None, size: int) -> Span:
    """Return the span that UploadPartCopy reads from an object."""
    if header is None:
        return 0, size
    match = _RANGE.fullmatch(header)
    if match is None or not match[1] or not match[2] or int(match[2]) < int(match[1]):
        message = "The x-amz-copy-source-range value must be of the form bytes=first-last"
        raise S3Error("InvalidArgument", header, message)
    if int(match[2]) >= size:
        raise S3Error("InvalidRequest", header, "The specified copy range is invalid for the source object size")
    return int(match[1]), int(match[2]) + 1
