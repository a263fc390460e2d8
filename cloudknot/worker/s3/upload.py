"""One object on its way to S3, stored while it is written: nothing is held but a few parts.

The client gives its door, the worker its own client. Both repeat what fails for a moment.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, TypedDict, cast

from ..wire.buffers import Buffer, Parts
from .limits import PART_SIZE
from .retries import code_of

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.literals import ServerSideEncryptionType
    from types_boto3_s3.type_defs import CompletedPartTypeDef

EQUAL_PARTS = 2000
"""Parts before they begin to grow; S3 takes 10,000 (S3 user guide, "Multipart upload limits")."""
GROWTH = 168 * 1024
"""Bytes by which each further part is larger: 10,000 parts are then more than S3's largest object, 5 TiB."""
AT_ONCE = 4
"""Parts that are sent at the same time."""


class ObjectName(TypedDict):
    """The arguments that name an object."""

    Bucket: str
    Key: str


class Encryption(TypedDict, total=False):
    """The argument that asks for server-side encryption; none leaves it to the bucket."""

    ServerSideEncryption: ServerSideEncryptionType


class _Condition(TypedDict, total=False):
    IfNoneMatch: str


def encryption(sse: str | None) -> Encryption:
    """Return the argument that asks for an encryption, None for the bucket's own."""
    return {"ServerSideEncryption": cast("ServerSideEncryptionType", sse)} if sse else {}


def part_size(number: int) -> int:
    """Return the bytes of the part of that number, from 0."""
    return PART_SIZE + GROWTH * max(0, number - EQUAL_PARTS)


class Upload:
    """A context: what is written in it is one object at its end, and nothing when it ends with an exception.

    An object of less than one part is a single request. Of what fails, no part stays behind.

    Parameters
    ----------
    s3 : boto3 client of S3, or what stands for it
        Repeats calls by itself.
    name : ObjectName
    encryption : Encryption
    only_new : bool
        Leave an object that is there already as it is, and raise S3's ``PreconditionFailed``.
    at_once : int
        Parts that are sent at the same time, each by a thread; with 1, the writer sends them itself, and no more than
        one is held.
    """

    def __init__(
        self, s3: S3Client, name: ObjectName, encryption: Encryption, *, only_new: bool = False, at_once: int = AT_ONCE
    ) -> None:
        self._s3, self._name, self._encryption, self._at_once = s3, name, encryption, at_once
        self._condition: _Condition = {"IfNoneMatch": "*"} if only_new else {}
        self._parts = Parts(part_size)
        self._id = ""
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="cloudknot-upload")
        self._sent: list[CompletedPartTypeDef] = []
        self._sending: deque[Future[CompletedPartTypeDef]] = deque()
        self.size = 0

    def __enter__(self) -> Upload:
        return self

    def write(self, data: Buffer) -> None:
        """Take the next bytes. Raises what storing earlier ones raised."""
        self.size += memoryview(data).nbytes
        for part in self._parts.cut(data):
            self._send(part)

    def _send(self, part: bytearray) -> None:
        if not self._id:
            self._id = self._s3.create_multipart_upload(**self._name, **self._encryption)["UploadId"]
        number = len(self._sent) + len(self._sending) + 1
        if self._at_once == 1:
            self._sent.append(self._send_part(number, part))
            return
        if len(self._sending) == self._at_once:
            self._sent.append(self._sending.popleft().result())
        self._sending.append(self._pool.submit(self._send_part, number, part))

    def _send_part(self, number: int, part: bytearray) -> CompletedPartTypeDef:
        # boto3 takes any bytes, and copies none.
        body = cast(bytes, part)
        answer = self._s3.upload_part(**self._name, UploadId=self._id, PartNumber=number, Body=body)
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._complete()
        except BaseException:
            self._abort()
            raise
        else:
            if error is not None:
                self._abort()
        finally:
            self._pool.shutdown(cancel_futures=True)

    def _complete(self) -> None:
        rest = self._parts.rest()
        if not self._id:
            self._s3.put_object(**self._name, **self._encryption, **self._condition, Body=bytes(rest))
            return
        if rest:
            self._send(rest)
        self._sent += [sending.result() for sending in self._sending]
        try:
            self._s3.complete_multipart_upload(
                **self._name, **self._condition, UploadId=self._id, MultipartUpload={"Parts": self._sent}
            )
        except Exception as error:
            # S3 no longer knows an upload that was completed before, by a request whose answer was lost.
            if code_of(error) != "NoSuchUpload" or not self._is_stored():
                raise

    def _is_stored(self) -> bool:
        """Return whether this upload's object is there; with a condition, whether any object of the name is.

        Another attempt may have stored one of another size meanwhile, and the condition lets the first one stay.
        """
        stored = self._stored_size()
        return stored is not None and (bool(self._condition) or stored == self.size)

    def _stored_size(self) -> int | None:
        """Return the bytes of the object; None when there is none."""
        try:
            return self._s3.head_object(**self._name)["ContentLength"]
        except Exception as error:
            # 403 where the caller may list nothing: it may read the key, so it is not there.
            if code_of(error) in ("403", "404"):
                return None
            raise

    def _abort(self) -> None:
        # A part that arrives afterwards would stay.
        self._pool.shutdown(cancel_futures=True)
        if self._id:
            # The error to report is the one before.
            with suppress(Exception):
                self._s3.abort_multipart_upload(**self._name, UploadId=self._id)
