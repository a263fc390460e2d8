"""BlobUpload: send one blob to a repository, in chunks, and go on after a cut where the registry stands."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import urlencode, urljoin

from cloudknot.aws.images.registry import refusals
from cloudknot.aws.images.registry.connections import InterruptedRequestError
from cloudknot.aws.images.registry.refusals import RegistryAnswer
from cloudknot.aws.images.registry.session import Body, RegistrySession
from cloudknot.errors import CloudknotError, ImageError, PermissionDeniedError

# ECR accepts parts from 5 to 20 MiB (Amazon ECR API reference, "UploadLayerPart"); the last one may be smaller.
CHUNK = 16 << 20
"""Bytes of one request. A cut costs as much at most, at a registry that reports where it stands."""
BLOCK = 1 << 16
"""Bytes that are read from the source at once."""
RESTARTS = 8
"""Most uploads of one blob from its beginning, at registries that lose a broken upload."""
LONG_TIMEOUT = 600.0
"""Seconds that a registry may take to check and store a finished blob of gigabytes."""

_NUMBER = re.compile(r"[0-9]{1,12}")
_REACHED = re.compile(r"(?:bytes[= ])?0-(\d+)")
# ECR's words for a chunk at another place than the one that it expects.
_EXPECTED = re.compile(rb"First byte of the layer part is \d+ instead of (\d+)")

Progress = Callable[[int], None]
"""Gets the number of bytes that went to the registry; negative for bytes that must be sent again."""


@dataclass(frozen=True)
class Blob:
    """A blob to upload.

    Attributes
    ----------
    digest : str
        ``"sha256:"`` and 64 hexadecimal digits.
    size : int
    open_stream : callable
        Returns a seekable binary stream at its beginning, which the upload closes.
    """

    digest: str
    size: int
    open_stream: Callable[[], BinaryIO]


class _LostUploadError(Exception):
    """The registry does not know the upload any more, or refuses its end. A new one may succeed."""

    def __init__(self, error: CloudknotError, *, may_succeed: bool = True) -> None:
        self.error, self.may_succeed = error, may_succeed


class BlobUpload:
    """The upload of one blob.

    Parameters
    ----------
    session : RegistrySession
    repository : str
    blob : Blob
    progress : callable, optional
    stop : Event, optional
        Ends the upload with `StoppedTransferError`.
    chunk : int, default 16 MiB
    """

    def __init__(
        self,
        session: RegistrySession,
        repository: str,
        blob: Blob,
        progress: Progress | None = None,
        stop: threading.Event | None = None,
        chunk: int = CHUNK,
    ) -> None:
        self._session, self._repository, self._blob, self._stop = session, repository, blob, stop
        self._scope = f"repository:{repository}:pull,push"
        self._progress = progress or (lambda size: None)
        self._patience, self._chunk = session.patience(stop), chunk
        self._location, self._offset, self._reported = "", 0, 0
        self._furthest, self._was_cut = 0, False

    def run(self, mount_from: str = "") -> None:
        """Upload the blob, or have the registry mount it from another of its repositories."""
        with closing(self._blob.open_stream()) as stream:
            self._stream = stream
            for left in reversed(range(RESTARTS)):
                try:
                    if self._begin(mount_from):
                        self._finish()
                    return
                except _LostUploadError as lost:
                    # Another session may have uploaded the same blob at the same time.
                    if self._is_there():
                        return
                    if not left or not lost.may_succeed:
                        raise lost.error from None
                    self._patience.wait(lost.error)
                mount_from = ""

    def _begin(self, mount_from: str) -> bool:
        """Begin a new upload; return False if the registry mounted the blob instead."""
        path = f"/v2/{self._repository}/blobs/uploads/"
        answer = None
        if mount_from:
            scope = f"{self._scope} repository:{mount_from}:pull"
            query = urlencode({"mount": self._blob.digest, "from": mount_from})
            try:
                answer = self._session.call("POST", f"{path}?{query}", scope, stop=self._stop)
            except PermissionDeniedError:
                # A person may write to one repository without a right to read the other.
                answer = None
        if answer is None or answer.status not in (201, 202):
            answer = self._session.call("POST", path, self._scope, stop=self._stop)
        if answer.status == 201 and mount_from:
            return False
        if answer.status != 202 or "location" not in answer.headers:
            raise self._session.refused(answer, path, self._scope)
        least = answer.headers.get("oci-chunk-min-length", "")
        self._chunk = max(self._chunk, int(least) if _NUMBER.fullmatch(least) else 0)
        self._location = urljoin(f"{self._session.url}{path}", answer.headers["location"])
        self._offset = self._furthest = 0
        return True

    def _finish(self) -> None:
        """Send the rest of the blob, and have the registry store it."""
        whole = self._blob.size <= self._chunk
        while True:
            while not whole and self._offset < self._blob.size:
                self._send_chunk()
            if self._store(whole=whole):
                return
            if whole:
                # A new upload is simpler than the rest of one chunk.
                raise _LostUploadError(refusals.no_answer(self._session.address, "it did not confirm an upload"))
            self._resume()

    def _send_chunk(self) -> None:
        start, end = self._offset, min(self._offset + self._chunk, self._blob.size)
        headers = {"Content-Range": f"{start}-{end - 1}", **_sized(end - start)}
        answer = self._try("PATCH", self._location, headers, lambda: self._bytes(start, end))
        if answer is None:
            self._was_cut = True
            self._resume()
        # ECR answers with 201, and its Range stays at the end of the first chunk. So only the status counts.
        elif answer.status in (200, 201, 202, 204):
            self._go_on(answer, end)
        elif answer.status == 416 and (reached := self._reached(answer)) is not None:
            self._patience.wait(self._session.refused(answer, self._location, self._scope))
            # "0-0" is nothing or one byte. A registry that refuses the first byte has it.
            self._go_on(answer, 1 if start == reached == 0 else reached)
        else:
            self._give_up(answer)

    def _store(self, *, whole: bool) -> bool:
        """Finish the upload with the digest, and return whether the registry has the blob now.

        ``whole`` sends the blob in the same request.
        """
        address = f"{self._location}{'&' if '?' in self._location else '?'}{urlencode({'digest': self._blob.digest})}"
        size = self._blob.size if whole else 0
        body: Body = (lambda: self._bytes(0, size)) if whole else b""
        answer = self._try("PUT", address, _sized(size), body, LONG_TIMEOUT)
        if answer is None:
            # Only the answer may be lost, and the blob stored.
            return self._is_there()
        if answer.status not in (200, 201, 204):
            self._give_up(answer)
        return True

    def _try(
        self, method: str, address: str, headers: dict[str, str], body: Body, timeout: float | None = None
    ) -> RegistryAnswer | None:
        """Make one attempt of a request; wait and return None if it failed for now."""
        try:
            answer = self._session.attempt(method, address, self._scope, headers, body, timeout)
        except InterruptedRequestError as error:
            self._patience.wait(refusals.no_answer(self._session.address, str(error)))
            return None
        if answer.status not in refusals.BUSY or answer.is_full:
            return answer
        self._patience.wait(self._session.refused(answer, address, self._scope), answer.wait)
        return None

    def _resume(self) -> None:
        """Ask the registry for its place in the upload. Without an answer, the last chunk is sent again."""
        answer = self._session.call("GET", self._location, self._scope, stop=self._stop)
        reached = self._reached(answer)
        if answer.status in (200, 204) and reached is not None:
            self._go_on(answer, reached)
        elif answer.code.startswith("BLOB_UPLOAD"):
            self._give_up(answer)

    def _reached(self, answer: RegistryAnswer) -> int | None:
        """Return the number of bytes that the registry has; None if the answer does not contain it."""
        expected = _EXPECTED.search(answer.body)
        match = _REACHED.fullmatch(answer.headers.get("range", ""))
        if expected:
            reached = int(expected[1])
        elif match:
            # "0-0" is the registry's way to write that it has nothing yet.
            reached = int(match[1]) + 1 if int(match[1]) else 0
        else:
            return None
        return reached if reached <= self._blob.size else None

    def _go_on(self, answer: RegistryAnswer, offset: int) -> None:
        """Continue from an offset that the registry has reached, at the address that it names."""
        self._location = urljoin(self._location, answer.headers.get("location", self._location))
        self._offset = offset
        # A registry that takes a chunk and forgets it makes no progress.
        if offset > self._furthest:
            self._furthest = offset
            self._patience.progressed()

    def _give_up(self, answer: RegistryAnswer) -> None:
        """Raise the error for a refusal; `_LostUploadError` if a new upload may succeed."""
        error: CloudknotError = self._session.refused(answer, self._location, self._scope)
        if answer.code == "DIGEST_INVALID":
            error = ImageError(
                f"The registry {self._session.address} received other bytes than those with the digest "
                f"{self._blob.digest}: {answer.message.rstrip('.')}. Try again."
            )
            # The same bytes again would have the same digest, unless a cut or a proxy changed them on the way.
            raise _LostUploadError(error, may_succeed=self._was_cut)
        if answer.status in (400, 404, 409, 416):
            raise _LostUploadError(error)
        raise error

    def _is_there(self) -> bool:
        path = f"/v2/{self._repository}/blobs/{self._blob.digest}"
        return self._session.call("HEAD", path, self._scope, stop=self._stop).status == 200

    def _bytes(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the blocks of a part of the blob, and report them as progress."""
        self._progress_to(start)
        self._stream.seek(start)
        while start < end:
            self._patience.check()
            block = self._stream.read(min(BLOCK, end - start))
            if not block:
                raise ImageError(
                    f"The blob {self._blob.digest} ended after {start} of {self._blob.size} bytes: its file was "
                    "changed while it was uploaded. Call again."
                )
            began = time.monotonic()
            yield block
            # On a slow line, one chunk takes minutes. They are no reason to give up after a cut.
            self._patience.excuse(time.monotonic() - began)
            start += len(block)
            self._progress_to(start)

    def _progress_to(self, position: int) -> None:
        if position != self._reported:
            self._progress(position - self._reported)
            self._reported = position


def _sized(size: int) -> dict[str, str]:
    """Return the headers of a body whose length is known."""
    return {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
