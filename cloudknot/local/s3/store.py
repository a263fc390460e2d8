"""ObjectStore: the buckets and objects of the embedded cloud on the disk. It knows nothing of HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cloudknot.local import wsgi
from cloudknot.local.s3.records import (
    Condition,
    Deleted,
    MultipartUpload,
    ObjectPage,
    ObjectVersion,
    Properties,
    StoredBucket,
    UploadedPart,
    UploadPage,
    Usage,
)
from cloudknot.local.s3.storage.writer import ObjectWriter

ANY = Condition()
"""No condition."""


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
        raise NotImplementedError

    def close(self) -> None:
        """Close the database. Nothing that a method returned is lost without this."""
        raise NotImplementedError

    # Buckets

    def create_bucket(self, name: str, owner: str) -> StoredBucket:
        """Create a bucket. BucketAlreadyOwnedByYou or BucketAlreadyExists if there is one."""
        raise NotImplementedError

    def delete_bucket(self, name: str) -> None:
        """Delete an empty bucket with its configurations and unfinished uploads. Otherwise BucketNotEmpty."""
        raise NotImplementedError

    def bucket(self, name: str) -> StoredBucket:
        """Return a bucket. NoSuchBucket without it."""
        raise NotImplementedError

    def buckets(self) -> list[StoredBucket]:
        """Return all buckets by name."""
        raise NotImplementedError

    def set_versioning(self, name: str, versioning: str) -> None:
        """Set a bucket's versioning to ``Enabled`` or ``Suspended``."""
        raise NotImplementedError

    def configuration(self, bucket: str, kind: str) -> bytes | None:
        """Return a configuration document of a bucket, such as the kind ``lifecycle``, or None without one."""
        raise NotImplementedError

    def set_configuration(self, bucket: str, kind: str, document: bytes | None) -> None:
        """Store a configuration document, or delete it with None."""
        raise NotImplementedError

    # Objects

    def writer(self, length: int | None = None) -> ObjectWriter:
        """Return a writer for new data. OSError (ENOSPC) if the disk has no room for ``length`` bytes."""
        raise NotImplementedError

    def put(
        self,
        bucket: str,
        key: str,
        writer: ObjectWriter,
        properties: Properties,
        etag: str,
        condition: Condition = ANY,
    ) -> ObjectVersion:
        """Store what ``writer`` got as an object. It is on the disk when this returns."""
        raise NotImplementedError

    def copy(
        self,
        source: ObjectVersion,
        bucket: str,
        key: str,
        properties: Properties,
        condition: Condition = ANY,
    ) -> ObjectVersion:
        """Store a copy of a version, which shares its data files. The copy has the entity tag of its source."""
        raise NotImplementedError

    def get(self, bucket: str, key: str, version: str | None = None) -> ObjectVersion:
        """Return a version, by default the latest. It has the whole data of a small object in ``content``.

        NoSuchBucket, NoSuchKey, NoSuchVersion, or MethodNotAllowed for a delete marker. The error's ``marker``
        is the version of the delete marker.
        """
        raise NotImplementedError

    def segments(self, version: ObjectVersion, start: int, end: int) -> list[wsgi.Segment]:
        """Open the data of a larger object from ``start`` to before ``end``. The caller closes the files.

        SlowDown if the version was deleted after `get` and its files are gone: the client repeats its request.
        """
        raise NotImplementedError

    def set_tags(self, version: ObjectVersion, tags: Mapping[str, str]) -> None:
        """Replace the tags of a version. NoSuchVersion if it is gone."""
        raise NotImplementedError

    def list(
        self, bucket: str, prefix: str = "", after: str = "", delimiter: str = "", limit: int = 1000
    ) -> ObjectPage:
        """Return the latest versions after a key or prefix, in the order of UTF-8 bytes, without delete markers."""
        raise NotImplementedError

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
        raise NotImplementedError

    def delete(self, bucket: str, key: str, version: str | None = None, condition: Condition = ANY) -> Deleted:
        """Delete a version for good. Without one, do as the bucket's versioning demands. No error without the key."""
        raise NotImplementedError

    def delete_many(self, bucket: str, keys: Sequence[tuple[str, str | None]]) -> list[Deleted]:
        """Delete keys with their versions, as `delete` does, in one transaction."""
        raise NotImplementedError

    # Multipart uploads

    def create_upload(self, bucket: str, key: str, properties: Properties) -> MultipartUpload:
        """Begin a multipart upload."""
        raise NotImplementedError

    def upload(self, bucket: str, key: str, upload_id: str) -> MultipartUpload:
        """Return an upload in progress. NoSuchUpload without it."""
        raise NotImplementedError

    def put_part(
        self,
        upload: MultipartUpload,
        number: int,
        writer: ObjectWriter,
        etag: str,
        checksum: tuple[str, str] | None = None,
    ) -> UploadedPart:
        """Store a part, in place of an earlier one of that number. NoSuchUpload if the upload has ended."""
        raise NotImplementedError

    def copy_part(
        self, upload: MultipartUpload, number: int, source: ObjectVersion, start: int, end: int, etag: str
    ) -> UploadedPart:
        """Store a range of a version as a part. Large ranges share the source's data files."""
        raise NotImplementedError

    def parts(self, upload: MultipartUpload, after: int = 0, limit: int = 1000) -> Sequence[UploadedPart]:
        """Return the parts with numbers above ``after``, in their order. Ask for one more to see whether it ends."""
        raise NotImplementedError

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
        raise NotImplementedError

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
        raise NotImplementedError

    def abort(self, upload: MultipartUpload) -> None:
        """End an upload and delete its parts. NoSuchUpload if it has ended."""
        raise NotImplementedError

    # Upkeep

    def expire(self, now: float | None = None) -> int:
        """Do what the lifecycle rules of all buckets demand. Return the number of deletions."""
        raise NotImplementedError

    def usage(self) -> Usage:
        """Return the number of stored objects, and the bytes on the disk."""
        raise NotImplementedError
