"""The bucket's objects: small reads and writes, a streamed upload, listings."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from cloudknot.aws.bucket import Bucket
from cloudknot.errors import CloudError, CloudknotError, ResourceDoesNotExistException, ResourceExistsException

if TYPE_CHECKING:
    from cloudknot.aws.door import Door

PART_SIZE = 8 * 1024 * 1024
"""Bytes; S3 takes at least 5 MiB a part and 10,000 parts (S3 user guide, "Multipart upload limits")."""
READ_SIZE = 256 * 1024
"""Bytes of an answer that are read at a time."""


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
        self._bucket = Bucket(door, bucket, region, sse=sse, ours=ours)
        self._encryption = {"ServerSideEncryption": sse} if sse else {}
        self._ready = False
        self._lock = threading.Lock()

    def ensure_bucket(self, tags: Mapping[str, str]) -> None:
        """Make the bucket unless it is there; see `Bucket.ensure`. After the first time this does nothing."""
        with self._lock:
            if not self._ready:
                self._bucket.ensure(tags)
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
        return self._body(key, start, end).readall()

    def open(self, key: str, start: int = 0, end: int | None = None) -> BinaryIO:
        """`get`, as a file that is read as it comes."""
        return cast(BinaryIO, io.BufferedReader(self._body(key, start, end), READ_SIZE))

    def _body(self, key: str, start: int, end: int | None) -> _Body:
        return _Body(self._door, {"Bucket": self.bucket, "Key": key}, start, end)

    def exists(self, key: str) -> bool:
        """Whether there is an object of that key."""
        try:
            self._door.call("s3", "head_object", Bucket=self.bucket, Key=key)
        except ResourceDoesNotExistException:
            return False
        return True

    def upload(self, key: str, pieces: Iterable[bytes]) -> int:
        """Store one object from pieces of any size, holding no more than a part in memory; return its size.

        An object of less than one part is a single request. What fails is aborted, so that no part stays behind.
        """
        parts = _regroup(pieces, PART_SIZE)
        first = next(parts, b"")
        second = next(parts, None)
        if second is None:
            self.put(key, first)
            return len(first)
        return self._upload_parts(key, _chain(first, second, parts))

    def _upload_parts(self, key: str, parts: Iterator[bytes]) -> int:
        where = {"Bucket": self.bucket, "Key": key}
        begun = self._door.call("s3", "create_multipart_upload", **where, **self._encryption)
        upload = {**where, "UploadId": begun["UploadId"]}
        size, done = 0, []
        try:
            for number, part in enumerate(parts, start=1):
                answer = self._door.call("s3", "upload_part", **upload, PartNumber=number, Body=part)
                done.append({"PartNumber": number, "ETag": answer["ETag"]})
                size += len(part)
        except BaseException:
            with suppress(CloudknotError):
                self._door.call("s3", "abort_multipart_upload", **upload)
            raise
        self._complete(upload, done, size)
        return size

    def _complete(self, upload: dict[str, str], parts: list[dict[str, Any]], size: int) -> None:
        """Have an upload's parts made one object. S3 no longer knows the upload when that has been done before."""
        try:
            self._door.call("s3", "complete_multipart_upload", **upload, MultipartUpload={"Parts": parts})
        except CloudError as error:
            if error.code != "NoSuchUpload" or self._size(upload["Key"]) != size:
                raise

    def _size(self, key: str) -> int | None:
        """Bytes of an object; None when there is none."""
        try:
            return int(self._door.call("s3", "head_object", Bucket=self.bucket, Key=key)["ContentLength"])
        except ResourceDoesNotExistException:
            return None

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


class _Body(io.RawIOBase):
    """Bytes ``start`` to ``end`` of an object as a file. Where an answer breaks off, another one goes on."""

    def __init__(self, door: Door, where: Mapping[str, str], start: int, end: int | None) -> None:
        self._door, self._where, self._position, self._end = door, where, start, end
        self._body: Any = self._ask()

    def _ask(self) -> Any:
        """The answer that begins at the first byte that has not been read."""
        start, end = self._position, self._end
        span = {} if start == 0 and end is None else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        return self._door.call("s3", "get_object", **self._where, **span)["Body"]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._read(min(len(buffer), READ_SIZE))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return self._read(None)

    def _read(self, size: int | None) -> bytes:
        return self._door.persist("s3", "get_object", lambda: self._read_on(size))

    def _read_on(self, size: int | None) -> bytes:
        if self._body is None:
            self._body = self._ask()
        body, self._body = self._body, None
        data: bytes = body.read(size)
        self._body, self._position = body, self._position + len(data)
        return data

    def close(self) -> None:
        if self._body is not None:
            self._body.close()
        super().close()


def _chain(first: bytes, second: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield second
    yield from rest


def _regroup(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Join pieces until they make at least ``size`` bytes."""
    held: list[bytes] = []
    length = 0
    for piece in pieces:
        held.append(piece)
        length += len(piece)
        if length >= size:
            yield b"".join(held)
            held, length = [], 0
    if held:
        yield b"".join(held)
