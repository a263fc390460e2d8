"""Read, write, list and delete the objects of a bucket. This module knows nothing of runs.

Every request goes through the `Door`, which retries it and translates its errors. Reads and uploads that the worker
needs as well are in `cloudknot.worker.s3`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from cloudknot.aws import clients
from cloudknot.aws.s3.bucket import Bucket
from cloudknot.aws.sdk import forks
from cloudknot.errors import (
    CloudError,
    PermissionDeniedError,
    ResourceDoesNotExistException,
    ResourceExistsException,
)
from cloudknot.worker.s3.range_file import AnswerBody, RangeFile, Span, span_of
from cloudknot.worker.s3.upload import ObjectName, Upload, encryption

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import (
        DeleteTypeDef,
        ListObjectsV2OutputTypeDef,
        ListObjectsV2RequestPaginateTypeDef,
    )

    from cloudknot.aws.door import Door
    from cloudknot.worker.wire.buffers import Pieces


BATCH = 1000
"""Most objects that one request may delete (S3 API reference, DeleteObjects)."""


class StoredObject(NamedTuple):
    """An object in a listing: its key, its size in bytes, and the time at which it was stored."""

    key: str
    size: int
    modified: datetime


class Storage:
    """The objects of one bucket.

    Parameters
    ----------
    door : Door
    bucket : str
        Name of the bucket.
    region : str
        The region for the bucket, if it has to be created.
    sse : {None, "AES256", "aws:kms"}
        Server-side encryption requested for each object. None leaves it to the bucket.
    has_default_name : bool, default False
        Whether the bucket has cloudknot's default name.
    is_foreign : bool, default False
        Whether the bucket belongs to another account, which the user has named.
    """

    def __init__(
        self,
        door: Door,
        bucket: str,
        region: str,
        *,
        sse: str | None = None,
        has_default_name: bool = False,
        is_foreign: bool = False,
    ) -> None:
        self._door, self.bucket, self.sse = door, bucket, sse
        self._s3 = clients.s3(door)
        self.bucket_itself = Bucket(
            door, bucket, region, sse=sse, has_default_name=has_default_name, is_foreign=is_foreign
        )
        self._encryption = encryption(sse)
        self._sse_header = {"x-amz-server-side-encryption": sse} if sse else {}
        self._ready = False
        self._lock = forks.renewed(threading.Lock())

    def ensure_bucket(self, tags: Mapping[str, str], prefix: str = "") -> None:
        """Create the bucket unless it exists, see `Bucket.ensure`. Further calls do nothing.

        Credentials that may list only ``prefix`` are enough for an existing bucket.
        """
        with self._lock:
            if not self._ready:
                try:
                    self.bucket_itself.ensure(tags)
                except PermissionDeniedError:
                    if not (prefix and self._may_list(prefix)):
                        raise
                self._ready = True

    def _may_list(self, prefix: str) -> bool:
        try:
            next(self.pages(prefix), None)
        except PermissionDeniedError:
            return False
        return True

    def put(self, key: str, body: bytes) -> None:
        """Store one object."""
        if self._put_quickly(self._name(key), [body], self._sse_header, {}) is None:
            self._s3.put_object(**self._name(key), **self._encryption, Body=body)

    def _put_quickly(
        self, name: ObjectName, body: Pieces, headers: Mapping[str, str], query: Mapping[str, str]
    ) -> str | None:
        return self._door.put_quickly(name["Bucket"], name["Key"], body, headers, query)

    def put_new(self, key: str, body: bytes) -> bool:
        """Store one object unless the key is taken. Return whether the stored object has this body."""
        try:
            self._s3.put_object(**self._name(key), **self._encryption, Body=body, IfNoneMatch="*")
        except ResourceExistsException:
            # If the answer to the first request was lost, its repetition finds this session's own object.
            return self.get(key) == body
        return True

    def _name(self, key: str) -> ObjectName:
        return {"Bucket": self.bucket, "Key": key}

    def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of an object from ``start`` up to ``end`` (exclusive), by default all of them.

        Raises
        ------
        ResourceDoesNotExistException
            No object has that key.
        """
        return self._range(key, start, end).readall()

    def fetch(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Return the same bytes as `get`, at a lower cost, for callers that read many small objects."""
        # botocore needs 2 to 4 ms of CPU for each GetObject, more than the request itself. A plain request avoids most
        # of that, and returns None whenever it is not certain of the answer.
        data = self._door.read_quickly(self.bucket, key, span_of(start, end))
        return self.get(key, start, end) if data is None else data

    def open(self, key: str, start: int = 0, end: int | None = None) -> BinaryIO:
        """Return the same bytes as `get`, as a file that downloads while it is read."""
        return self._range(key, start, end).buffered()

    def _range(self, key: str, start: int, end: int | None) -> RangeFile:
        def request(span: Span) -> AnswerBody:
            # botocore takes several copies of each byte, and a plain request none.
            body = self._door.open_quickly(self.bucket, key, span)
            if body is not None:
                return body
            try:
                return cast(AnswerBody, self._s3.get_object(**self._name(key), **span)["Body"])
            except PermissionDeniedError as error:
                found = self._missing_or(error, key)
                if found is error:
                    raise  # an error must not be its own cause
                raise found from error

        def persist(call: Callable[[], bytes | int]) -> bytes | int:
            return self._door.persist("s3", "get_object", call)

        return RangeFile(request, persist, start, end)

    def exists(self, key: str) -> bool:
        """Return whether an object has that key."""
        try:
            self._s3.head_object(**self._name(key))
        except ResourceDoesNotExistException:
            return False
        except PermissionDeniedError as error:
            if isinstance(self._missing_or(error, key), ResourceDoesNotExistException):
                return False
            raise
        return True

    def _missing_or(self, denial: PermissionDeniedError, key: str) -> CloudError:
        """Return the error for an object that does not exist, or else the denial."""
        # S3 denies the request for a missing object to callers who may list some prefixes only. A listing with the
        # prefix of that object decides. The object itself would be the first in it.
        with suppress(PermissionDeniedError):
            if next(self.keys(key), "") != key:
                return ResourceDoesNotExistException(
                    f"The object s3://{self.bucket}/{key} does not exist. If it belongs to a run, the run was "
                    "clobbered. Map again.",
                    code="NoSuchKey",
                    operation=denial.operation,
                )
        return denial

    def upload(self, key: str, pieces: Iterable[bytes]) -> int:
        """Store one object from pieces of any size, and return its size. At most a few parts are in memory."""
        with self.uploading(key) as upload:
            for piece in pieces:
                upload.write(piece)
        return upload.size

    def uploading(self, key: str) -> Upload:
        """Return a context manager that writes one object. The object is stored when the context ends."""
        return Upload(self._s3, self._name(key), self._encryption, put=self._put_quickly)

    def keys(self, prefix: str, after: str = "") -> Iterator[str]:
        """Yield the keys under a prefix that sort after ``after``, in S3's order, 1,000 for each request."""
        for page in self.pages(prefix, after):
            yield from (stored.key for stored in page)

    def pages(self, prefix: str, after: str = "") -> Iterator[list[StoredObject]]:
        """Yield the objects under a prefix that sort after ``after``, in S3's order, one page for each request."""
        for page in self._list({"Bucket": self.bucket, "Prefix": prefix, "StartAfter": after}):
            yield [StoredObject(item["Key"], item["Size"], item["LastModified"]) for item in page.get("Contents", ())]

    def folders(self, prefix: str) -> list[str]:
        """Return the names of the folders directly under ``prefix``, which ends in a slash."""
        return [
            item["Prefix"][len(prefix) : -1]
            for page in self._list({"Bucket": self.bucket, "Prefix": prefix, "Delimiter": "/"})
            for item in page.get("CommonPrefixes", ())
        ]

    def _list(self, arguments: ListObjectsV2RequestPaginateTypeDef) -> Iterator[ListObjectsV2OutputTypeDef]:
        # A bucket that does not exist yet has no objects.
        try:
            yield from self._s3.get_paginator("list_objects_v2").paginate(**arguments)
        except ResourceDoesNotExistException:
            return

    def delete(self, *keys: str) -> None:
        """Delete up to 1,000 objects. Keys without an object are ignored."""
        request: DeleteTypeDef = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        answer = self._s3.delete_objects(Bucket=self.bucket, Delete=request)
        # S3 reports keys that it could not delete in a successful answer. A single delete either works or raises.
        for failed in answer.get("Errors", ()):
            self._s3.delete_object(**self._name(failed["Key"]))

    def delete_prefix(self, prefix: str) -> None:
        """Delete every object under a prefix."""
        keys = self.keys(prefix)
        while batch := list(islice(keys, BATCH)):
            self.delete(*batch)
