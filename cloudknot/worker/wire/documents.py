"""JSON documents with a format version and a checksum: manifests and records.

The checksum is the last member. It covers all bytes before it, and the key of the object. So a document of another run
is refused, too. Client and worker both import this module. It does no I/O.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from zlib import crc32

from .seal import FORMAT, TOO_SHORT, WRONG_CHECKSUM, DamagedError, NewerFormatError, seed_of

# The first names, in order of the alphabet, of manifests and records in format 1.
_OLD_STARTS = (b'{"attempts": ', b'{"job_definition": ')
_TAIL = re.compile(rb', "checksum": "([0-9a-f]{8})"\}\Z')


def to_document(fields: Mapping[str, object], key: str) -> bytes:
    """Return the stored form of a document for the object ``key``."""
    # The format is the first member and the checksum the last one, so no single cut removes both.
    body = f'{{"format": {FORMAT}, {json.dumps(dict(fields), sort_keys=True)[1:-1]}'.encode()
    return body + f', "checksum": "{crc32(body, seed_of(key)):08x}"}}'.encode()


def from_document(data: bytes, key: str) -> dict[str, Any]:
    """Return the fields of a document. Documents of format 1 have no checksum.

    Raises
    ------
    DamagedError
        The document is not the one that was stored under ``key``.
    NewerFormatError
        A newer cloudknot stored it.
    """
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedError(TOO_SHORT if _is_cut(error, data) else "it is not JSON") from error
    versions = [fields.get("format", 1), fields.get("version", 1)] if isinstance(fields, dict) else [0]
    if not all(type(version) is int and version > 0 for version in versions):
        raise DamagedError("it is not a document of cloudknot")
    if max(versions) > FORMAT:
        raise NewerFormatError(max(versions))
    tail = _TAIL.search(data)
    if tail is None:
        if max(versions) > 1 or not data.startswith(_OLD_STARTS):
            raise DamagedError("its checksum is missing")
    elif f"{crc32(data[: tail.start()], seed_of(key)):08x}".encode() != tail[1]:
        raise DamagedError(WRONG_CHECKSUM)
    result: dict[str, Any] = fields
    return result


def _is_cut(error: Exception, data: bytes) -> bool:
    return isinstance(error, json.JSONDecodeError) and error.pos >= len(data) - 1
