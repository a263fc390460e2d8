"""Tell answers of AWS from those of other servers. Client and worker check every answer of S3 with it."""

from __future__ import annotations

from collections.abc import Iterable


def is_from_aws(headers: Iterable[str]) -> bool:
    """Return whether an answer with these names of headers is from AWS. Each answer names the id of its request."""
    # S3 sends x-amz-request-id, other services send x-amzn-RequestId.
    return any(name.lower().startswith("x-amz") for name in headers)
