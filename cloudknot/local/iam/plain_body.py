"""The body of an upload to S3 as it is sent, with or without a signed digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from cloudknot.local.iam.signing import Readable
from cloudknot.local.wsgi import ServiceError

MISMATCH = "XAmzContentSHA256Mismatch"
MESSAGE = "The provided 'x-amz-content-sha256' header does not match what was computed."


class PlainBody:
    """A body that is compared with its signed digest while it is read.

    Parameters
    ----------
    source : Readable
        The bytes as they arrive.
    length : int
        Bytes in the body.
    digest : str or None
        Its SHA-256. None if the signature does not cover the body.
    """

    trailers: Mapping[str, str] = {}
    """Such a body has none."""

    def __init__(self, source: Readable, length: int, digest: str | None) -> None:
        self._source, self._left, self._digest = source, length, digest
        self._hash = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        """Return ``size`` bytes, or fewer at the end of the body.

        Raises
        ------
        ServiceError
            These are the last bytes, and the body does not have its digest.
        """
        block = self._source.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(block)
        if self._digest is not None:
            self._hash.update(block)
            if not self._left and self._hash.hexdigest() != self._digest:
                raise ServiceError(MISMATCH, MESSAGE)
        return block
