"""The bucket's objects: small reads and writes, a streamed upload, listings."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from cloudknot.aws.s3.bucket import Bucket
from cloudknot.aws.s3.upload import Upload
from cloudknot.errors import ResourceDoesNotExistException, ResourceExistsException
from cloudknot.worker.s3.range_file import RangeFile, span_of

if TYPE_CHECKING:
    from cloudknot.aws.door import Door


class StoredObject(NamedTuple):
    """What a listing tells of an object: its key, its size in bytes, and when it was stored."""

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
        self.bucket_itself = Bucket(door, bucket, region, sse=sse, ours=ours)
        self._encryption = {"ServerSideEncryption": sse} if sse else {}
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
        self._door.call("s3", "put_object", Bucket=self.bucket, Key=key, Body=body, **self._encryption)

    def put_new(self, key: str, body: bytes) -> bool:
        """Store one object unless there is one of that key; whether this one is there now."""
        where = {"Bucket": self.bucket, "Key": key, **self._encryption}
        try:
            self._door.call("s3", "put_object", **where, Body=body, IfNoneMatch="*")
        except ResourceExistsException:
            # When the answer was lost, what is there already is our own.
            return self.get(key) == body
        return True

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
        where = {"Bucket": self.bucket, "Key": key}
        return RangeFile(
            lambda span: self._door.call("s3", "get_object", **where, **span)["Body"],
            lambda call: self._door.persist("s3", "get_object", call),
            start,
            end,
        )

    def exists(self, key: str) -> bool:
        """Whether there is an object of that key."""
        try:
            self._door.call("s3", "head_object", Bucket=self.bucket, Key=key)
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
        return Upload(self._door, {"Bucket": self.bucket, "Key": key}, self._encryption)

    def keys(self, prefix: str, after: str = "") -> Iterator[str]:
        """The keys under a prefix that sort behind ``after``, 1,000 a request, in S3's order."""
        for page in self.pages(prefix, after):
            yield from (each.key for each in page)

    def pages(self, prefix: str, after: str = "") -> Iterator[list[StoredObject]]:
        """The same in pages, one a request, with what the listing tells of each object."""
        for page in self._list(Prefix=prefix, StartAfter=after):
            yield [StoredObject(item["Key"], item["Size"], item["LastModified"]) for item in page.get("Contents", ())]

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders directly under ``prefix`` (which ends in a slash)."""
        return [
            item["Prefix"][len(prefix) : -1]
            for page in self._list(Prefix=prefix, Delimiter="/")
            for item in page.get("CommonPrefixes", ())
        ]

    def _list(self, **arguments: Any) -> Iterator[dict[str, Any]]:
        try:
            yield from self._door.pages("s3", "list_objects_v2", Bucket=self.bucket, **arguments)
        except ResourceDoesNotExistException:
            return

    def delete(self, *keys: str) -> None:
        """Delete objects, up to 1,000; those that do not exist are none."""
        self._delete([{"Key": key} for key in keys])

    def delete_prefix(self, prefix: str) -> None:
        """Delete every object under a prefix."""
        batch: list[dict[str, str]] = []
        for key in self.keys(prefix):
            batch.append({"Key": key})
            if len(batch) == 1000:
                self._delete(batch)
                batch = []
        if batch:
            self._delete(batch)

    def _delete(self, batch: list[dict[str, str]]) -> None:
        """Delete up to 1,000 objects. What S3 could not delete, it names in an answer that is none of failure."""
        answer = self._door.call("s3", "delete_objects", Bucket=self.bucket, Delete={"Objects": batch, "Quiet": True})
        for failed in answer.get("Errors", ()):
            self._door.call("s3", "delete_object", Bucket=self.bucket, Key=failed["Key"])
