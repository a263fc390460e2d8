"""Pages of listings. Each reads the rows of its page by an index, and skips what a common prefix covers."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, NamedTuple

from cloudknot.local.s3.records import ObjectPage, ObjectVersion, StoredBucket, UploadPage
from cloudknot.local.s3.storage.schema import LISTED, UPLOAD, successor, upload_of, version_of

Row = tuple[Any, ...]
Entry = str | Row
"""A common prefix or a row."""
Entries = Generator[Entry, None, None]
Scan = Callable[[str], Generator[Row, None, None]]
"""Yields the rows from a key on, in the order of keys. The key is the first column."""

_OBJECTS = (
    f"SELECT {LISTED} FROM versions INDEXED BY objects "
    "WHERE bucket = ?1 AND is_latest AND NOT is_marker AND key >= ?2 AND key < ?3 ORDER BY key"
)
_VERSIONS = f"SELECT {LISTED} FROM versions WHERE bucket = ?1 AND key >= ?2 AND key < ?3 ORDER BY key, id DESC"
_UPLOADS = f"SELECT {UPLOAD} FROM uploads WHERE bucket = ?1 AND key >= ?2 AND key < ?3 ORDER BY key, id"
# The rest of a key after a version or an upload. If that was deleted, the whole key again: better twice than never.
_REST_OF_VERSIONS = (
    f"SELECT {LISTED} FROM versions WHERE bucket = ?1 AND key = ?2 AND id < coalesce("
    f"(SELECT id FROM versions WHERE bucket = ?1 AND key = ?2 AND version = ?3), {2**63 - 1}) ORDER BY id DESC"
)
_REST_OF_UPLOADS = (
    f"SELECT {UPLOAD} FROM uploads WHERE bucket = ?1 AND key = ?2 AND id > coalesce("
    "(SELECT id FROM uploads WHERE bucket = ?1 AND key = ?2 AND name = ?3), 0) ORDER BY id"
)


class BucketView(NamedTuple):
    """The part of a bucket that a listing shows."""

    bucket: StoredBucket
    prefix: str = ""
    delimiter: str = ""
    limit: int = 1000


def objects(connection: sqlite3.Connection, place: BucketView, after: str) -> ObjectPage:
    """Return a page of the latest versions after a key or prefix."""
    page, has_more = _page(_entries(_scan(connection, _OBJECTS, place), place, after), place.limit)
    return ObjectPage(_versions(place, page), _prefixes(page), _markers(page, has_more)[0])


def versions(connection: sqlite3.Connection, place: BucketView, key: str, version: str) -> ObjectPage:
    """Return a page of versions and delete markers after a version of a key."""
    entries = _entries_after(connection, (_VERSIONS, _REST_OF_VERSIONS), place, key, version)
    page, has_more = _page(entries, place.limit)
    return ObjectPage(_versions(place, page), _prefixes(page), *_markers(page, has_more))


def uploads(connection: sqlite3.Connection, place: BucketView, key: str, name: str) -> UploadPage:
    """Return a page of the uploads in progress after an upload of a key."""
    entries = _entries_after(connection, (_UPLOADS, _REST_OF_UPLOADS), place, key, name)
    page, has_more = _page(entries, place.limit)
    found = tuple(upload_of(place.bucket.name, entry) for entry in page if not isinstance(entry, str))
    return UploadPage(found, _prefixes(page), *_markers(page, has_more))


def _scan(connection: sqlite3.Connection, statement: str, place: BucketView) -> Scan:
    def scan(start: str) -> Generator[Row, None, None]:
        values = (place.bucket.row, start, successor(place.prefix))
        # Closed when the page is full: an open cursor would keep SQLite from reusing its log.
        with closing(connection.execute(statement, values)) as rows:
            yield from rows

    return scan


def _entries(scan: Scan, place: BucketView, after: str) -> Entries:
    """Yield rows, and one common prefix for all rows below it, after a key or prefix."""
    start: str | bytes = place.prefix
    if after and after >= place.prefix:
        # The page before ended with this common prefix, or with a key below it.
        passed = _common(after, place)
        # With a null character, a key becomes the one that follows it directly.
        start = successor(passed) if passed else after + "\0"
    while isinstance(start, str):
        start = yield from _until_common(scan(start), place)


def _until_common(rows: Generator[Row, None, None], place: BucketView) -> Generator[Entry, None, str | bytes]:
    """Yield rows and at most one common prefix. Return the value from which the scan goes on."""
    with closing(rows):
        for row in rows:
            common = _common(row[0], place)
            if common:
                yield common
                return successor(common)
            yield row
    return b""


def _entries_after(
    connection: sqlite3.Connection, statements: tuple[str, str], place: BucketView, key: str, name: str
) -> Entries:
    """Yield entries after a key and a version or upload of that key."""
    statement, rest = statements
    if name and key.startswith(place.prefix) and not _common(key, place):
        with closing(connection.execute(rest, (place.bucket.row, key, name))) as rows:
            yield from rows
    yield from _entries(_scan(connection, statement, place), place, key)


def _common(key: str, place: BucketView) -> str:
    """Return the common prefix that stands for a key, or an empty string."""
    if not place.delimiter or not key.startswith(place.prefix):
        return ""
    found = key.find(place.delimiter, len(place.prefix))
    return key[: found + len(place.delimiter)] if found >= 0 else ""


def _page(entries: Entries, limit: int) -> tuple[list[Entry], bool]:
    """Return the first entries, and whether there are more."""
    page: list[Entry] = []
    with closing(entries):
        for entry in entries if limit > 0 else ():
            if len(page) == limit:
                return page, True
            page.append(entry)
    return page, False


def _versions(place: BucketView, page: list[Entry]) -> tuple[ObjectVersion, ...]:
    return tuple(version_of(place.bucket.name, entry) for entry in page if not isinstance(entry, str))


def _prefixes(page: list[Entry]) -> tuple[str, ...]:
    return tuple(entry for entry in page if isinstance(entry, str))


def _markers(page: list[Entry], has_more: bool) -> tuple[str | None, str]:
    """Return the markers of the next page: a key or prefix, and the version or upload of that key."""
    if not has_more:
        return None, ""
    last: Entry = page[-1]
    return (last, "") if isinstance(last, str) else (last[0], last[2])
