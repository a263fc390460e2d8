"""Upload one object to S3 while it is written, with copies of only a few parts in memory.

The client passes its door, the worker its own client. Both retry calls that fail for a moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, TypedDict, cast

from ..wire.buffers import Buffer, Parts, Pieces
from .limits import PART_SIZE
from .retries import code_of

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.literals import ServerSideEncryptionType
    from types_boto3_s3.type_defs import CompletedPartTypeDef

# The size of the object is not known in advance, and S3 takes at most 10,000 parts (S3 user guide, "Multipart upload
# limits"). So parts begin to grow after some thousands. With this growth, 10,000 parts hold more than 5 TiB, the
# largest object of S3.
EQUAL_PARTS = 2000
"""Number of parts before they begin to grow."""
GROWTH = 168 * 1024
"""Bytes that each further part has more than the one before."""
_SSE = "x-amz-server-side-encryption"
PARALLEL_PARTS = 4
"""Number of parts that are sent at the same time."""


class ObjectName(TypedDict):
    """The arguments that name an object."""

    Bucket: str
    Key: str


class Encryption(TypedDict, total=False):
    """The argument that requests server-side encryption. Empty leaves it to the bucket."""

    ServerSideEncryption: ServerSideEncryptionType


class _Condition(TypedDict, total=False):
    IfNoneMatch: str


Put = Callable[["ObjectName", Pieces, Mapping[str, str], Mapping[str, str]], "str | None"]
"""Stores an object, or a part, with some headers and a query, and returns its ETag; None to leave it to boto3."""


def encryption(sse: str | None) -> Encryption:
    """Return the argument that requests an encryption. None leaves it to the bucket."""
    return {"ServerSideEncryption": cast("ServerSideEncryptionType", sse)} if sse else {}


def part_size(number: int) -> int:
    """Return the bytes of a part by its number, from 0."""
    return PART_SIZE + GROWTH * max(0, number - EQUAL_PARTS)


class Upload:
    """A context manager that stores its writes as one object when it ends, and nothing if it ends with an exception.

    An object smaller than one part takes a single request.

    Parameters
    ----------
    s3 : boto3 client of S3, or an object with the same methods
        It retries calls itself.
    name : ObjectName
    encryption : Encryption
    only_new : bool
        Keep an existing object of this name, and raise S3's ``PreconditionFailed``.
    parallel : int
        Number of parts that are sent at the same time, each by a thread. With 1, the writing thread sends them itself,
        and no more than one part is in memory.
    put : callable, optional
        Tried before boto3, which takes several times the CPU for each byte. Default: none.

    Attributes
    ----------
    size : int
        Bytes written so far.
    kept_other : bool
        Whether the key holds an object of another writer although no request was refused. Only with ``only_new``.
    """

    def __init__(
        self,
        s3: S3Client,
        name: ObjectName,
        encryption: Encryption,
        *,
        only_new: bool = False,
        parallel: int = PARALLEL_PARTS,
        put: Put = lambda name, body, headers, query: None,
    ) -> None:
        self._s3, self._name, self._encryption, self._parallel = s3, name, encryption, parallel
        self._put = put
        self._condition: _Condition = {"IfNoneMatch": "*"} if only_new else {}
        self._parts = Parts(part_size)
        self._id = ""
        self._pool = ThreadPoolExecutor(parallel, thread_name_prefix="cloudknot-upload")
        self._sent: list[CompletedPartTypeDef] = []
        self._sending: deque[Future[CompletedPartTypeDef]] = deque()
        self.size = 0
        self.kept_other = False

    def __enter__(self) -> Upload:
        return self

    def write(self, data: Buffer) -> None:
        """Add the next bytes, which may change afterwards. Raises the error of an earlier part, if one failed."""
        self._add(data, is_lasting=isinstance(data, bytes))

    def lend(self, data: Buffer) -> None:
        """Add the next bytes without a copy, as `write`. They must stay the same until this context ends."""
        self._add(data, is_lasting=True)

    def _add(self, data: Buffer, *, is_lasting: bool) -> None:
        self.size += memoryview(data).nbytes
        for part in self._parts.cut(data, is_lasting=is_lasting):
            self._send(part)

    def _send(self, part: Pieces) -> None:
        if not self._id:
            self._id = self._s3.create_multipart_upload(**self._name, **self._encryption)["UploadId"]
        number = len(self._sent) + len(self._sending) + 1
        if self._parallel == 1:
            self._sent.append(self._send_part(number, part))
            return
        if len(self._sending) == self._parallel:
            self._sent.append(self._sending.popleft().result())
        self._sending.append(self._pool.submit(self._send_part, number, part))

    def _send_part(self, number: int, part: Pieces) -> CompletedPartTypeDef:
        etag = self._put(self._name, part, {}, {"partNumber": str(number), "uploadId": self._id})
        if etag is not None:
            return {"PartNumber": number, "ETag": etag}
        # boto3 takes a bytearray too, without a copy.
        body = cast(bytes, part[0] if len(part) == 1 and isinstance(part[0], bytearray) else b"".join(part))
        answer = self._s3.upload_part(**self._name, UploadId=self._id, PartNumber=number, Body=body)
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._complete()
        except BaseException:
            # S3 keeps, and bills, the parts of an upload that is neither completed nor aborted.
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
            # boto3 answers a refused condition with an error, so it sends all of those.
            headers = {_SSE: sse} if (sse := self._encryption.get("ServerSideEncryption")) else {}
            if self._condition or self._put(self._name, rest, headers, {}) is None:
                self._s3.put_object(**self._name, **self._encryption, **self._condition, Body=b"".join(rest))
            return
        if rest:
            self._send(rest)
        self._sent += [sending.result() for sending in self._sending]
        try:
            self._s3.complete_multipart_upload(
                **self._name, **self._condition, UploadId=self._id, MultipartUpload={"Parts": self._sent}
            )
        except Exception as error:
            # An earlier request, its answer lost, may have completed the upload. S3 then no longer knows the upload.
            if code_of(error) != "NoSuchUpload" or not self._is_stored():
                raise

    def _is_stored(self) -> bool:
        """Return whether this upload's object is stored. With ``only_new``, any object of the name will do."""
        stored = self._stored_size()
        self.kept_other = bool(self._condition) and stored != self.size
        # With the condition, another attempt may have stored an object of another size first, and that one stays.
        return stored is not None and (bool(self._condition) or stored == self.size)

    def _stored_size(self) -> int | None:
        """Return the bytes of the stored object, or None if it does not exist."""
        try:
            return self._s3.head_object(**self._name)["ContentLength"]
        except Exception as error:
            # S3 answers 403 instead of 404 to callers without the right to list. They may read, so the key is missing.
            if code_of(error) in ("403", "404"):
                return None
            raise

    def _abort(self) -> None:
        # A part that arrives after the abort would stay.
        self._pool.shutdown(cancel_futures=True)
        if self._id:
            # The caller needs the first error, not that of the abort.
            with suppress(Exception):
                self._s3.abort_multipart_upload(**self._name, UploadId=self._id)
