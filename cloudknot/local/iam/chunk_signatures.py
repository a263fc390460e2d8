"""The signatures of the chunks and the trailers of one body. Each covers the one before."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from cloudknot.local.iam.signing import ALGORITHM, EMPTY, AccessKey, SignedClaim, signing_key
from cloudknot.local.wsgi import ServiceError


class ChunkSignatures:
    """The expected signatures, in order.

    Parameters
    ----------
    claim : SignedClaim
        The signature of the head, which the first chunk's signature covers.
    key : AccessKey
    """

    def __init__(self, claim: SignedClaim, key: AccessKey) -> None:
        self._claim, self._key = claim, signing_key(claim, key)
        self._last = claim.signature
        self._hash = hashlib.sha256()

    def add(self, data: bytes) -> None:
        """Add data to the current chunk."""
        self._hash.update(data)

    def check_chunk(self, signature: str) -> None:
        """End the current chunk. Raise `ServiceError` if it does not have this signature."""
        self._check("PAYLOAD", f"{EMPTY}\n{self._hash.hexdigest()}", signature)
        self._hash = hashlib.sha256()

    def check_trailers(self, trailers: Mapping[str, str], signature: str) -> None:
        """Raise `ServiceError` if the trailers do not have this signature."""
        lines = "".join(f"{name}:{value}\n" for name, value in sorted(trailers.items()))
        self._check("TRAILER", hashlib.sha256(lines.encode()).hexdigest(), signature)

    def _check(self, kind: str, digests: str, signature: str) -> None:
        claim = self._claim
        text = f"{ALGORITHM}-{kind}\n{claim.timestamp}\n{claim.scope}\n{self._last}\n{digests}"
        self._last = hmac.digest(self._key, text.encode(), "sha256").hex()
        if not hmac.compare_digest(self._last, signature):
            message = (
                "The request signature we calculated does not match the signature you provided. "
                "Check your key and signing method."
            )
            raise ServiceError("SignatureDoesNotMatch", message, 403)
