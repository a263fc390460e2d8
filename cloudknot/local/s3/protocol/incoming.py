"""Incoming: the body of a request, which is read once, in blocks."""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from collections.abc import Iterator, Mapping
from wsgiref.types import WSGIEnvironment

from cloudknot.local.s3.errors import S3Error
from cloudknot.local.s3.protocol.checksums import PREFIX, Checksum, Hash, announced, check_form, encoded, new_hash
from cloudknot.local.s3.storage.writer import ObjectWriter
from cloudknot.local.wsgi import BLOCK, BODY_LENGTH

LONGEST_DOCUMENT = 4 * 1024 * 1024
"""Bytes. A list of 10,000 parts with their checksums has two megabytes."""
LARGEST_UPLOAD = 5 * 1024**3
"""Bytes in the body of a request (Amazon S3 user guide, "Amazon S3 multipart upload limits")."""
MD5_LIMIT = 1024 * 1024
"""Bytes. Larger objects have no MD5 in their entity tag, unless the client sends it: MD5 would halve the speed."""


class Incoming:
    """The body of a request.

    Parameters
    ----------
    environ : WSGI variables
        ``wsgi.input`` raises `ServiceError` at the end of a body that is not the signed one.

    Attributes
    ----------
    length : int
        Bytes.
    """

    def __init__(self, environ: WSGIEnvironment) -> None:
        self._input = environ["wsgi.input"]
        self.length = int(environ.get(BODY_LENGTH, environ.get("CONTENT_LENGTH")) or 0)

    def document(self) -> bytes:
        """Return a body that is a document."""
        if self.length > LONGEST_DOCUMENT:
            raise S3Error("MaxMessageLengthExceeded", message="Your request was too big.")
        return b"".join(self._blocks())

    def receive(
        self, writer: ObjectWriter, headers: Mapping[str, str], asked: str = ""
    ) -> tuple[str, Checksum | None]:
        """Write the body, and verify its checksums. Return the entity tag, and the checksum if there is one.

        ``asked`` is the algorithm of a checksum that is computed even if the request announces none.
        """
        if self.length > LARGEST_UPLOAD:
            raise S3Error("EntityTooLarge")
        algorithm, expected = announced(headers) or (asked, None)
        if expected is not None:
            check_form(algorithm, expected)
        checksum = new_hash(algorithm) if algorithm else None
        md5 = _md5(headers.get("content-md5"))
        digest = hashlib.md5(usedforsecurity=False) if md5 or self.length <= MD5_LIMIT else None
        hashes: list[Hash] = [each for each in (checksum, digest) if each is not None]
        for block in self._blocks():
            for each in hashes:
                each.update(block)
            writer.write(block)
        if md5 and digest and digest.digest() != md5:
            raise S3Error("BadDigest", message="The Content-MD5 you specified did not match what we received.")
        etag = digest.hexdigest() if digest else new_etag(1)
        return etag, None if checksum is None else self._verified((algorithm, encoded(checksum.digest())), expected)

    def _verified(self, computed: Checksum, expected: str | None) -> Checksum:
        """Return a checksum, or raise an error if the client sent another one before or behind the body."""
        name = PREFIX + computed[0].lower()
        expected = expected or getattr(self._input, "trailers", {}).get(name)
        if expected not in (None, computed[1]):
            raise S3Error(
                "BadDigest", message=f"The {computed[0]} you specified did not match the calculated checksum."
            )
        return computed

    def _blocks(self) -> Iterator[bytes]:
        while block := self._input.read(BLOCK):
            yield block


def new_etag(parts: int) -> str:
    """Return an entity tag in the form of those of multipart uploads, which no client takes for an MD5."""
    return f"{secrets.token_hex(16)}-{parts}"


def _md5(header: str | None) -> bytes:
    """Return the digest in a header ``Content-MD5``, or nothing without one."""
    if header is None:
        return b""
    try:
        digest = base64.b64decode(header, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != hashlib.md5(usedforsecurity=False).digest_size:
        raise S3Error("InvalidDigest", message="The Content-MD5 you specified is not valid.")
    return digest
