"""One object on its way to S3, stored while it is written: nothing is held but a few parts."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from cloudknot.errors import CloudError, CloudknotError, ResourceDoesNotExistException
from cloudknot.worker.wire.buffers import Buffer, Parts

if TYPE_CHECKING:
    from cloudknot.aws.door import Door

PART_SIZE = 8 * 1024 * 1024
"""Bytes; S3 takes at least 5 MiB a part and 10,000 parts (S3 user guide, "Multipart upload limits")."""
EQUAL_PARTS = 2000
"""Parts before they begin to grow."""
GROWTH = 160 * 1024
"""Bytes by which each further part is larger: 10,000 parts are then more than S3's largest object, 5 TiB."""
AT_ONCE = 4
"""Parts that are sent at the same time."""


def part_size(number: int) -> int:
    """Bytes of the part of that number, from 0."""
    return PART_SIZE + GROWTH * max(0, number - EQUAL_PARTS)


class Upload:
    """A context: what is written in it is one object at its end, and nothing when it ends with an exception.

    An object of less than one part is a single request. Of what fails, no part stays behind.

    Parameters
    ----------
    door : Door
    where : mapping
        Bucket and Key.
    encryption : mapping
        Arguments that ask for server-side encryption.
    """

    def __init__(self, door: Door, where: Mapping[str, str], encryption: Mapping[str, str]) -> None:
        self._door, self._where, self._encryption = door, dict(where), dict(encryption)
        self._parts = Parts(part_size)
        self._upload: dict[str, str] = {}
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="cloudknot-upload")
        self._sent: list[dict[str, Any]] = []
        self._sending: deque[Future[dict[str, Any]]] = deque()
        self.size = 0

    def __enter__(self) -> Upload:
        return self

    def write(self, data: Buffer) -> None:
        """Take the next bytes. Raises what storing earlier ones raised."""
        self.size += len(data)
        for part in self._parts.cut(data):
            self._send(part)

    def _send(self, part: bytearray) -> None:
        if not self._upload:
            begun = self._door.call("s3", "create_multipart_upload", **self._where, **self._encryption)
            self._upload = {**self._where, "UploadId": begun["UploadId"]}
        if len(self._sending) == AT_ONCE:
            self._sent.append(self._sending.popleft().result())
        number = len(self._sent) + len(self._sending) + 1
        self._sending.append(self._pool.submit(self._send_part, number, part))

    def _send_part(self, number: int, part: bytearray) -> dict[str, Any]:
        answer = self._door.call("s3", "upload_part", **self._upload, PartNumber=number, Body=part)
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
        if not self._upload:
            self._door.call("s3", "put_object", **self._where, **self._encryption, Body=bytes(rest))
            return
        if rest:
            self._send(rest)
        self._sent += [sending.result() for sending in self._sending]
        try:
            self._door.call("s3", "complete_multipart_upload", **self._upload, MultipartUpload={"Parts": self._sent})
        except CloudError as error:
            # S3 no longer knows an upload that was completed before, by a request whose answer was lost.
            if error.code != "NoSuchUpload" or self._stored_size() != self.size:
                raise

    def _stored_size(self) -> int | None:
        """Bytes of the object; None when there is none."""
        try:
            return int(self._door.call("s3", "head_object", **self._where)["ContentLength"])
        except ResourceDoesNotExistException:
            return None

    def _abort(self) -> None:
        # A part that arrives afterwards would stay.
        self._pool.shutdown(cancel_futures=True)
        if self._upload:
            with suppress(CloudknotError):
                self._door.call("s3", "abort_multipart_upload", **self._upload)
