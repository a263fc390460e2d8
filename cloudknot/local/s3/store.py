"""ObjectStore: the buckets and objects of the embedded cloud on the disk. It knows nothing of HTTP.

The database holds the metadata and the data of small objects. Each larger object has its own data file, and copies
share it. A change is acknowledged after the file is synced and renamed, and after its transaction is synced: a crash
at any moment leaves at most a file without an object, which the next start deletes.
"""

from __future__ import annotations

import builtins
import contextlib
import logging
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from cloudknot.local import wsgi
from cloudknot.local.directory.database import Database
from cloudknot.local.directory.files import OBJECTS
from cloudknot.local.s3.errors import S3Error
from cloudknot.local.s3.records import (
    Condition,
    Deleted,
    Extent,
    MultipartUpload,
    ObjectPage,
    ObjectVersion,
    Properties,
    StoredBucket,
    UploadedPart,
    UploadPage,
)
from cloudknot.local.s3.storage import listing, uploads, versions
from cloudknot.local.s3.storage.commits import SharedCommits
from cloudknot.local.s3.storage.files import DataFiles, MissingFile, cut
from cloudknot.local.s3.storage.lifecycle import Expiry, LifecycleRule, prefixes_of, rules_of
from cloudknot.local.s3.storage.listing import BucketView
from cloudknot.local.s3.storage.schema import DATABASE, NULL, SCHEMA, bucket_named, text_of
from cloudknot.local.s3.storage.upkeep import check_files
from cloudknot.local.s3.storage.versions import Freed
from cloudknot.local.s3.storage.writer import SMALL, ObjectWriter

T = TypeVar("T")

ANY = Condition()
"""No condition."""
EXPIRE_EVERY = 3600.0
"""Seconds between two applications of the lifecycle rules, and between two returns of unused space."""
REPEATABLE = 24 * 3600.0
"""Seconds for which the completion of an upload can be repeated, by a client that lost the answer."""
LIFECYCLE = "lifecycle"
"""The kind of configuration that `ObjectStore.expire` reads."""


class ObjectStore:
    """Buckets and objects in a directory. All methods may be called from any thread.

    Parameters
    ----------
    directory : Path
        The cloud's directory. The store keeps its files in the folder ``objects`` of it.
    clock : callable
        Returns the time in seconds since 1970.
    """

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        place = directory / OBJECTS
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._clock = clock
        self._database = Database(place / DATABASE, SCHEMA)
        self._commits = SharedCommits(self._database)
        self._files = DataFiles(place, self._commits.change(_next_generation))
        self._is_closed, self._is_checked = threading.Event(), threading.Event()
        # In the background: a store with many files starts as fast as an empty one.
        self._upkeep = threading.Thread(target=self._keep_up, name="objects-upkeep", daemon=True)
        self._upkeep.start()

    def close(self) -> None:
        """Close the database. Nothing that a method returned is lost without this."""
        self._is_closed.set()
        self._upkeep.join()
        self._files.close()
        self._database.close()

    # Buckets

    def create_bucket(self, name: str, owner: str) -> StoredBucket:
        """Create a bucket. BucketAlreadyOwnedByYou or BucketAlreadyExists if there is one."""
        now = self._clock()

        def change(connection: sqlite3.Connection) -> StoredBucket:
            held = connection.execute("SELECT owner FROM buckets WHERE name = ?", (name,)).fetchone()
            if held:
                raise S3Error("BucketAlreadyOwnedByYou" if held[0] == owner else "BucketAlreadyExists", name)
            statement = "INSERT INTO buckets (name, owner, created) VALUES (?, ?, ?)"
            row = connection.execute(statement, (name, owner, now)).lastrowid or 0
            return StoredBucket(name, owner, now, row=row)

        return self._commits.change(change)

    def delete_bucket(self, name: str) -> None:
        """Delete an empty bucket with its configurations and unfinished uploads. Otherwise BucketNotEmpty."""

        def change(connection: sqlite3.Connection) -> tuple[None, Freed]:
            bucket = bucket_named(connection, name)
            if connection.execute("SELECT 1 FROM versions WHERE bucket = ? LIMIT 1", (bucket.row,)).fetchone():
                raise S3Error("BucketNotEmpty", name)
            ended = [uploads.end(connection, upload) for upload in uploads.of_bucket(connection, name)]
            connection.execute("DELETE FROM configurations WHERE bucket = ?", (bucket.row,))
            connection.execute("DELETE FROM buckets WHERE id = ?", (bucket.row,))
            return None, [file for freed in ended for file in freed]

        self._change(change)

    def bucket(self, name: str) -> StoredBucket:
        """Return a bucket. NoSuchBucket without it."""
        with self._database.reading() as connection:
            return bucket_named(connection, name)

    def buckets(self) -> builtins.list[StoredBucket]:
        """Return all buckets by name."""
        statement = "SELECT name, owner, created, versioning, id FROM buckets ORDER BY name"
        return [StoredBucket(*row) for row in self._database.rows(statement)]

    def set_versioning(self, name: str, versioning: str) -> None:
        """Set a bucket's versioning to ``Enabled`` or ``Suspended``."""

        def change(connection: sqlite3.Connection) -> None:
            bucket = bucket_named(connection, name)
            connection.execute("UPDATE buckets SET versioning = ? WHERE id = ?", (versioning, bucket.row))

        self._commits.change(change)

    def configuration(self, bucket: str, kind: str) -> bytes | None:
        """Return a configuration document of a bucket, such as the kind ``lifecycle``, or None without one."""
        statement = "SELECT document FROM configurations WHERE bucket = ? AND kind = ?"
        rows = self._database.rows(statement, self.bucket(bucket).row, kind)
        return rows[0][0] if rows else None

    def set_configuration(self, bucket: str, kind: str, document: bytes | None) -> None:
        """Store a configuration document, or delete it with None. MalformedXML for rules that mean nothing."""
        if kind == LIFECYCLE and document is not None:
            rules_of(document)

        def change(connection: sqlite3.Connection) -> None:
            row = bucket_named(connection, bucket).row
            if document is None:
                connection.execute("DELETE FROM configurations WHERE bucket = ? AND kind = ?", (row, kind))
            else:
                connection.execute("INSERT OR REPLACE INTO configurations VALUES (?, ?, ?)", (row, kind, document))

        self._commits.change(change)

    # Objects

    def writer(self, length: int | None = None, place: tuple[str, str] | None = None) -> ObjectWriter:
        """Return a writer for new data. `OSError` (ENOSPC) if the disk has no room for ``length`` bytes.

        Small data for the object at ``place``, a bucket and a key, needs no room if it replaces another object.
        """
        try:
            return ObjectWriter(self._files, length)
        except OSError:
            # A deletion on a full disk may first change an object, as that of a run does with the manifest.
            if length is None or length > SMALL or place is None or not self._is_replaceable(*place):
                raise
            return ObjectWriter(self._files, length, needs_room=False)

    def put(
        self,
        bucket: str,
        key: str,
        writer: ObjectWriter,
        properties: Properties,
        etag: str,
        condition: Condition = ANY,
    ) -> ObjectVersion:
        """Store the data of a writer as an object. It is on the disk when this returns."""
        now, (content, extents) = self._clock(), writer.finish()
        new = ObjectVersion(
            bucket, key, "", writer.size, etag, now, properties, row=0, content=content, extents=extents
        )

        def change(connection: sqlite3.Connection) -> tuple[ObjectVersion, Freed]:
            versions.add_files(connection, extents)
            return versions.insert(connection, new, condition)

        return self._store(change, extents)

    def copy(
        self,
        source: ObjectVersion,
        bucket: str,
        key: str,
        properties: Properties,
        condition: Condition = ANY,
    ) -> ObjectVersion:
        """Store a copy of a version, which shares its data files. The copy has the entity tag of its source."""
        now = self._clock()
        new = ObjectVersion(
            bucket, key, "", source.size, source.etag, now, properties, content=source.content, extents=source.extents
        )

        def change(connection: sqlite3.Connection) -> tuple[ObjectVersion, Freed]:
            versions.share_files(connection, source.extents, source.key)
            return versions.insert(connection, new, condition)

        return self._change(change)

    def get(self, bucket: str, key: str, version: str | None = None) -> ObjectVersion:
        """Return a version, by default the latest. It has the whole data of a small object in ``content``.

        NoSuchBucket, NoSuchKey, NoSuchVersion, or MethodNotAllowed for a delete marker. The error's ``marker``
        is the version of the delete marker.
        """
        with self._database.reading() as connection:
            return versions.find(connection, bucket, key, version)

    def segments(self, version: ObjectVersion, start: int, end: int) -> builtins.list[wsgi.Segment]:
        """Open the data of a larger object from ``start`` to before ``end``. The caller closes the files.

        SlowDown if the version was deleted after `get` and its files are gone: the client repeats its request.
        MissingDataFile if something else has deleted them: no repetition brings them back.
        """
        try:
            return self._files.open(version.extents, start, end)
        except MissingFile as error:
            if not self._database.rows("SELECT 1 FROM files WHERE name = ?", error.path.name):
                raise S3Error("SlowDown", version.key) from error
            message = f"The data file {error.path} of this object is missing. Store the object again."
            raise S3Error("MissingDataFile", version.key, message, 410) from error

    def set_tags(self, version: ObjectVersion, tags: Mapping[str, str]) -> None:
        """Replace the tags of a version. NoSuchVersion if it is gone."""

        def change(connection: sqlite3.Connection) -> None:
            statement = "UPDATE versions SET tags = ? WHERE id = ?"
            if not connection.execute(statement, (text_of(tags), version.row)).rowcount:
                raise S3Error("NoSuchVersion", version.key)

        self._commits.change(change)

    def list(
        self, bucket: str, prefix: str = "", after: str = "", delimiter: str = "", limit: int = 1000
    ) -> ObjectPage:
        """Return the latest versions after a key or prefix, in the order of UTF-8 bytes, without delete markers."""
        with self._database.reading() as connection:
            place = BucketView(bucket_named(connection, bucket), prefix, delimiter, limit)
            return listing.objects(connection, place, after)

    def versions(
        self,
        bucket: str,
        prefix: str = "",
        key_marker: str = "",
        version_marker: str = "",
        delimiter: str = "",
        limit: int = 1000,
    ) -> ObjectPage:
        """Return versions and delete markers in the order of their keys, for each key from the newest."""
        with self._database.reading() as connection:
            place = BucketView(bucket_named(connection, bucket), prefix, delimiter, limit)
            return listing.versions(connection, place, key_marker, version_marker)

    def delete(self, bucket: str, key: str, version: str | None = None, condition: Condition = ANY) -> Deleted:
        """Delete a version for good. Without one, do as the bucket's versioning demands. No error without the key."""
        return self._delete(bucket, [(key, version)], condition)[0]

    def delete_many(self, bucket: str, keys: Sequence[tuple[str, str | None]]) -> builtins.list[Deleted]:
        """Delete keys with their versions, as `delete` does, in one transaction."""
        return self._delete(bucket, keys, ANY)

    # Multipart uploads

    def create_upload(self, bucket: str, key: str, properties: Properties) -> MultipartUpload:
        """Begin a multipart upload."""
        new = MultipartUpload(secrets.token_urlsafe(48), bucket, key, self._clock(), properties)
        return self._commits.change(lambda connection: uploads.begin(connection, new))

    def upload(self, bucket: str, key: str, upload_id: str) -> MultipartUpload:
        """Return an upload in progress. NoSuchUpload without it."""
        with self._database.reading() as connection:
            return uploads.find_upload(connection, bucket, key, upload_id)

    def put_part(
        self,
        upload: MultipartUpload,
        number: int,
        writer: ObjectWriter,
        etag: str,
        checksum: tuple[str, str] | None = None,
    ) -> UploadedPart:
        """Store a part, in place of an earlier one of that number. NoSuchUpload if the upload has ended."""
        part = UploadedPart(number, writer.size, etag, self._clock(), checksum)
        _, extents = writer.finish(is_part=True)

        def change(connection: sqlite3.Connection) -> tuple[UploadedPart, Freed]:
            versions.add_files(connection, extents)
            return part, uploads.add_part(connection, upload, part, extents)

        return self._store(change, extents)

    def copy_part(
        self,
        upload: MultipartUpload,
        number: int,
        source: ObjectVersion,
        start: int,
        end: int,
        etag: str,
        checksum: tuple[str, str] | None = None,
    ) -> UploadedPart:
        """Store a range of a version as a part. Large ranges share the source's data files."""
        if source.content is not None:
            with self.writer(end - start) as writer:
                writer.write(source.content[start:end])
                return self.put_part(upload, number, writer, etag, checksum)
        found = cut(source.extents, start, end)
        extents = [Extent(extent.file, extent.start + first, last - first) for extent, first, last in found]
        part = UploadedPart(number, end - start, etag, self._clock(), checksum)

        def change(connection: sqlite3.Connection) -> tuple[UploadedPart, Freed]:
            versions.share_files(connection, extents, source.key)
            return part, uploads.add_part(connection, upload, part, extents)

        return self._change(change)

    def parts(self, upload: MultipartUpload, after: int = 0, limit: int = 1000) -> Sequence[UploadedPart]:
        """Return the parts with numbers above ``after``, in their order. Ask for one more to see whether it ends."""
        with self._database.reading() as connection:
            return uploads.parts(connection, upload, after, limit)

    def uploads(
        self,
        bucket: str,
        prefix: str = "",
        key_marker: str = "",
        id_marker: str = "",
        delimiter: str = "",
        limit: int = 1000,
    ) -> UploadPage:
        """Return the uploads in progress in the order of their keys, then of their start."""
        with self._database.reading() as connection:
            place = BucketView(bucket_named(connection, bucket), prefix, delimiter, limit)
            return listing.uploads(connection, place, key_marker, id_marker)

    def complete(
        self,
        upload: MultipartUpload,
        parts: Sequence[tuple[int, str]],
        etag: str,
        condition: Condition = ANY,
        checksum: tuple[str, str] | None = None,
    ) -> ObjectVersion:
        """Make an object of parts, given by number and entity tag. No data is copied.

        InvalidPart, InvalidPartOrder, EntityTooSmall, NoSuchUpload or PreconditionFailed.
        """
        now = self._clock()
        return self._change(
            lambda connection: uploads.complete(connection, upload, parts, etag, condition, checksum, now)
        )

    def completed(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[tuple[int, str]]
    ) -> ObjectVersion | None:
        """Return the version that `complete` made of these parts within the last day, or None."""
        with self._database.reading() as connection:
            return uploads.completed(connection, bucket, key, upload_id, parts)

    def abort(self, upload: MultipartUpload) -> None:
        """End an upload and delete its parts. NoSuchUpload if it has ended."""
        self._change(lambda connection: (None, uploads.end(connection, upload)))

    # Upkeep

    def expire(self, now: float | None = None) -> int:
        """Do what the lifecycle rules of all buckets demand. Return the number of deletions."""
        now = self._clock() if now is None else now
        statement = "SELECT name, document FROM configurations JOIN buckets ON bucket = buckets.id WHERE kind = ?"
        count = 0
        for name, document in self._database.rows(statement, LIFECYCLE):
            try:
                rules = rules_of(document)
                count += self._expire_uploads(name, rules, now) + self._expire_versions(name, rules, now)
            except S3Error as error:
                # The bucket was deleted meanwhile.
                logging.info("The lifecycle rules of bucket %s were not applied: %s", name, error)
        if self._database.rows("SELECT 1 FROM completions WHERE completed < ? LIMIT 1", now - REPEATABLE):
            self._commits.change(lambda connection: uploads.forget_completions(connection, now - REPEATABLE))
        return count

    def shrink(self) -> None:
        """Give the space of deleted small objects back to the disk. Files of larger ones are deleted at once."""
        self._database.shrink()

    def _is_replaceable(self, bucket: str, key: str) -> bool:
        try:
            return self.get(bucket, key).version == NULL
        except S3Error:
            return False

    def _keep_up(self) -> None:
        check_files(self._database, self._files, self._is_closed)
        self._is_checked.set()
        while not self._is_closed.is_set():
            try:
                self.expire()
                self.shrink()
            except (OSError, sqlite3.Error) as error:
                logging.error("The upkeep of the object store failed (%s). It is repeated in an hour.", error)
            self._is_closed.wait(EXPIRE_EVERY)

    def _change(self, change: Callable[[sqlite3.Connection], tuple[T, Freed]]) -> T:
        result, freed = self._commits.change(change)
        self._files.free(freed)
        return result

    def _store(self, change: Callable[[sqlite3.Connection], tuple[T, Freed]], new: Sequence[Extent]) -> T:
        """Make a change that adds new files. Delete them if S3 refuses it."""
        try:
            return self._change(change)
        except S3Error:
            # After another error, the next start compares the files with the rows: the disk may hold the change.
            self._files.free(extent.file for extent in new)
            raise

    def _delete(
        self, name: str, keys: Sequence[tuple[str, str | None]], condition: Condition
    ) -> builtins.list[Deleted]:
        now = self._clock()

        def change(connection: sqlite3.Connection) -> tuple[list[Deleted], Freed]:
            bucket = bucket_named(connection, name)
            done = [versions.delete(connection, bucket, key, version, condition, now) for key, version in keys]
            return [deleted for deleted, _ in done], [file for _, freed in done for file in freed]

        return self._change(change)

    def _expire_uploads(self, name: str, rules: Sequence[LifecycleRule], now: float) -> int:
        with self._database.reading() as connection:
            found = uploads.of_bucket(connection, name)
            due = [upload for upload in found if any(rule.aborts(upload, now) for rule in rules)]
        for upload in due:
            with contextlib.suppress(S3Error):
                self.abort(upload)
        return len(due)

    def _expire_versions(self, name: str, rules: Sequence[LifecycleRule], now: float) -> int:
        count = 0
        for prefix in prefixes_of(rules):
            expiry, page = Expiry(rules, now), self.versions(name, prefix)
            while True:
                count += self._expire_page(name, [version for version in page.objects if expiry.is_due(version)], now)
                if page.following is None or self._is_closed.is_set():
                    break
                page = self.versions(name, prefix, page.following, page.following_version)
        return count

    def _expire_page(self, name: str, due: Sequence[ObjectVersion], now: float) -> int:
        def change(connection: sqlite3.Connection) -> tuple[int, Freed]:
            bucket = bucket_named(connection, name)
            done = [versions.expire(connection, bucket, version, now) for version in due]
            expired = [freed for freed in done if freed is not None]
            return len(expired), [file for freed in expired for file in freed]

        return self._change(change) if due else 0


def _next_generation(connection: sqlite3.Connection) -> int:
    """Count the starts of the store."""
    if not connection.execute("UPDATE store SET generation = generation + 1").rowcount:
        connection.execute("INSERT INTO store VALUES (1)")
    generation: int = connection.execute("SELECT generation FROM store").fetchone()[0]
    return generation
