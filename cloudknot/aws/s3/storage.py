"""The objects of a run's bucket, as the client reads and writes them. No knowledge of runs here.

Requests go through the door, so errors are those of our tree. `cloudknot.worker.s3` does what the worker does, too:
small reads, reads of a stream, uploads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from cloudknot.aws import clients
from cloudknot.aws.s3.bucket import Bucket
from cloudknot.errors import ResourceDoesNotExistException, ResourceExistsException
from cloudknot.worker.s3.range_file import RangeFile, Span, span_of
from cloudknot.worker.s3.upload import ObjectName, Upload, encryption

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from types_boto3_s3.type_defs import (
        DeleteTypeDef,
        ListObjectsV2OutputTypeDef,
        ListObjectsV2RequestPaginateTypeDef,
    )

    from cloudknot.aws.door import Door


BATCH = 1000
"""Objects that one request deletes at most."""


class StoredObject(NamedTuple):
    """An object in a listing: its key, its size in bytes, and when it was stored."""

    key: str
    size: int
    modified: datetime


class Storage:
    """One bucket.

    Parameters
    ----------
    door : Door
    bucket : str
    region : str
        Where the bucket is made, on first need.
    sse : {None, "AES256", "aws:kms"}
        Server-side encryption asked for with each object; None leaves it to the bucket.
    ours : bool
        Whether the bucket's name is cloudknot's default one.
    """

    def __init__(self, door: Door, bucket: str, region: str, *, sse: str | None = None, ours: bool = False) -> None:
        self._door, self.bucket, self.sse = door, bucket, sse
        self._s3 = clients.s3(door)
        self.bucket_itself = Bucket(door, bucket, region, sse=sse, ours=ours)
        self._encryption = encryption(sse)
        self._ready = False
        self._lock = threading.Lock()

    def ensure_bucket(self, tags: Mapping[str, str]) -> None:
        """Make the bucket unless it is there; see `Bucket.ensure`. After the first time this does nothing."""
        with self._lock:
            if not self._ready:
                self.bucket_itself.ensure(tags)
                self._ready = True

    def put(self, key: str, body: bytes) -> None:
        """Store one object."""
        self._s3.put_object(**self._name(key), **self._encryption, Body=body)

    def put_new(self, key: str, body: bytes) -> bool:
        """Store one object unless there is one of that key; whether this one is there now."""
        try:
            self._s3.put_object(**self._name(key), **self._encryption, Body=body, IfNoneMatch="*")
        except ResourceExistsException:
            # When the answer was lost, what is there already is our own.
            return self.get(key) == body
        return True

    def _name(self, key: str) -> ObjectName:
        return {"Bucket": self.bucket, "Key": key}

    def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Read bytes ``start`` to ``end`` (not included) of an object, by default all of it.

        Raises `ResourceDoesNotExistException` when there is none.
        """
        return self._range(key, start, end).readall()

    def fetch(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """The same, for whoever reads many: at less cost for each, and in memory at once."""
        data = self._door.read_quickly(self.bucket, key, span_of(start, end))
        return self.get(key, start, end) if data is None else data

    def open(self, key: str, start: int = 0, end: int | None = None) -> BinaryIO:
        """`get`, as a file that is read as it comes."""
        return self._range(key, start, end).buffered()

    def _range(self, key: str, start: int, end: int | None) -> RangeFile:
        def ask(span: Span) -> StreamingBody:
            return self._s3.get_object(**self._name(key), **span)["Body"]

        def persist(call: Callable[[], bytes]) -> bytes:
            return self._door.persist("s3", "get_object", call)

        return RangeFile(ask, persist, start, end)

    def exists(self, key: str) -> bool:
        """Whether there is an object of that key."""
        try:
            self._s3.head_object(**self._name(key))
        except ResourceDoesNotExistException:
            return False
        return True

    def upload(self, key: str, pieces: Iterable[bytes]) -> int:
        """Store one object from pieces of any size, holding no more than a few parts in memory; return its size."""
        with self.uploading(key) as upload:
            for piece in pieces:
                upload.write(piece)
        return upload.size

    def uploading(self, key: str) -> Upload:
        """A context in which one object is written, to be stored at its end."""
        return Upload(self._s3, self._name(key), self._encryption)

    def keys(self, prefix: str, after: str = "") -> Iterator[str]:
        """The keys under a prefix that sort behind ``after``, 1,000 a request, in S3's order."""
        for page in self.pages(prefix, after):
            yield from (each.key for each in page)

    def pages(self, prefix: str, after: str = "") -> Iterator[list[StoredObject]]:
        """The same in pages, one a request, with what the listing tells of each object."""
        for page in self._list({"Bucket": self.bucket, "Prefix": prefix, "StartAfter": after}):
            yield [StoredObject(item["Key"], item["Size"], item["LastModified"]) for item in page.get("Contents", ())]

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders directly under ``prefix`` (which ends in a slash)."""
        return [
            item["Prefix"][len(prefix) : -1]
            for page in self._list({"Bucket": self.bucket, "Prefix": prefix, "Delimiter": "/"})
            for item in page.get("CommonPrefixes", ())
        ]

    def _list(self, arguments: ListObjectsV2RequestPaginateTypeDef) -> Iterator[ListObjectsV2OutputTypeDef]:
        try:
            yield from self._s3.get_paginator("list_objects_v2").paginate(**arguments)
        except ResourceDoesNotExistException:
            return

    def delete(self, *keys: str) -> None:
        """Delete objects, up to 1,000; those that do not exist are none."""
        wanted: DeleteTypeDef = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        answer = self._s3.delete_objects(Bucket=self.bucket, Delete=wanted)
        # S3 reports keys that it could not delete in a successful answer.
        for failed in answer.get("Errors", ()):
            self._s3.delete_object(**self._name(failed["Key"]))

    def delete_prefix(self, prefix: str) -> None:
        """Delete every object under a prefix."""
        keys = self.keys(prefix)
        while batch := list(islice(keys, BATCH)):
            self.delete(*batch)
