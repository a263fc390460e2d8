"""The tables of the object store, and the records that their rows hold."""

from __future__ import annotations

import contextlib
import functools
import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cloudknot.local.directory.files import OBJECTS
from cloudknot.local.s3.errors import S3Error
from cloudknot.local.s3.records import Extent, MultipartUpload, ObjectVersion, Properties, StoredBucket, UploadedPart

# Keys are TEXT, which SQLite compares by its UTF-8 bytes, as S3 does. The larger columns come last, so that
# listings do not read the pages that hold them. An id is never used again, and a newer version has a larger one.
SCHEMA = """
CREATE TABLE IF NOT EXISTS store (generation INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS buckets (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, created REAL NOT NULL,
    versioning TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS configurations (
    bucket INTEGER NOT NULL, kind TEXT NOT NULL, document BLOB NOT NULL, PRIMARY KEY (bucket, kind)
);
CREATE TABLE IF NOT EXISTS versions (
    id INTEGER PRIMARY KEY AUTOINCREMENT, bucket INTEGER NOT NULL, key TEXT NOT NULL, version TEXT NOT NULL,
    is_latest INTEGER NOT NULL, is_marker INTEGER NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL,
    modified REAL NOT NULL, headers TEXT NOT NULL, tags TEXT NOT NULL, checksum TEXT NOT NULL, parts TEXT NOT NULL,
    extents TEXT NOT NULL, content BLOB
);
CREATE INDEX IF NOT EXISTS versions_of_keys ON versions (bucket, key, id);
CREATE UNIQUE INDEX IF NOT EXISTS objects ON versions (bucket, key) WHERE is_latest AND NOT is_marker;
CREATE INDEX IF NOT EXISTS named_versions ON versions (bucket, key, version) WHERE version <> 'null';
CREATE TABLE IF NOT EXISTS files (
    name TEXT PRIMARY KEY, size INTEGER NOT NULL, uses INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS uploads (
    id INTEGER PRIMARY KEY AUTOINCREMENT, bucket INTEGER NOT NULL, key TEXT NOT NULL, name TEXT NOT NULL UNIQUE,
    started REAL NOT NULL, headers TEXT NOT NULL, tags TEXT NOT NULL, checksum TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS uploads_of_keys ON uploads (bucket, key, id);
CREATE TABLE IF NOT EXISTS parts (
    upload INTEGER NOT NULL, number INTEGER NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL,
    modified REAL NOT NULL, checksum TEXT NOT NULL, extents TEXT NOT NULL, PRIMARY KEY (upload, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS completions (
    name TEXT PRIMARY KEY, bucket INTEGER NOT NULL, key TEXT NOT NULL, chosen TEXT NOT NULL, completed REAL NOT NULL,
    version TEXT NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL, headers TEXT NOT NULL, tags TEXT NOT NULL,
    checksum TEXT NOT NULL
) WITHOUT ROWID;
"""

DATABASE = "objects.sqlite"
"""The file of these tables, in the folder of the objects."""
NULL = "null"
"""The version of an object that was stored without versioning."""
LISTED = "key, id, version, is_latest, is_marker, size, etag, modified, headers, tags, checksum, parts"
"""The columns of a version in a listing."""
WHOLE = f"{LISTED}, extents, content"
UPLOAD = "key, id, name, started, headers, tags, checksum"
"""The columns of an upload."""
COMPLETION = "key, version, size, etag, completed, headers, tags, checksum"
"""The columns of a completed upload: those of the version that it made."""
PART = "number, size, etag, modified, checksum, extents"


def count_objects(directory: Path) -> int:
    """Return the number of objects in the store of a cloud's directory, also while no process has opened it."""
    path = directory / OBJECTS / DATABASE
    # A new cloud may be making its database at this moment.
    with contextlib.suppress(sqlite3.Error):
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        with contextlib.closing(connection):
            statement = "SELECT count(*) FROM versions INDEXED BY objects WHERE is_latest AND NOT is_marker"
            return int(connection.execute(statement).fetchone()[0])
    return 0


def bucket_named(connection: sqlite3.Connection, name: str) -> StoredBucket:
    """Return a bucket. NoSuchBucket without it."""
    statement = "SELECT name, owner, created, versioning, id FROM buckets WHERE name = ?"
    row = connection.execute(statement, (name,)).fetchone()
    if row is None:
        raise S3Error("NoSuchBucket", name)
    return StoredBucket(*row)


def version_of(bucket: str, row: Sequence[Any]) -> ObjectVersion:
    """Return the version in a row of the columns `LISTED` or `WHOLE`."""
    key, row_id, version, is_latest, is_marker, size, etag, modified, headers, tags, checksum, parts = row[:12]
    extents, content = row[12:] if len(row) > 12 else ("", None)
    return ObjectVersion(
        bucket,
        key,
        version,
        size,
        etag,
        modified,
        _properties(headers, tags, checksum),
        tuple(json.loads(parts)) if parts else (),
        bool(is_latest),
        bool(is_marker),
        row_id,
        content,
        extents_of(extents),
    )


def upload_of(bucket: str, row: Sequence[Any]) -> MultipartUpload:
    """Return the upload in a row of the columns `UPLOAD`."""
    key, row_id, name, started, headers, tags, checksum = row
    return MultipartUpload(name, bucket, key, started, _properties(headers, tags, checksum), row_id)


def completion_of(bucket: str, row: Sequence[Any]) -> ObjectVersion:
    """Return the version that an upload made, from a row of the columns `COMPLETION`."""
    key, version, size, etag, completed, headers, tags, checksum = row
    return ObjectVersion(bucket, key, version, size, etag, completed, _properties(headers, tags, checksum))


def part_of(row: Sequence[Any]) -> UploadedPart:
    """Return the part in a row of the columns `PART`."""
    number, size, etag, modified, checksum, _ = row
    return UploadedPart(number, size, etag, modified, _checksum(checksum))


def text_of_properties(properties: Properties) -> tuple[str, str, str]:
    """Return the columns ``headers``, ``tags`` and ``checksum``."""
    return text_of(properties.headers), text_of(properties.tags), text_of_checksum(properties.checksum)


def text_of(mapping: Mapping[str, str]) -> str:
    """Return a column for a mapping."""
    return json.dumps(dict(mapping)) if mapping else ""


def text_of_checksum(checksum: tuple[str, str] | None) -> str:
    """Return the column ``checksum``."""
    return ":".join(checksum) if checksum else ""


def text_of_extents(extents: Sequence[Extent]) -> str:
    """Return the column ``extents``."""
    return json.dumps([(extent.file, extent.start, extent.size) for extent in extents]) if extents else ""


def extents_of(text: str) -> tuple[Extent, ...]:
    """Return the extents in a column."""
    return tuple(Extent(*values) for values in json.loads(text)) if text else ()


def successor(prefix: str) -> str | bytes:
    """Return the least value that is above all keys with a prefix."""
    while prefix:
        last = ord(prefix[-1])
        if last < 0x10FFFF:
            # UTF-8 has no surrogates: the character after U+D7FF is U+E000.
            return prefix[:-1] + chr(0xE000 if last == 0xD7FF else last + 1)
        prefix = prefix[:-1]
    # SQLite sorts every BLOB after every TEXT.
    return b""


# The objects of a bucket often have equal headers, and the same ones are read again.
@functools.lru_cache(maxsize=1024)
def _properties(headers: str, tags: str, checksum: str) -> Properties:
    return Properties(_mapping(headers), _mapping(tags), _checksum(checksum))


def _mapping(text: str) -> Mapping[str, str]:
    return MappingProxyType(json.loads(text)) if text else MappingProxyType({})


def _checksum(text: str) -> tuple[str, str] | None:
    algorithm, _, value = text.partition(":")
    return (algorithm, value) if algorithm else None
