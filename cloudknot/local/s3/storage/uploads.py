"""Changes to multipart uploads, within a transaction of the caller. Each returns the files that it freed."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from cloudknot.local.s3.errors import S3Error
from cloudknot.local.s3.records import (
    Condition,
    Extent,
    MultipartUpload,
    ObjectVersion,
    Properties,
    UploadedPart,
)
from cloudknot.local.s3.storage.schema import (
    COMPLETION,
    PART,
    UPLOAD,
    bucket_named,
    completion_of,
    extents_of,
    part_of,
    text_of_checksum,
    text_of_extents,
    text_of_properties,
    upload_of,
)
from cloudknot.local.s3.storage.versions import Freed, insert, release_files

LEAST_PART = 5 << 20
"""Bytes that each part must have, except the last one."""


def begin(connection: sqlite3.Connection, new: MultipartUpload) -> MultipartUpload:
    """Add an upload."""
    bucket = bucket_named(connection, new.bucket)
    values = (bucket.row, new.key, new.id, new.started, *text_of_properties(new.properties))
    statement = (
        "INSERT INTO uploads (bucket, key, name, started, headers, tags, checksum) VALUES (?, ?, ?, ?, ?, ?, ?)"
    )
    return replace(new, row=connection.execute(statement, values).lastrowid or 0)


def find_upload(connection: sqlite3.Connection, bucket: str, key: str, name: str) -> MultipartUpload:
    """Return an upload in progress. NoSuchUpload without it."""
    statement = f"SELECT {UPLOAD} FROM uploads WHERE bucket = ? AND key = ? AND name = ?"
    row = connection.execute(statement, (bucket_named(connection, bucket).row, key, name)).fetchone()
    if row is None:
        raise S3Error("NoSuchUpload", name)
    return upload_of(bucket, row)


def add_part(
    connection: sqlite3.Connection, upload: MultipartUpload, part: UploadedPart, extents: Sequence[Extent]
) -> Freed:
    """Add a part, whose files the caller has counted, in place of an earlier one of that number."""
    _require(connection, upload)
    where = (upload.row, part.number)
    earlier = connection.execute("SELECT extents FROM parts WHERE upload = ? AND number = ?", where).fetchone()
    values = (part.size, part.etag, part.modified, text_of_checksum(part.checksum), text_of_extents(extents))
    connection.execute(
        f"INSERT OR REPLACE INTO parts (upload, {PART}) VALUES (?, ?, ?, ?, ?, ?, ?)", (*where, *values)
    )
    return release_files(connection, extents_of(earlier[0])) if earlier else []


def parts(connection: sqlite3.Connection, upload: MultipartUpload, after: int, limit: int) -> tuple[UploadedPart, ...]:
    """Return parts by their numbers."""
    _require(connection, upload)
    statement = f"SELECT {PART} FROM parts WHERE upload = ? AND number > ? ORDER BY number LIMIT ?"
    return tuple(map(part_of, connection.execute(statement, (upload.row, after, limit))))


def complete(
    connection: sqlite3.Connection,
    upload: MultipartUpload,
    chosen: Sequence[tuple[int, str]],
    etag: str,
    condition: Condition,
    checksum: tuple[str, str] | None,
    now: float,
) -> tuple[ObjectVersion, Freed]:
    """Make an object of the chosen parts, and end the upload."""
    _require(connection, upload)
    held = {row[0]: row for row in connection.execute(f"SELECT {PART} FROM parts WHERE upload = ?", (upload.row,))}
    rows = _check(chosen, held)
    sizes = tuple(row[1] for row in rows)
    extents = tuple(extent for row in rows for extent in extents_of(row[-1]))
    stored = upload.properties
    properties = Properties(stored.headers, stored.tags, checksum)
    new = ObjectVersion(upload.bucket, upload.key, "", sum(sizes), etag, now, properties, sizes, extents=extents)
    version, freed = insert(connection, new, condition)
    for number in held.keys() - {number for number, _ in chosen}:
        freed += release_files(connection, extents_of(held[number][-1]))
    _forget(connection, upload)
    bucket = bucket_named(connection, upload.bucket).row
    values = (upload.id, bucket, json.dumps(chosen), upload.key, version.version, version.size, etag, now)
    connection.execute(
        f"INSERT INTO completions (name, bucket, chosen, {COMPLETION}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*values, *text_of_properties(properties)),
    )
    return version, freed


def completed(
    connection: sqlite3.Connection, bucket: str, key: str, name: str, chosen: Sequence[tuple[int, str]]
) -> ObjectVersion | None:
    """Return the version that an earlier completion of an upload with the same parts made, or None."""
    statement = f"SELECT {COMPLETION} FROM completions WHERE name = ? AND bucket = ? AND key = ? AND chosen = ?"
    place = bucket_named(connection, bucket)
    row = connection.execute(statement, (name, place.row, key, json.dumps(chosen))).fetchone()
    return replace(completion_of(bucket, row), is_versioned=bool(place.versioning)) if row else None


def forget_completions(connection: sqlite3.Connection, before: float) -> None:
    """Delete the records of uploads that were completed before a time."""
    connection.execute("DELETE FROM completions WHERE completed < ?", (before,))


def end(connection: sqlite3.Connection, upload: MultipartUpload) -> Freed:
    """Delete an upload with its parts."""
    _require(connection, upload)
    rows = connection.execute("SELECT extents FROM parts WHERE upload = ?", (upload.row,)).fetchall()
    freed = [name for (extents,) in rows for name in release_files(connection, extents_of(extents))]
    _forget(connection, upload)
    return freed


def of_bucket(connection: sqlite3.Connection, bucket: str) -> Iterator[MultipartUpload]:
    """Yield all uploads of a bucket."""
    statement = f"SELECT {UPLOAD} FROM uploads WHERE bucket = ? ORDER BY id"
    for row in connection.execute(statement, (bucket_named(connection, bucket).row,)).fetchall():
        yield upload_of(bucket, row)


def _check(chosen: Sequence[tuple[int, str]], held: dict[int, tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return the rows of the chosen parts, or raise S3's error for them."""
    numbers = [number for number, _ in chosen]
    if any(following <= number for number, following in itertools.pairwise(numbers)):
        raise S3Error("InvalidPartOrder")
    rows = []
    for number, etag in chosen:
        row = held.get(number)
        if row is None or row[2] != etag.strip('"'):
            raise S3Error("InvalidPart", str(number))
        rows.append(row)
    if any(row[1] < LEAST_PART for row in rows[:-1]):
        raise S3Error("EntityTooSmall")
    return rows


def _require(connection: sqlite3.Connection, upload: MultipartUpload) -> None:
    """Raise NoSuchUpload if an upload has ended."""
    if connection.execute("SELECT 1 FROM uploads WHERE id = ?", (upload.row,)).fetchone() is None:
        raise S3Error("NoSuchUpload", upload.id)


def _forget(connection: sqlite3.Connection, upload: MultipartUpload) -> None:
    connection.execute("DELETE FROM parts WHERE upload = ?", (upload.row,))
    connection.execute("DELETE FROM uploads WHERE id = ?", (upload.row,))
