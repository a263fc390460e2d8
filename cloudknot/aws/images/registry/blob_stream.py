"""BlobStream: the content of a blob as a file, which resumes after a cut and checks its digest at the end."""

from __future__ import annotations

import hashlib
import io
import threading
from typing import TYPE_CHECKING

from cloudknot.aws.images.registry import refusals
from cloudknot.aws.images.registry.connections import InterruptedRequestError, translated
from cloudknot.aws.images.registry.session import RegistrySession
from cloudknot.errors import ImageError, ResourceDoesNotExistException

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from urllib3 import BaseHTTPResponse

BLOCK = 1 << 18
"""Most bytes of one read."""


class BlobStream(io.RawIOBase):
    """A blob in a registry, as a seekable file.

    Reading raises `ImageError` in place of the last bytes if the blob does not have its digest. A reader that seeks
    gets no such check.

    Parameters
    ----------
    session : RegistrySession
    repository, digest : str
    size : int
        The bytes of the blob.
    stop : Event, optional
        Ends a wait for the registry.
    """

    def __init__(
        self, session: RegistrySession, repository: str, digest: str, size: int, stop: threading.Event | None = None
    ) -> None:
        self._session, self._repository, self._digest, self._size = session, repository, digest, size
        self._path, self._scope = f"/v2/{repository}/blobs/{digest}", f"repository:{repository}:pull"
        self._patience = session.patience(stop)
        self._hash, self._hashed = hashlib.sha256(), 0
        self._position = 0
        self._answer: BaseHTTPResponse | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset != self._position:
            self._drop()
            self._position = base + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), BLOCK, self._size - self._position)
        if wanted <= 0:
            return 0
        block = self._next(wanted)
        self._check(block)
        view[: len(block)] = block
        self._position += len(block)
        return len(block)

    def close(self) -> None:
        self._drop()
        super().close()

    def _next(self, wanted: int) -> bytes:
        """Return some bytes from the current position. Opens the blob there again after a cut."""
        while True:
            try:
                self._answer = self._answer or self._begin()
                with translated(self._path):
                    block = self._answer.read(wanted)
                if not block:
                    raise InterruptedRequestError("it ended a blob too early")
                self._patience.progressed()
                return block
            except InterruptedRequestError as error:
                self._drop()
                self._patience.wait(refusals.no_answer(self._session.address, str(error)))

    def _begin(self) -> BaseHTTPResponse:
        start = self._position
        while True:
            headers = {"Range": f"bytes={start}-"} if start else {}
            answer = self._session.open("GET", self._path, self._scope, headers)
            if answer.status == 206 and answer.headers.get("content-range", "").startswith(f"bytes {start}-"):
                return answer
            if answer.status == 200:
                # Some registries ignore the range and send the blob from its beginning.
                self._skip(answer, start)
                return answer
            read = self._session.read(answer, self._path)
            if read.status == 404:
                raise ResourceDoesNotExistException(
                    f"{refusals.named(self._session.address)} has no blob {self._digest} in {self._repository}, "
                    "although an image names it. Build the image again, or use another one.",
                    code=read.code,
                )
            error = self._session.refused(read, self._path, self._scope)
            if read.status not in refusals.BUSY:
                raise error
            self._patience.wait(error, read.wait)

    def _skip(self, answer: BaseHTTPResponse, size: int) -> None:
        with translated(self._path):
            while size:
                block = answer.read(min(size, BLOCK))
                if not block:
                    raise InterruptedRequestError("it ended a blob too early")
                size -= len(block)

    def _check(self, block: bytes) -> None:
        """Add a block to the digest; raise `ImageError` if the blob ends with it and has another digest."""
        if self._hashed != self._position:
            return
        self._hash.update(block)
        self._hashed += len(block)
        if self._hashed == self._size and self._digest != f"sha256:{self._hash.hexdigest()}":
            raise ImageError(
                f"{refusals.named(self._session.address)} sent other bytes for the blob {self._digest} of "
                f"{self._repository} than the ones with this digest. Try again. If it fails again, use another "
                "registry: this one, or a proxy before it, has damaged the image."
            )

    def _drop(self) -> None:
        """Close the connection, which may have more bytes of the blob."""
        if self._answer is not None:
            self._answer.close()
            self._answer = None
