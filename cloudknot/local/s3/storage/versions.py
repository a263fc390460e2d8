"""Changes to the versions of objects, within a transaction of the caller. Each returns the files that it freed."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from cloudknot.local.s3.errors import S3Error
from cloudknot.local.s3.records import Condition, Deleted, Extent, ObjectVersion, StoredBucket, is_named
from cloudknot.local.s3.storage.schema import (
    NULL,
    WHOLE,
    bucket_named,
    extents_of,
    text_of_extents,
    text_of_properties,
    version_of,
)

Freed = list[str]
"""Names of data files that belong to nothing any more."""


class Held(NamedTuple):
    """A stored version, as far as a change needs it."""

    id: int
    version: str
    is_marker: bool
    etag: str
    extents: str


_HELD = "SELECT id, version, is_marker, etag, extents FROM versions WHERE bucket = ? AND key = ?"
_LATEST = f"{_HELD} ORDER BY id DESC LIMIT 1"
_NULL_VERSION = f"{_HELD} AND version = 'null'"
# With the condition of the index `named_versions`.
_NAMED = f"{_HELD} AND version = ? AND version <> 'null'"


def find(connection: sqlite3.Connection, bucket: str, key: str, version: str | None) -> ObjectVersion:
    """Return a version with its data, by default the latest. See `ObjectStore.get` for the errors."""
    row = _row(connection, bucket, key, version)
    if row is None:
        # Only now: a request for an object that is there needs no second query.
        bucket_named(connection, bucket)
        raise S3Error("NoSuchVersion" if version else "NoSuchKey", key)
    found = replace(version_of(bucket, row[1:]), is_versioned=bool(row[0]))
    if found.is_delete_marker:
        raise S3Error("MethodNotAllowed" if version else "NoSuchKey", key, marker=found.version)
    return found


def _row(connection: sqlite3.Connection, bucket: str, key: str, version: str | None) -> tuple[object, ...] | None:
    """Return the row of a version, behind the versioning of its bucket."""
    place = "(SELECT id AS place, versioning FROM buckets WHERE name = ?)"
    statement = f"SELECT versioning, {WHOLE} FROM versions, {place} WHERE bucket = place AND key = ? "
    if version is None:
        query = connection.execute(statement + "ORDER BY id DESC LIMIT 1", (bucket, key))
    elif version == NULL:
        query = connection.execute(statement + "AND version = 'null'", (bucket, key))
    else:
        query = connection.execute(statement + "AND version = ? AND version <> 'null'", (bucket, key, version))
    row: tuple[object, ...] | None = query.fetchone()
    return row


def insert(connection: sqlite3.Connection, new: ObjectVersion, condition: Condition) -> tuple[ObjectVersion, Freed]:
    """Add a new version as the latest of its key, or replace the version without a name. PreconditionFailed.

    The caller has counted the use of its files with `add_files` or `share_files`.
    """
    bucket = bucket_named(connection, new.bucket)
    latest = _held(connection.execute(_LATEST, (bucket.row, new.key)))
    check(condition, latest, new.key)
    freed = _make_way(connection, bucket, new.key, latest)
    version = secrets.token_urlsafe(24) if bucket.versioning == "Enabled" else NULL
    row = _add(connection, bucket, new, version)
    return replace(new, version=version, row=row, is_versioned=bool(bucket.versioning)), freed


def delete(
    connection: sqlite3.Connection,
    bucket: StoredBucket,
    key: str,
    version: str | None,
    condition: Condition,
    now: float,
) -> tuple[Deleted, Freed]:
    """Delete a version, or add a delete marker if none is named and the bucket has versions. PreconditionFailed."""
    latest = _held(connection.execute(_LATEST, (bucket.row, key)))
    if condition != Condition():
        check(condition, latest, key)
    if version is not None:
        return _delete_version(connection, bucket, key, version, latest)
    if not bucket.versioning:
        return Deleted(), _remove(connection, latest) if latest else []
    freed = _make_way(connection, bucket, key, latest)
    name = secrets.token_urlsafe(24) if bucket.versioning == "Enabled" else NULL
    _add(connection, bucket, ObjectVersion(bucket.name, key, name, 0, "", now, is_delete_marker=True), name)
    return Deleted(marker=name), freed


def expire(connection: sqlite3.Connection, bucket: StoredBucket, due: ObjectVersion, now: float) -> Freed | None:
    """Delete a version that has expired, as S3 does it. Return None if it is no longer in the place it had."""
    latest = _held(connection.execute(_LATEST, (bucket.row, due.key)))
    if latest is None or (latest.id == due.row) != due.is_latest:
        return None
    if due.is_latest and not due.is_delete_marker:
        return delete(connection, bucket, due.key, None, Condition(), now)[1]
    statement = "SELECT count(*) FROM versions WHERE bucket = ? AND key = ?"
    if due.is_latest and connection.execute(statement, (bucket.row, due.key)).fetchone()[0] > 1:
        return None
    return _delete_version(connection, bucket, due.key, due.version, latest)[1]


def check(condition: Condition, latest: Held | None, key: str) -> None:
    """Raise PreconditionFailed, or NoSuchKey, unless a condition holds for the latest version of a key."""
    current = None if latest is None or latest.is_marker else latest.etag
    if condition.if_match:
        if current is None:
            raise S3Error("NoSuchKey", key)
        if not is_named(current, condition.if_match):
            raise S3Error("PreconditionFailed", "If-Match")
    if condition.if_none_match and current is not None and is_named(current, condition.if_none_match):
        raise S3Error("PreconditionFailed", "If-None-Match")


def add_files(connection: sqlite3.Connection, extents: Iterable[Extent]) -> None:
    """Record new files, each with one use."""
    values = [(extent.file, extent.size) for extent in extents]
    connection.executemany("INSERT INTO files (name, size, uses) VALUES (?, ?, 1)", values)


def share_files(connection: sqlite3.Connection, extents: Iterable[Extent], source: str) -> None:
    """Count one more use of files. NoSuchKey for the ``source`` if one of them is freed."""
    for extent in extents:
        used = connection.execute("UPDATE files SET uses = uses + 1 WHERE name = ?", (extent.file,))
        if not used.rowcount:
            raise S3Error("NoSuchKey", source)


def release_files(connection: sqlite3.Connection, extents: Iterable[Extent]) -> Freed:
    """Count one use less of files. Return those without uses, which are no longer recorded."""
    freed = []
    for extent in extents:
        connection.execute("UPDATE files SET uses = uses - 1 WHERE name = ?", (extent.file,))
        if connection.execute("DELETE FROM files WHERE name = ? AND uses <= 0", (extent.file,)).rowcount:
            freed.append(extent.file)
    return freed


def _held(query: sqlite3.Cursor) -> Held | None:
    row = query.fetchone()
    return Held(*row) if row else None


def _make_way(connection: sqlite3.Connection, bucket: StoredBucket, key: str, latest: Held | None) -> Freed:
    """Make room for a new latest version of a key."""
    freed: Freed = []
    if latest is None:
        return freed
    replaced = None
    if bucket.versioning != "Enabled":
        is_null = latest.version == NULL
        replaced = latest if is_null else _held(connection.execute(_NULL_VERSION, (bucket.row, key)))
        freed = _remove(connection, replaced) if replaced else []
    if replaced is None or replaced.id != latest.id:
        connection.execute("UPDATE versions SET is_latest = 0 WHERE id = ?", (latest.id,))
    return freed


def _delete_version(
    connection: sqlite3.Connection, bucket: StoredBucket, key: str, version: str, latest: Held | None
) -> tuple[Deleted, Freed]:
    if version == NULL:
        held = _held(connection.execute(_NULL_VERSION, (bucket.row, key)))
    else:
        held = _held(connection.execute(_NAMED, (bucket.row, key, version)))
    if held is None or latest is None:
        # S3 reports a success, so that a repeated request succeeds as well.
        return Deleted(version), []
    freed = _remove(connection, held)
    if held.id == latest.id:
        following = connection.execute(_LATEST, (bucket.row, key)).fetchone()
        if following:
            connection.execute("UPDATE versions SET is_latest = 1 WHERE id = ?", (following[0],))
    return Deleted(version, version if held.is_marker else ""), freed


def _remove(connection: sqlite3.Connection, held: Held) -> Freed:
    connection.execute("DELETE FROM versions WHERE id = ?", (held.id,))
    return release_files(connection, extents_of(held.extents)) if held.extents else []


_INSERT = (
    "INSERT INTO versions (bucket, key, version, is_latest, is_marker, size, etag, modified, headers, tags, checksum, "
    "parts, extents, content) VALUES (?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


def _add(connection: sqlite3.Connection, bucket: StoredBucket, new: ObjectVersion, version: str) -> int:
    values = (
        bucket.row,
        new.key,
        version,
        new.is_delete_marker,
        new.size,
        new.etag,
        new.modified,
        *text_of_properties(new.properties),
        str(list(new.parts)) if new.parts else "",
        text_of_extents(new.extents),
        new.content,
    )
    row = connection.execute(_INSERT, values).lastrowid
    assert row is not None
    return row
